/**
 * `<roost-grid>`: the nodes as squares, by group; the picture a wrangler keeps on the wall.
 *
 * Each square is a link, so the keyboard, a middle click and a screen reader find what they expect.
 * A node of several groups is in each of them. Coloured by state, or as heat by a share: of load
 * by CPUs, of CPUs in use, or of memory in use. What was chosen is remembered by the browser.
 */

import { Drawing, counted, element } from "./drawing.js";
import { store, storedObject } from "./stored.js";

const REMEMBERED = "roost-grid";
const COLOURS = { state: "State", load: "Load", cpus: "CPUs in use", memory: "Memory in use" };
const SIZES = { small: "Small", medium: "Medium", large: "Large" };

/** @typedef {{id: number, label: string, state: string, word: string, load: number, cpus: number,
 *             cpus_busy: number, memory_kb: number, memory_used_kb: number, groups: number[]}} Square */

class RoostGrid extends Drawing {
  /** @type {Square[]} */
  #squares = [];
  /** @type {Map<number, string>} */
  #groupNames = new Map();
  /** @type {Map<string, HTMLAnchorElement>} */
  #links = new Map();
  #colourBy = element("select");
  #size = element("select");
  #summary = element("span", "roost-muted");
  #sections = element("div", "roost-grid-sections");

  get source() {
    return "/drawings/nodes";
  }

