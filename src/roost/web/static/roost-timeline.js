/**
 * `<roost-timeline node="3">` (`hours="24"`): what ran on a node lately, and when it was idle.
 * `<roost-timeline job="42">`: the attempts of a job and of its children, a row for each job.
 *
 * A bar is an attempt, at least `BAR_WIDTH_MIN` wide, however short it was; a click opens its
 * output. On a node, attempts at the same time are in rows below each other. Zoom: the buttons,
 * Ctrl and the wheel, `+` and `-`; move: drag, or the arrows. Only the rows in sight are drawn. The
 * same is there as a table, with links, for those who do not see or do not point.
 */

import { Drawing, button, clock, counted, duration, element } from "./drawing.js";

const BAR_WIDTH_MIN = 3;
const ROW_HEIGHT = 20;
const AXIS_HEIGHT = 22;
const HEIGHT_MAX = 420;
const LABEL_SHARE = 0.22;
const LABEL_WIDTH_MAX = 220;
const TICK_WIDTH = 90;
const SPAN_MS_MIN = 1000;
const ZOOM = 1.6;
const DRAG_MIN = 4;
const TABLE_ROWS_MAX = 500;

const SECOND = 1000;
const STEPS = [
  1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
].map((seconds) => seconds * SECOND);

/** @typedef {{job: number, attempt: number, name: string, nodes: string[], start: number,
 *             end: number | null, tone: string, outcome: string}} Bar */
/** @typedef {{label: string, bars: Bar[]}} Row */

class RoostTimeline extends Drawing {
  static observedAttributes = ["job", "node", "hours"];

  /** @type {Row[]} */
  #rows = [];
  /** @type {Bar[]} */
  #bars = [];
  /** All there is. */
  #whole = { start: 0, end: 1 };
  /** What is shown; null for all. @type {{start: number, end: number} | null} */
  #part = null;
  /** @type {{bar: Bar, left: number, right: number, top: number}[]} */
  #drawn = [];
  /** @type {{x: number, start: number, end: number, moved: boolean} | null} */
  #drag = null;
  #view = element("div", "roost-timeline-view");
  #spacer = element("div");
  #canvas = element("canvas");
  #summary = element("span", "roost-muted");
  #table = element("details", "roost-timeline-table");
  #zoomIn = button("Zoom in", "Zoom in (+)");
  #zoomOut = button("Zoom out", "Zoom out (-)");
  #all = button("All", "Show all of it (0)");

  get source() {
    const [job, node] = [this.getAttribute("job"), this.getAttribute("node")];
    if (job) return `/drawings/jobs/${encodeURIComponent(job)}/timeline`;
    const hours = encodeURIComponent(this.getAttribute("hours") ?? "24");
    return node ? `/drawings/nodes/${encodeURIComponent(node)}/timeline?hours=${hours}` : "";
  }

