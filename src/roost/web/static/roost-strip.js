/**
 * `<roost-strip job="42">`: the children of a job as cells in their order, to see and to select.
 *
 * When there are more children than there is room for, each column stands for several of them: the
 * worst status at the bottom, as high as its share, the others on top of it. Selecting works with
 * the mouse (drag, Shift, Ctrl), with the keyboard as in a list, and by the words of the legend.
 * Tells the document with a `roost-selection` event, `detail.jobs` being the ids in their order,
 * `detail.statuses` how many there are of each status; a `roost-cleared` event takes the selection away.
 */

import { Drawing, button, counted, duration, element } from "./drawing.js";

const HEIGHT = 34;
const CELL_WIDTH_MIN = 3;
const CELL_WIDTH_MAX = 18;
const MARK_WIDTH_MIN = 8;
const SHARE_MIN = 5;
const FACTS_PAUSE_MS = 80;
const FACTS_MAX = 500;

/** The worst first. */
const SEVERITY = [
  "failed",
  "abandoned",
  "cancelled",
  "ejecting",
  "paused",
  "running",
  "runnable",
  "queued",
  "succeeded",
];

let made = 0;

/** @typedef {{id: number, name: string, status: string, nodes: string[], started_at: number | null,
 *             ended_at: number | null}} Facts */

class RoostStrip extends Drawing {
  static observedAttributes = ["job"];

  /** @type {number[]} */
  #ids = [];
  #letters = "";
  /** @type {Record<string, [word: string, tone: string]>} */
  #legend = {};
  /** @type {Set<number>} */
  #selected = new Set();
  /** Positions among the children. */
  #active = 0;
  #anchor = 0;
  /** @type {Set<number> | null} */
  #before = null;
  /** @type {Map<string, Facts>} */
  #facts = new Map();
  #factsTimer = 0;
  #canvas = element("canvas");
  #list = element("div", "roost-strip-list");
  #option = element("div", "roost-hidden");
  #words = element("div", "roost-legend");

  get source() {
    const job = this.getAttribute("job");
    return job ? `/drawings/jobs/${encodeURIComponent(job)}/children` : "";
  }

  /** Ids of the selected children, in their order. */
  get selection() {
    return this.#ids.filter((id) => this.#selected.has(id));
  }

  clearSelection() {
    this.#select([]);
  }