  build() {
    const bar = element("div", "roost-drawing-bar");
    fill(this.#colourBy, COLOURS);
    fill(this.#size, SIZES);
    this.#summary.setAttribute("role", "status");
    this.#sections.dataset.ownKeys = "";
    bar.append(labelled("Colour by", this.#colourBy), labelled("Size", this.#size), this.#summary);
    this.append(bar, this.#sections);
    /** @type {{colour?: string, size?: string}} */
    const { colour = "state", size = "medium" } = storedObject(REMEMBERED, {});
    this.#colourBy.value = colour in COLOURS ? colour : "state";
    this.#size.value = size in SIZES ? size : "medium";
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    const on = { signal };
    for (const choice of [this.#colourBy, this.#size]) {
      choice.addEventListener(
        "change",
        () => {
          store(REMEMBERED, JSON.stringify({ colour: this.#colourBy.value, size: this.#size.value }));
          this.redraw();
        },
        on,
      );
    }
    for (const name of ["pointerover", "focusin"]) {
      this.#sections.addEventListener(name, (event) => this.#tell(event.target), on);
    }
    for (const name of ["pointerleave", "focusout"]) {
      this.#sections.addEventListener(name, () => this.hideTip(), on);
    }
    this.#sections.addEventListener("keydown", (event) => this.#key(event), on);
  }

  /** @param {{nodes: Square[], groups: {id: number, name: string}[]}} data */
  receive({ nodes, groups }) {
    this.#squares = nodes;
    this.#groupNames = new Map(groups.map(({ id, name }) => [id, name]));
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (const { word } of nodes) counts.set(word, (counts.get(word) ?? 0) + 1);
    const words = [...counts].map(([word, count]) => `${count.toLocaleString()} ${word}`);
    this.#summary.textContent = nodes.length
      ? `${counted(nodes.length, "client")}: ${words.join(", ")}`
      : "No client has joined yet. Start an agent on a machine: roost agent.";
  }

  draw() {
    this.#sections.dataset.size = this.#size.value;
    const sections = this.#byGroup().map(([name, squares]) => {
      const section = this.#section(name);
      const list = /** @type {HTMLElement} */ (section.lastElementChild);
      const links = squares.map((square) => this.#link(name, square));
      reordered(list, links);
      return section;
    });
    reordered(this.#sections, sections);
    for (const [key, link] of this.#links) if (!link.isConnected) this.#links.delete(key);
  }

  /** @returns {[string, Square[]][]} */
  #byGroup() {
    /** @type {Map<string, Square[]>} */
    const found = new Map([...this.#groupNames.values()].sort().map((name) => [name, []]));
    const without = [];
    for (const square of this.#squares) {
      if (!square.groups.length) without.push(square);
      for (const id of square.groups) found.get(this.#groupNames.get(id) ?? "")?.push(square);
    }
    const groups = [...found].filter(([, squares]) => squares.length);
    if (without.length) groups.push([groups.length ? "No group" : "All clients", without]);
    return groups;
  }

  /** @param {string} name */
  #section(name) {
    const sections = /** @type {HTMLElement[]} */ ([...this.#sections.children]);
    const present = sections.find((section) => section.dataset.group === name);
    if (present) return present;
    const section = element("section");
    section.dataset.group = name;
    section.append(element("h2", "roost-grid-name", name), element("div", "roost-grid-squares"));
    return section;
  }

  /** @param {string} group @param {Square} square */
  #link(group, square) {
    const key = `${square.id} ${group}`;
    let link = this.#links.get(key);
    if (!link) {
      link = element("a", "roost-square");
      link.href = `/nodes/${square.id}`;
      link.dataset.id = String(square.id);
      this.#links.set(key, link);
    }
    const by = this.#colourBy.value;
    const share = by === "state" ? square.cpus_busy / Math.max(1, square.cpus) : this.#heat(by, square);
    link.dataset.state = square.state;
    link.classList.toggle("is-heat", by !== "state");
    link.style.setProperty("--share", `${Math.round(Math.min(1, share) * 100)}%`);
    const label = `${square.label}, ${square.word}`;
    if (link.getAttribute("aria-label") !== label) {
      link.setAttribute("aria-label", label);
      link.replaceChildren(element("span", "", square.label));
    }
    return link;
  }

  /** @param {string} by @param {Square} square */
  #heat(by, { load, cpus, cpus_busy, memory_kb, memory_used_kb }) {
    if (by === "load") return load / Math.max(1, cpus);
    return by === "cpus" ? cpus_busy / Math.max(1, cpus) : memory_used_kb / Math.max(1, memory_kb);
  }

  /** @param {EventTarget | null} target */
  #tell(target) {
    const link = /** @type {Element} */ (target).closest("a");
    const square = this.#squares.find(({ id }) => String(id) === link?.dataset.id);
    if (!link || !square) {
      this.hideTip();
      return;
    }
    const groups = square.groups.map((id) => this.#groupNames.get(id) ?? "").join(", ");
    const [used, all] = [square.memory_used_kb, square.memory_kb].map((kb) => (kb / 1_048_576).toFixed(1));
    const memory = square.memory_kb ? ` · memory ${square.memory_used_kb ? `${used} of ` : ""}${all} GB` : "";
    const lines = [
      square.label,
      square.word,
      `${square.cpus_busy} of ${counted(square.cpus, "CPU")} in use`,
      `load ${square.load.toFixed(2)}${memory}`,
      groups && `Groups: ${groups}`,
    ];
    const { left, bottom } = link.getBoundingClientRect();
    this.showTip(lines, left, bottom - 12);
  }

  /** Arrows move as they do among words of a text. @param {KeyboardEvent} event */
  #key(event) {
    const links = [...this.#sections.querySelectorAll("a")];
    const at = links.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    /** @type {HTMLAnchorElement | undefined} */
    let goal;
    if (event.key === "ArrowRight") goal = links[at + 1];
    else if (event.key === "ArrowLeft") goal = links[at - 1];
    else if (event.key === "ArrowDown") goal = nextRow(links, at, 1);
    else if (event.key === "ArrowUp") goal = nextRow(links, at, -1);
    else return;
    event.preventDefault();
    goal?.focus();
  }
}

/**
 * The nearest one in the row below (1) or above (-1).
 * @param {HTMLAnchorElement[]} links
 * @param {number} at
 * @param {1 | -1} step
 */
function nextRow(links, at, step) {
  const here = links[at].getBoundingClientRect();
  /** @type {number | undefined} */
  let row;
  let [best, distance] = [links[at], Infinity];
  for (let i = at + step; links[i]; i += step) {
    const { top, left } = links[i].getBoundingClientRect();
    if (Math.abs(top - here.top) < 2) continue;
    row ??= top;
    if (Math.abs(top - row) > 2) break;
    const away = Math.abs(left - here.left);
    if (away < distance) [best, distance] = [links[i], away];
  }
  return best;
}

/**
 * Make these the children, moving only what is not in its place.
 * @param {Element} parent
 * @param {Element[]} children
 */
function reordered(parent, children) {
  children.forEach((child, i) => {
    if (parent.children[i] !== child) parent.insertBefore(child, parent.children[i] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild?.remove();
}

/** @param {HTMLSelectElement} select @param {Record<string, string>} choices */
function fill(select, choices) {
  select.className = "roost-choice";
  select.append(...Object.entries(choices).map(([value, text]) => new Option(text, value)));
}

/** @param {string} text @param {HTMLElement} control */
function labelled(text, control) {
  const label = element("label", "", `${text} `);
  label.append(control);
  return label;
}

customElements.define("roost-grid", RoostGrid);