  build() {
    const bar = element("div", "roost-drawing-bar");
    this.#summary.setAttribute("role", "status");
    bar.append(this.#zoomIn, this.#zoomOut, this.#all, this.#summary);
    this.#canvas.setAttribute("role", "img");
    this.#view.tabIndex = 0;
    this.#view.dataset.ownKeys = "";
    this.#view.setAttribute("role", "group");
    this.#view.setAttribute("aria-label", "Timeline. Plus and minus zoom, arrows move.");
    this.#spacer.append(this.#canvas);
    this.#view.append(this.#spacer);
    this.#table.append(element("summary", "", "As a table"));
    this.append(bar, this.#view, this.#table);
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    const on = { signal };
    this.#zoomIn.addEventListener("click", () => this.#zoom(1 / ZOOM), on);
    this.#zoomOut.addEventListener("click", () => this.#zoom(ZOOM), on);
    this.#all.addEventListener("click", () => this.#show(null), on);
    this.#view.addEventListener("wheel", (event) => this.#wheel(event), { signal, passive: false });
    this.#view.addEventListener("scroll", () => this.draw(), { signal, passive: true });
    this.#view.addEventListener("keydown", (event) => this.#key(event), on);
    this.#canvas.addEventListener("pointerdown", (event) => this.#press(event), on);
    this.#canvas.addEventListener("pointermove", (event) => this.#move(event), on);
    this.#canvas.addEventListener("pointerup", (event) => this.#release(event), on);
    this.#canvas.addEventListener("pointercancel", () => (this.#drag = null), on);
    this.#canvas.addEventListener("pointerleave", () => this.hideTip(), on);
    this.#table.addEventListener("toggle", () => this.#fillTable(), on);
  }

  /** @param {{start: number, end: number, bars: Bar[], is_cut: boolean}} data */
  receive({ start, end, bars, is_cut }) {
    this.#whole = { start, end: Math.max(end, start + SPAN_MS_MIN) };
    this.#bars = bars;
    this.#rows = this.hasAttribute("job") ? rowsByJob(bars) : rowsWithoutOverlap(bars, end);
    const failed = bars.filter(({ tone }) => tone === "failed" || tone === "abandoned").length;
    const told = bars.length
      ? `${is_cut ? "The latest " : ""}${counted(bars.length, "attempt")}, ${failed} failed`
      : "Nothing ran in this time.";
    this.#summary.textContent = told;
    this.#canvas.setAttribute("aria-label", `${told}, ${clock(start)} to ${clock(end)}`);
    this.#fillTable();
  }

  // --- what is in sight --------------------------------------------------------------------------

  get #shown() {
    return this.#part ?? this.#whole;
  }

  get #labelWidth() {
    if (!this.hasAttribute("job")) return 0;
    return Math.min(LABEL_WIDTH_MAX, this.#view.clientWidth * LABEL_SHARE);
  }

  /** @param {{start: number, end: number} | null} part */
  #show(part) {
    if (part) {
      const whole = this.#whole.end - this.#whole.start;
      const span = Math.max(SPAN_MS_MIN, part.end - part.start);
      const start = Math.max(this.#whole.start, Math.min(part.start, this.#whole.end - span));
      part = span >= whole ? null : { start, end: start + span };
    }
    this.#part = part;
    this.redraw();
  }

  /** Around a moment, the middle unless told. @param {number} factor @param {number} [around] */
  #zoom(factor, around) {
    const { start, end } = this.#shown;
    const centre = around ?? (start + end) / 2;
    this.#show({ start: centre - (centre - start) * factor, end: centre + (end - centre) * factor });
  }

