// <roost-select>: which jobs or clients are chosen, and what can be done to them. Rows of tables,
// boxes for a whole page or for all that match, and ids that another element (the strip of frames)
// hands over. To which statuses an action applies its button says, or each row what it allows.

export class RoostSelect extends HTMLElement {
  connectedCallback() {
    /** @type {Set<string>} */
    this.chosen = new Set();
    /** @type {HTMLInputElement | null} */
    this.last = null;
    /** @type {number[]} */
    this.handed = [];
    this.abort = new AbortController();
    const options = { signal: this.abort.signal };
    document.addEventListener("click", (event) => this.clicked(event), options);
    document.addEventListener("change", (event) => this.changed(event), options);
    document.addEventListener("roost-shown", () => this.restore(), options);
    document.addEventListener("roost-rows", () => this.show(), options);
    document.addEventListener("roost-acted", () => this.clear(), options);
    document.addEventListener("roost-selection", (event) => this.take(/** @type {CustomEvent} */ (event)), options);
    this.querySelector("[data-clear]")?.addEventListener("click", () => this.clear());
    this.restore();
  }

  disconnectedCallback() {
    this.abort?.abort();
  }

  get boxes() {
    return /** @type {HTMLInputElement[]} */ ([...document.querySelectorAll('tr input[name="ids"][form="bulk"]')]);
  }

  get all() {
    return /** @type {HTMLInputElement | null} */ (this.querySelector('[name="all"]'));
  }

  get isEmpty() {
    return !this.chosen?.size && !this.handed?.length;
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const box = event.target;
    if (!(box instanceof HTMLInputElement) || box.name !== "ids" || box.type !== "checkbox") return;
    if (event.shiftKey && this.last) {
      const boxes = this.boxes;
      const [from, to] = [boxes.indexOf(this.last), boxes.indexOf(box)].sort((a, b) => a - b);
      for (const each of boxes.slice(from, /** @type {number} */ (to) + 1)) each.checked = box.checked;
    }
    this.last = box;
  }

  /** @param {Event} event */
  changed(event) {
    const box = event.target;
    if (!(box instanceof HTMLInputElement)) return;
    if ("pickPage" in box.dataset) {
      for (const each of this.boxes) each.checked = box.checked;
    } else if (box.name !== "ids" && box.name !== "all") return;
    this.read();
  }

  read() {
    this.chosen = new Set(this.boxes.filter((box) => box.checked).map((box) => box.value));
    this.show();
  }

  /** After the page was shown again: the same jobs are chosen. */
  restore() {
    for (const box of this.boxes) if (this.chosen?.has(box.value)) box.checked = true;
    this.read();
  }

  clear() {
    for (const box of this.boxes) box.checked = false;
    if (this.all) this.all.checked = false;
    this.handed = [];
    this.read();
    document.dispatchEvent(new CustomEvent("roost-cleared"));
  }

  /** @param {HTMLInputElement} box */
  toggle(box) {
    box.checked = !box.checked;
    this.last = box;
    this.read();
  }

  /** The whole page; asked again, all that match. */
  pickAll() {
    const boxes = this.boxes;
    if (boxes.length && boxes.every((box) => box.checked) && this.all && !this.all.closest("label")?.hidden) {
      this.all.checked = true;
    }
    for (const box of boxes) box.checked = true;
    this.read();
  }

  /** @param {CustomEvent<{jobs: number[], statuses?: Record<string, number>}>} event */
  take(event) {
    this.handed = event.detail.jobs;
    for (const old of this.querySelectorAll("input[data-handed]")) old.remove();
    const shown = new Set(this.boxes.map((box) => box.value));
    for (const id of this.handed) {
      if (shown.has(String(id))) continue;
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = "ids";
      field.value = String(id);
      field.dataset.handed = "";
      this.append(field);
    }
    const handed = new Set(this.handed.map(String));
    for (const box of this.boxes) box.checked = handed.has(box.value);
    this.read();
  }

  show() {
    const rows = this.boxes.filter((box) => box.checked).map((box) => /** @type {HTMLElement} */ (box.closest("tr")));
    for (const box of this.boxes) box.closest("tr")?.classList.toggle("picked", box.checked);
    const elsewhere = this.handed ? this.handed.filter((id) => !this.chosen?.has(String(id))).length : 0;
    const total = rows.length + elsewhere;
    const everything = Boolean(this.all?.checked);
    this.hidden = !total && !everything;
    const matching = Number(this.dataset.matching ?? 0);
    const label = this.all?.closest("label");
    if (label) label.hidden = !(matching > rows.length && this.boxes.length && this.boxes.every((box) => box.checked));
    /** @type {Map<string, number>} */
    const statuses = new Map();
    for (const row of rows) statuses.set(row.dataset.status ?? "", (statuses.get(row.dataset.status ?? "") ?? 0) + 1);
    const picked = this.querySelector("[data-picked]");
    if (picked) picked.textContent = everything ? `All ${matching.toLocaleString()} selected` : `${total.toLocaleString()} selected`;
    const by = this.querySelector("[data-statuses]");
    if (by) by.textContent = everything ? "" : [...statuses].map(([status, n]) => `${n} ${status}`).join(" · ");
    for (const button of /** @type {NodeListOf<HTMLButtonElement>} */ (this.querySelectorAll("button[data-applies]"))) {
      const applies = (button.dataset.applies ?? "").split(",");
      const below = button.value === "reschedule_failed";
      const count = rows.filter((row) =>
        row.dataset.allows !== undefined
          ? row.dataset.allows.split(" ").includes(button.value)
          : applies.includes(row.dataset.status ?? "") || (below && Number(row.dataset.failed)),
      ).length + elsewhere;
      const text = /** @type {HTMLElement} */ (button.querySelector("span"));
      text.dataset.words ??= text.textContent ?? "";
      const partial = !everything && count > 0 && count < total;
      text.textContent = partial ? `${text.dataset.words} ${count} of ${total}` : text.dataset.words;
      button.disabled = !everything && !count;
    }
    const priorities = new Set(rows.map((row) => row.dataset.priority));
    const field = /** @type {HTMLInputElement | null} */ (this.querySelector('[name="priority"]'));
    if (field && document.activeElement !== field) {
      field.placeholder = priorities.size === 1 ? String([...priorities][0]) : "various";
    }
    const page = /** @type {HTMLInputElement | null} */ (document.querySelector("[data-pick-page]"));
    if (page) {
      page.checked = rows.length > 0 && rows.length === this.boxes.length;
      page.indeterminate = rows.length > 0 && !page.checked;
    }
  }
}

customElements.define("roost-select", RoostSelect);