  build() {
    this.#list.tabIndex = 0;
    this.#list.dataset.ownKeys = "";
    this.#list.setAttribute("role", "listbox");
    this.#list.setAttribute("aria-multiselectable", "true");
    this.#list.setAttribute("aria-orientation", "horizontal");
    this.#option.setAttribute("role", "option");
    this.#option.id = `roost-strip-${++made}`;
    this.#list.setAttribute("aria-activedescendant", this.#option.id);
    this.#list.append(this.#canvas, this.#option);
    this.append(this.#list, this.#words);
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    const on = { signal };
    this.#list.addEventListener("keydown", (event) => this.#key(event), on);
    this.#list.addEventListener("focus", () => this.redraw(), on);
    this.#list.addEventListener(
      "blur",
      () => {
        this.hideTip();
        this.redraw();
      },
      on,
    );
    this.#canvas.addEventListener("pointerdown", (event) => this.#press(event), on);
    this.#canvas.addEventListener("pointermove", (event) => this.#move(event), on);
    this.#canvas.addEventListener("pointerup", () => this.#release(), on);
    this.#canvas.addEventListener("pointercancel", () => this.#release(), on);
    this.#canvas.addEventListener("pointerleave", () => this.#leave(), on);
    this.#canvas.addEventListener("dblclick", () => this.#open(), on);
    document.addEventListener("roost-cleared", () => this.#selected.size && this.clearSelection(), on);
    signal.addEventListener("abort", () => clearTimeout(this.#factsTimer));
  }

  /** @param {{ids: number[], statuses: string, legend: Record<string, [string, string]>}} data */
  receive({ ids, statuses, legend }) {
    [this.#ids, this.#letters, this.#legend] = [ids, statuses, legend];
    this.#active = Math.min(this.#active, Math.max(0, ids.length - 1));
    const known = new Set(ids);
    const kept = [...this.#selected].filter((id) => known.has(id));
    if (kept.length < this.#selected.size) this.#select(kept);
    this.#tellCounts();
    this.#tellActive();
  }

  /** @param {number} at */
  #word(at) {
    return this.#legend[this.#letters[at]]?.[0] ?? "";
  }

  /** @param {number} at */
  #tone(at) {
    return this.#legend[this.#letters[at]]?.[1] ?? "queued";
  }

  /**
   * How many of a stretch have each status, by the word of it or by how it is drawn.
   * @param {number} start
   * @param {number} end
   * @param {0 | 1} which
   */
  #counts(start, end, which) {
    /** @type {Map<string, number>} */
    const counts = new Map();
    for (let at = start; at < end; at++) {
      const key = this.#legend[this.#letters[at]]?.[which] ?? "";
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  }

  // --- layout ------------------------------------------------------------------------------------

  /** How wide the strip is, and how many columns it has. */
  get #layout() {
    const width = Math.max(1, Math.floor(this.#list.clientWidth));
    const count = this.#ids.length;
    const columns = Math.min(count, Math.max(1, Math.floor(width / CELL_WIDTH_MIN)));
    const columnWidth = columns ? Math.min(width / columns, CELL_WIDTH_MAX) : 0;
    return { width, columns, columnWidth };
  }

  /**
   * The children of a column: from `start` up to `end`.
   * @param {number} column
   * @param {number} columns
   */
  #stretch(column, columns) {
    const share = this.#ids.length / columns;
    return { start: Math.round(column * share), end: Math.round((column + 1) * share) };
  }

  /** @param {number} at @param {number} columns */
  #columnOf(at, columns) {
    let column = Math.min(columns - 1, Math.floor((at * columns) / this.#ids.length));
    while (column > 0 && this.#stretch(column, columns).start > at) column--;
    while (this.#stretch(column, columns).end <= at) column++;
    return column;
  }

  /**
   * The column at a place in the window, or -1.
   * @param {PointerEvent} event
   * @param {boolean} within
   */
  #columnAt(event, within = true) {
    const { columns, columnWidth } = this.#layout;
    const column = Math.floor((event.clientX - this.#canvas.getBoundingClientRect().left) / columnWidth);
    if (within && (column < 0 || column >= columns)) return -1;
    return Math.max(0, Math.min(column, columns - 1));
  }

  // --- drawing -----------------------------------------------------------------------------------

  draw() {
    const { width, columns, columnWidth } = this.#layout;
    const pen = this.surface(this.#canvas, width, HEIGHT);
    const isFolded = columns < this.#ids.length;
    const gap = columnWidth >= 4 ? 1 : 0;
    for (let column = 0; column < columns; column++) {
      const left = column * columnWidth;
      const { start, end } = this.#stretch(column, columns);
      if (isFolded) this.#drawColumn(pen, left, columnWidth - gap, start, end);
      else this.#drawCell(pen, left, columnWidth - gap, this.#tone(start));
    }
    this.#drawSelection(pen, columns, columnWidth);
    if (this.#list.matches(":focus-visible") && columns) {
      const left = this.#columnOf(this.#active, columns) * columnWidth;
      pen.strokeStyle = this.colour("--text", "#000");
      pen.lineWidth = 2;
      pen.strokeRect(left - 0.5, 1, Math.max(columnWidth, 3) + 1 - gap, HEIGHT - 2);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {number} left
   * @param {number} width
   * @param {number} start
   * @param {number} end
   */
  #drawColumn(pen, left, width, start, end) {
    const counts = this.#counts(start, end, 1);
    let bottom = HEIGHT - 5;
    let room = bottom - 4;
    let rest = end - start;
    for (const tone of SEVERITY) {
      const count = counts.get(tone);
      if (!count) continue;
      // A single failure among many must be seen.
      const height = count === rest ? room : Math.min(room, Math.max(SHARE_MIN, (room * count) / rest));
      this.#fill(pen, tone, [left, bottom - height, width, height]);
      bottom -= height;
      room -= height;
      rest -= count;
    }
  }

  /**
   * A rectangle in the colour of a status; what waits is pale.
   * @param {CanvasRenderingContext2D} pen
   * @param {string} tone
   * @param {[number, number, number, number]} place
   */
  #fill(pen, tone, place) {
    pen.globalAlpha = tone === "runnable" || tone === "queued" ? 0.45 : 1;
    pen.fillStyle = this.colour(`--fill-${tone}`, `var(--status-${tone})`);
    pen.fillRect(...place);
    pen.globalAlpha = 1;
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {number} left
   * @param {number} width
   * @param {string} tone
   */
  #drawCell(pen, left, width, tone) {
    const [top, height] = [4, HEIGHT - 9];
    this.#fill(pen, tone, [left, top, width, height]);
    if (width < MARK_WIDTH_MIN) return;
    // A mark as well, for those who do not see the colours.
    const middle = [left + width / 2, top + height / 2];
    const size = Math.min(width / 2 - 2, 4);
    pen.strokeStyle = this.colour("--ground", "#fff");
    pen.lineWidth = 1.5;
    pen.beginPath();
    for (const [x1, y1, x2, y2] of MARKS[tone] ?? []) {
      pen.moveTo(middle[0] + x1 * size, middle[1] + y1 * size);
      pen.lineTo(middle[0] + x2 * size, middle[1] + y2 * size);
    }
    pen.stroke();
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} columns @param {number} columnWidth */
  #drawSelection(pen, columns, columnWidth) {
    if (!this.#selected.size) return;
    pen.fillStyle = this.colour("--accent", "#00f");
    for (let column = 0; column < columns; column++) {
      const { start, end } = this.#stretch(column, columns);
      for (let at = start; at < end; at++) {
        if (this.#selected.has(this.#ids[at])) {
          const left = column * columnWidth;
          pen.fillRect(left, 0, columnWidth, 3);
          pen.fillRect(left, HEIGHT - 4, columnWidth, 3);
          break;
        }
      }
    }
  }

  // --- words -------------------------------------------------------------------------------------

  #tellCounts() {
    const counts = this.#counts(0, this.#ids.length, 0);
    const tones = new Map(Object.values(this.#legend));
    const order = (/** @type {string} */ word) => SEVERITY.indexOf(tones.get(word) ?? "");
    const words = [...counts].sort(([a], [b]) => order(a) - order(b));
    const told = words.map(([word, count]) => `${count.toLocaleString()} ${word}`).join(", ");
    const total = counted(this.#ids.length, "child").replace("childs", "children");
    this.#list.setAttribute("aria-label", told ? `${total}: ${told}` : "No children");
    if (!words.length) {
      this.#words.replaceChildren(element("span", "roost-muted", "This job has no children."));
      return;
    }
    const buttons = words.map(([word, count]) => {
      const one = button(`${count.toLocaleString()} ${word}`, `Select those that are ${word}`);
      one.classList.add("roost-legend-word");
      one.dataset.tone = tones.get(word) ?? "";
      one.addEventListener("click", () => this.#selectWord(word));
      return one;
    });
    // A focused button stays: the words are replaced when they differ only.
    const same = [...this.#words.children].map((child) => child.textContent).join();
    if (same !== buttons.map((child) => child.textContent).join()) this.#words.replaceChildren(...buttons);
  }

  /** @param {string} word */
  #selectWord(word) {
    this.#select(this.#ids.filter((_, at) => this.#word(at) === word));
  }

  /** Tell which child the keyboard is at. */
  #tellActive() {
    const id = this.#ids[this.#active];
    if (id === undefined) return;
    const name = this.#facts.get(`${id}${this.#letters[this.#active]}`)?.name ?? `Job ${id}`;
    this.#option.textContent = `${name}, ${this.#word(this.#active)}`;
    this.#option.setAttribute("aria-selected", String(this.#selected.has(id)));
    this.#option.setAttribute("aria-posinset", String(this.#active + 1));
    this.#option.setAttribute("aria-setsize", String(this.#ids.length));
  }

  /** @param {number} column @param {number} x @param {number} y */
  #tipOf(column, x, y) {
    const { columns } = this.#layout;
    const { start, end } = this.#stretch(column, columns);
    clearTimeout(this.#factsTimer);
    if (end - start > 1) {
      const counts = this.#counts(start, end, 0);
      const lines = [...counts].map(([word, count]) => `${count.toLocaleString()} ${word}`);
      this.showTip([`Children ${start + 1} to ${end}`, ...lines], x, y);
      return;
    }
    const key = `${this.#ids[start]}${this.#letters[start]}`;
    const facts = this.#facts.get(key);
    this.showTip(facts ? linesOf(facts) : [`Job ${this.#ids[start]}`, this.#word(start)], x, y);
    if (facts) return;
    this.#factsTimer = setTimeout(async () => {
      await this.#fetchFacts(start);
      const found = this.#facts.get(key);
      if (found) this.showTip(linesOf(found), x, y);
      this.#tellActive();
    }, FACTS_PAUSE_MS);
  }

  /** @param {number} at */
  async #fetchFacts(at) {
    // The neighbours as well: the pointer is about to get there.
    const ids = this.#ids.slice(Math.max(0, at - 10), at + 11);
    const response = await fetch(`/drawings/jobs?ids=${ids}`).catch(() => null);
    if (!response?.ok) return;
    if (this.#facts.size > FACTS_MAX) this.#facts.clear();
    const letters = Object.entries(this.#legend);
    for (const facts of /** @type {Facts[]} */ (await response.json())) {
      const letter = letters.find(([, [word]]) => word === facts.status)?.[0] ?? "";
      this.#facts.set(`${facts.id}${letter}`, facts);
    }
  }

  // --- selecting ---------------------------------------------------------------------------------

  /** @param {Iterable<number>} ids */
  #select(ids) {
    this.#selected = new Set(ids);
    this.#tellActive();
    this.redraw();
    /** @type {Record<string, number>} */
    const statuses = {};
    this.#ids.forEach((id, at) => {
      if (this.#selected.has(id)) statuses[this.#word(at)] = (statuses[this.#word(at)] ?? 0) + 1;
    });
    const detail = { jobs: this.selection, statuses };
    this.dispatchEvent(new CustomEvent("roost-selection", { bubbles: true, detail }));
  }

  /**
   * Select from the anchor to a child, and what `before` holds.
   * @param {number} at
   * @param {Set<number>} [before]
   */
  #selectTo(at, before = new Set()) {
    const { columns } = this.#layout;
    const [low, high] = [Math.min(at, this.#anchor), Math.max(at, this.#anchor)];
    const { start } = this.#stretch(this.#columnOf(low, columns), columns);
    const { end } = this.#stretch(this.#columnOf(high, columns), columns);
    this.#select([...before, ...this.#ids.slice(start, end)]);
  }

  /** @param {PointerEvent} event */
  #press(event) {
    const column = this.#columnAt(event);
    if (column < 0 || event.button) return;
    const at = this.#stretch(column, this.#layout.columns).start;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#before = event.ctrlKey || event.metaKey ? new Set(this.#selected) : new Set();
    if (!event.shiftKey) this.#anchor = at;
    this.#active = at;
    const isOnly = this.#selected.size === 1 && this.#selected.has(this.#ids[at]);
    if ((event.ctrlKey || event.metaKey) && this.#selected.has(this.#ids[at])) {
      this.#before = null;
      this.#selected.delete(this.#ids[at]);
      this.#select(this.#selected);
    } else if (isOnly && !event.shiftKey) {
      this.#before = null;
      this.#select([]);
    } else this.#selectTo(at, this.#before);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const column = this.#columnAt(event, !this.#before);
    if (column < 0) {
      this.hideTip();
      return;
    }
    if (this.#before && event.buttons) {
      const at = this.#stretch(column, this.#layout.columns).start;
      if (at !== this.#active) {
        this.#active = at;
        this.#selectTo(at, this.#before);
      }
    }
    this.#tipOf(column, event.clientX, event.clientY);
  }

  #release() {
    this.#before = null;
  }

  #leave() {
    clearTimeout(this.#factsTimer);
    this.hideTip();
  }

  #open() {
    const id = this.#ids[this.#active];
    if (id !== undefined) location.assign(`/jobs/${id}`);
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    const count = this.#ids.length;
    if (!count || event.altKey) return;
    const { columns } = this.#layout;
    const column = this.#columnOf(this.#active, columns);
    /** @type {Record<string, number>} */
    const goals = {
      ArrowLeft: column - 1,
      ArrowUp: column - 1,
      ArrowRight: column + 1,
      ArrowDown: column + 1,
      Home: 0,
      End: columns - 1,
      PageUp: column - 10,
      PageDown: column + 10,
    };
    const goal = goals[event.key];
    if (goal !== undefined) {
      this.#active = this.#stretch(Math.max(0, Math.min(goal, columns - 1)), columns).start;
      if (event.shiftKey) this.#selectTo(this.#active);
      else {
        this.#anchor = this.#active;
        this.#tellActive();
        this.redraw();
      }
      const { left, bottom } = this.#canvas.getBoundingClientRect();
      const reached = this.#columnOf(this.#active, columns);
      this.#tipOf(reached, left + reached * this.#layout.columnWidth, bottom - 16);
    } else if (event.key === " " || event.key === "x") this.#toggle(column);
    else if ((event.key === "a" || event.key === "A") && (event.ctrlKey || event.metaKey)) {
      this.#select(this.#ids);
    } else if (event.key === "Escape" && this.#selected.size) this.#select([]);
    else if (event.key === "Enter" || event.key === "o") this.#open();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** @param {number} column */
  #toggle(column) {
    const { start, end } = this.#stretch(column, this.#layout.columns);
    const ids = this.#ids.slice(start, end);
    const selected = new Set(this.#selected);
    const isOn = ids.every((id) => selected.has(id));
    for (const id of ids) isOn ? selected.delete(id) : selected.add(id);
    this.#anchor = start;
    this.#select(selected);
  }
}

/** Lines of the mark of a status, between -1 and 1. @type {Record<string, number[][]>} */
const MARKS = {
  failed: [
    [-1, -1, 1, 1],
    [-1, 1, 1, -1],
  ],
  abandoned: [[-1, 1, 1, -1]],
  cancelled: [[-1, -1, 1, 1]],
  ejecting: [
    [-1, 0, 1, 0],
    [0, -1, 1, 0],
    [0, 1, 1, 0],
  ],
  paused: [
    [-0.5, -1, -0.5, 1],
    [0.5, -1, 0.5, 1],
  ],
  succeeded: [
    [-1, 0, -0.3, 0.8],
    [-0.3, 0.8, 1, -0.8],
  ],
};

/** @param {Facts} facts */
function linesOf({ name, status, nodes, started_at, ended_at }) {
  const took = started_at ? duration((ended_at ?? Date.now()) - started_at) : "";
  return [name, status, nodes.length ? `on ${nodes[nodes.length - 1]}` : "", took && `took ${took}`];
}

customElements.define("roost-strip", RoostStrip);