  /** @param {number} share of what is shown */
  #pan(share) {
    const { start, end } = this.#shown;
    const by = (end - start) * share;
    this.#show({ start: start + by, end: end + by });
  }

  /** @param {MouseEvent} event */
  #momentAt(event) {
    const { left } = this.#canvas.getBoundingClientRect();
    const { start, end } = this.#shown;
    const width = Math.max(1, this.#view.clientWidth - this.#labelWidth);
    return start + ((event.clientX - left - this.#labelWidth) / width) * (end - start);
  }

  // --- drawing -----------------------------------------------------------------------------------

  draw() {
    const content = AXIS_HEIGHT + Math.max(1, this.#rows.length) * ROW_HEIGHT + 4;
    const height = Math.min(content, HEIGHT_MAX);
    this.#view.style.height = `${height}px`;
    this.#spacer.style.height = `${content}px`;
    const width = Math.max(1, this.#view.clientWidth);
    const pen = this.surface(this.#canvas, width, height);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.#all.disabled = this.#zoomOut.disabled = !this.#part;
    this.#drawn = [];
    const { start, end } = this.#shown;
    const left = this.#labelWidth;
    const x = (/** @type {number} */ moment) => left + ((moment - start) / (end - start)) * (width - left);
    const ticks = this.#ticks(width - left);
    pen.fillStyle = this.colour("--line", "#ccc");
    for (const { at } of ticks) pen.fillRect(Math.round(x(at)), 4, 1, height);
    const first = Math.floor(this.#view.scrollTop / ROW_HEIGHT);
    const last = Math.min(this.#rows.length, first + Math.ceil(height / ROW_HEIGHT) + 1);
    for (let i = first; i < last; i++) {
      const top = AXIS_HEIGHT + i * ROW_HEIGHT - this.#view.scrollTop;
      this.#drawRow(pen, this.#rows[i], top, width, x);
    }
    // Over rows that are scrolled out in part.
    pen.fillStyle = this.colour("--ground", "#fff");
    pen.fillRect(0, 0, width, AXIS_HEIGHT);
    pen.fillStyle = this.colour("--muted", "#666");
    for (const { at, text } of ticks) {
      const place = x(at) + 4;
      if (place + pen.measureText(text).width <= width) pen.fillText(text, place, AXIS_HEIGHT / 2);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Row} row
   * @param {number} top
   * @param {number} width
   * @param {(moment: number) => number} x
   */
  #drawRow(pen, row, top, width, x) {
    const left = this.#labelWidth;
    // The ground that shows where nothing ran.
    pen.globalAlpha = 0.4;
    pen.fillStyle = this.colour("--line", "#ccc");
    pen.fillRect(left, top + 2, width - left, ROW_HEIGHT - 4);
    pen.globalAlpha = 1;
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width - left, ROW_HEIGHT);
    pen.clip();
    for (const bar of row.bars) {
      const from = Math.min(x(bar.start), x(this.#whole.end) - BAR_WIDTH_MIN);
      const to = Math.max(x(bar.end ?? this.#whole.end) - 1, from + BAR_WIDTH_MIN);
      if (to < left || from > width) continue;
      this.#drawBar(pen, bar, from, to, top);
      this.#drawn.push({ bar, left: Math.max(from, left), right: to, top });
    }
    pen.restore();
    if (row.label && left) {
      pen.fillStyle = this.colour("--text", "#000");
      pen.fillText(shortened(pen, row.label, left - 10), 2, top + ROW_HEIGHT / 2);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} pen
   * @param {Bar} bar
   * @param {number} from
   * @param {number} to
   * @param {number} top
   */
  #drawBar(pen, bar, from, to, top) {
    pen.fillStyle = this.colour(`--fill-${bar.tone}`, `var(--status-${bar.tone})`);
    pen.fillRect(from, top + 2, to - from, ROW_HEIGHT - 4);
    const isBad = bar.tone === "failed" || bar.tone === "abandoned";
    if (!isBad || to - from < 10) return;
    pen.strokeStyle = this.colour("--ground", "#fff");
    pen.lineWidth = 1.5;
    const [x, y, size] = [from + 6, top + ROW_HEIGHT / 2, 3];
    pen.beginPath();
    pen.moveTo(x - size, y - size);
    pen.lineTo(x + size, y + size);
    pen.moveTo(x - size, y + size);
    pen.lineTo(x + size, y - size);
    pen.stroke();
  }

  /** Round moments by the viewer's clock, as many as there is room for. @param {number} width */
  #ticks(width) {
    const { start, end } = this.#shown;
    const count = Math.max(1, width / TICK_WIDTH);
    const step = STEPS.find((one) => (end - start) / one <= count) ?? STEPS[STEPS.length - 1];
    const shift = new Date(start).getTimezoneOffset() * 60 * SECOND;
    const ticks = [];
    for (let at = Math.ceil((start - shift) / step) * step + shift; at < end; at += step) {
      ticks.push({ at, text: tick(at, step) });
    }
    return ticks;
  }

  // --- pointer and keys --------------------------------------------------------------------------

  /** @param {MouseEvent} event */
  #barAt(event) {
    const { left, top } = this.#canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    if (y < AXIS_HEIGHT) return undefined;
    const found = this.#drawn.filter(
      (one) => x >= one.left - 1 && x <= one.right + 1 && y >= one.top && y < one.top + ROW_HEIGHT,
    );
    // Short ones lie over each other; the last was drawn on top.
    return found[found.length - 1]?.bar;
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    if (event.ctrlKey || event.metaKey) {
      this.#zoom(event.deltaY > 0 ? ZOOM : 1 / ZOOM, this.#momentAt(event));
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.#pan(Math.sign(event.deltaX || event.deltaY) * 0.1);
    } else return; // the page scrolls
    event.preventDefault();
  }

  /** @param {PointerEvent} event */
  #press(event) {
    if (event.button) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drag = { x: event.clientX, moved: false, ...this.#shown };
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const drag = this.#drag;
    if (drag && (drag.moved || Math.abs(event.clientX - drag.x) > DRAG_MIN)) {
      drag.moved = true;
      const width = Math.max(1, this.#view.clientWidth - this.#labelWidth);
      const by = ((drag.x - event.clientX) / width) * (drag.end - drag.start);
      this.#show({ start: drag.start + by, end: drag.end + by });
      this.hideTip();
      return;
    }
    const bar = this.#barAt(event);
    this.#canvas.style.cursor = bar ? "pointer" : "";
    if (bar) this.showTip(this.#linesOf(bar), event.clientX, event.clientY);
    else this.hideTip();
  }

  /** @param {PointerEvent} event */
  #release(event) {
    const drag = this.#drag;
    this.#drag = null;
    if (!drag || drag.moved) return;
    const bar = this.#barAt(event);
    if (!bar) return;
    if (event.ctrlKey || event.metaKey) open(addressOf(bar), "_blank", "noopener");
    else location.assign(addressOf(bar));
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "+" || event.key === "=") this.#zoom(1 / ZOOM);
    else if (event.key === "-") this.#zoom(ZOOM);
    else if (event.key === "0") this.#show(null);
    else if (event.key === "ArrowLeft") this.#pan(-0.2);
    else if (event.key === "ArrowRight") this.#pan(0.2);
    else return;
    event.preventDefault();
  }

  // --- words -------------------------------------------------------------------------------------

  /** @param {Bar} bar */
  #linesOf(bar) {
    const took = duration((bar.end ?? this.#whole.end) - bar.start);
    return [
      bar.name,
      `Attempt ${bar.attempt} · ${bar.outcome}`,
      `${clock(bar.start)} · ${took}`,
      bar.nodes.length ? `on ${bar.nodes.join(", ")}` : "",
    ];
  }

  #fillTable() {
    if (!this.#table.open) return;
    const table = element("table", "roost-table");
    const head = element("tr");
    for (const word of ["Job", "Attempt", "Outcome", "Start", "Time", "Node"]) {
      const cell = element("th", "", word);
      cell.scope = "col";
      head.append(cell);
    }
    table.createTHead().append(head);
    const body = table.createTBody();
    for (const bar of this.#bars.slice(0, TABLE_ROWS_MAX)) {
      const link = element("a", "", bar.name);
      link.href = addressOf(bar);
      const took = duration((bar.end ?? this.#whole.end) - bar.start);
      const row = body.insertRow();
      row.insertCell().append(link);
      const texts = [String(bar.attempt), bar.outcome, clock(bar.start), took, bar.nodes.join(", ")];
      for (const text of texts) row.insertCell().textContent = text;
    }
    const present = this.#table.querySelector("table");
    if (!present) this.#table.append(table);
    // A link in use stays where it is.
    else if (!present.contains(document.activeElement)) present.replaceWith(table);
  }
}

/** A row for each job, those that began first above. @param {Bar[]} bars @returns {Row[]} */
function rowsByJob(bars) {
  /** @type {Map<number, Row>} */
  const rows = new Map();
  for (const bar of bars.toSorted((a, b) => a.start - b.start)) {
    const row = rows.get(bar.job);
    if (row) row.bars.push(bar);
    else rows.set(bar.job, { label: bar.name, bars: [bar] });
  }
  return [...rows.values()];
}

/**
 * As few rows as there were attempts at a time.
 * @param {Bar[]} bars
 * @param {number} now
 * @returns {Row[]}
 */
function rowsWithoutOverlap(bars, now) {
  /** @type {Row[]} */
  const rows = [];
  /** @type {number[]} */
  const ends = [];
  for (const bar of bars.toSorted((a, b) => a.start - b.start)) {
    let free = ends.findIndex((end) => end <= bar.start);
    if (free < 0) free = rows.push({ label: "", bars: [] }) - 1;
    rows[free].bars.push(bar);
    ends[free] = bar.end ?? now;
  }
  return rows;
}

/** @param {Bar} bar */
function addressOf({ job, attempt }) {
  return `/jobs/${job}/output?attempt=${attempt}`;
}

/** @param {number} at @param {number} step */
function tick(at, step) {
  const date = new Date(at);
  const isMidnight = !date.getHours() && !date.getMinutes() && !date.getSeconds();
  if (isMidnight) return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  const second = step < 60 * SECOND ? /** @type {const} */ ("2-digit") : undefined;
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second });
}

/** @param {CanvasRenderingContext2D} pen @param {string} text @param {number} width */
function shortened(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pen.measureText(`${text.slice(0, middle)}…`).width <= width) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

customElements.define("roost-timeline", RoostTimeline);
