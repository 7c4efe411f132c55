// <roost-keys>: shortcuts, and the list of them. Each is also a control that can be seen.

import { toggleGlance } from "./glance.js";
import { togglePause } from "./live.js";
import { refresh } from "./morph.js";
import { RoostSelect } from "./select.js";
import { nextTheme } from "./switch.js";

const HELP = [
  ["?", "this list"],
  ["/", "search"],
  ["g j, g n, g h", "jobs, clients, home"],
  ["j k, ↓ ↑", "move in a list"],
  ["Enter, o", "open"],
  ["x, Shift + ↓ ↑", "select, extend"],
  ["a", "select the page; again: all matching"],
  ["l", "output of the row"],
  ["e", "why it waits or failed"],
  ["p", "pause or resume; of clients: drain or enable"],
  ["Shift + C, R, D", "cancel, reschedule, delete or remove: asks first"],
  ["u", "undo what was just done"],
  ["f, n, N", "in an output: follow, next, previous match"],
  ["m, M, i", "in an output: next, previous error; when lines came"],
  ["r", "refresh"],
  [".", "pause live updates"],
  ["t", "light, dark, as the system"],
  ["Esc", "close, clear the selection"],
];
const PLACES = { j: "/jobs", n: "/nodes", h: "/", g: "/groups", s: "/statistics", a: "/activity" };

class RoostKeys extends HTMLElement {
  connectedCallback() {
    this.isGoing = false;
    document.addEventListener("keydown", (event) => this.pressed(event));
    document.addEventListener("click", (event) => {
      if (/** @type {Element} */ (event.target).closest("[data-keys-help]")) this.help();
    });
  }

  get rows() {
    return /** @type {HTMLTableRowElement[]} */ ([...document.querySelectorAll("main tbody tr[data-id]")]);
  }

  get row() {
    return /** @type {HTMLTableRowElement | null} */ (document.querySelector("main tr.at"));
  }

  get selection() {
    return /** @type {RoostSelect | null} */ (document.querySelector("roost-select"));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") return this.escape(target);
    if (target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
    if (document.querySelector("dialog[open]")) return;
    if (this.isGoing) {
      this.isGoing = false;
      const place = PLACES[/** @type {keyof typeof PLACES} */ (event.key)];
      if (place) location.href = document.querySelector(`.pages a[href^="${place}"]`)?.getAttribute("href") ?? place;
      return;
    }
    if (this.act(event, target)) event.preventDefault();
  }

  /** @param {KeyboardEvent} event @param {HTMLElement} target @returns {boolean} */
  act(event, target) {
    const onControl = Boolean(target.closest("a, button, summary, [data-own-keys]"));
    switch (event.key) {
      case "?":
        this.help();
        return true;
      case "/":
        /** @type {HTMLElement | null} */ (document.querySelector("[data-key=search]"))?.focus();
        return true;
      case "g":
        this.isGoing = true;
        return true;
      case "r":
        refresh({ whole: true }).catch(() => {});
        return true;
      case ".":
        togglePause();
        return true;
      case "t":
        nextTheme();
        return true;
      case "j":
      case "k":
        return this.move(event.key === "j" ? 1 : -1, false);
      case "ArrowDown":
      case "ArrowUp":
        if (target.closest("[data-own-keys]")) return false;
        return this.move(event.key === "ArrowDown" ? 1 : -1, event.shiftKey);
      case "Enter":
        if (onControl) return false;
        return this.follow(`a.job-link, a[href]`);
      case "o":
        return this.follow(`a.job-link, a[href]`);
      case "x": {
        const box = /** @type {HTMLInputElement | null} */ (this.row?.querySelector("input[name=ids]"));
        if (box) this.selection?.toggle(box);
        return Boolean(box);
      }
      case "a":
        this.selection?.pickAll();
        return Boolean(this.selection);
      case "l":
        if (!this.row || !this.row.id.startsWith("job-")) return false;
        location.href = `/jobs/${this.row.dataset.id}/output`;
        return true;
      case "e": {
        const button = this.row?.querySelector("[data-glance]");
        if (button instanceof HTMLElement) toggleGlance(button);
        return Boolean(button);
      }
      case "p":
        return ["pause", "resume", "drain", "enable"].some((action) => this.press(action));
      case "C":
        return this.press("cancel");
      case "R":
        return this.press("reschedule_failed") || this.press("reschedule");
      case "D":
        return this.press("delete") || this.press("remove");
      case "u": {
        const button = document.querySelector("[data-undo]");
        if (button instanceof HTMLElement && button.offsetParent !== null) button.click();
        return button instanceof HTMLElement;
      }
    }
    return false;
  }

  /** The button of an action, for what is selected or else for the row. @param {string} action */
  press(action) {
    const box = /** @type {HTMLInputElement | null} */ (this.row?.querySelector("input[name=ids]"));
    if (this.selection?.isEmpty && box) this.selection.toggle(box);
    const buttons = /** @type {NodeListOf<HTMLButtonElement>} */ (
      document.querySelectorAll(`button[name=action][value=${action}]`)
    );
    for (const button of buttons) {
      if (!button.disabled && button.offsetParent !== null) {
        button.click();
        return true;
      }
    }
    return false;
  }

  /** @param {number} step @param {boolean} extend */
  move(step, extend) {
    const rows = this.rows;
    if (!rows.length) return false;
    const at = this.row ? rows.indexOf(this.row) : step > 0 ? -1 : rows.length;
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (!next) return false;
    if (extend) {
      for (const row of [this.row, next]) {
        const box = /** @type {HTMLInputElement | null | undefined} */ (row?.querySelector("input[name=ids]"));
        if (box && !box.checked) this.selection?.toggle(box);
      }
    }
    this.row?.classList.remove("at");
    next.classList.add("at");
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    return true;
  }

  /** @param {string} selector */
  follow(selector) {
    const link = /** @type {HTMLAnchorElement | null | undefined} */ (this.row?.querySelector(selector));
    if (link) location.href = link.href;
    return Boolean(link);
  }

  /** @param {HTMLElement} target */
  escape(target) {
    if (document.querySelector("dialog[open]")) return;
    const menu = document.querySelector("details.menu[open]");
    if (menu) menu.removeAttribute("open");
    else if (target.matches("input, textarea, select")) target.blur();
    else this.selection?.clear();
  }

  help() {
    const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("dialog"));
    const box = document.createElement("section");
    box.className = "keys";
    const title = document.createElement("h1");
    title.textContent = "Keys";
    const list = document.createElement("dl");
    for (const [keys, meaning] of HELP) {
      const name = document.createElement("dt");
      const key = document.createElement("kbd");
      key.textContent = keys ?? "";
      name.append(key);
      const text = document.createElement("dd");
      text.textContent = meaning ?? "";
      list.append(name, text);
    }
    const close = document.createElement("button");
    close.className = "btn";
    close.textContent = "Close";
    close.dataset.close = "";
    const buttons = document.createElement("p");
    buttons.className = "buttons";
    buttons.append(close);
    box.append(title, list, buttons);
    dialog.setAttribute("aria-label", "Keys");
    dialog.replaceChildren(box);
    dialog.showModal();
    close.focus();
  }
}

customElements.define("roost-keys", RoostKeys);
