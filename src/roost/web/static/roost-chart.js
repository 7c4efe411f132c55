/**
 * `<roost-chart job="42" attribute="Progress">`: a numeric attribute of a job over time.
 * `<roost-chart src="/statistics/series.json?hours=24" series="running,waiting">`: what that
 * address answers, `{"at": [ms, …], "series": {"running": [1, …], …}}`; without `series`, all of it.
 *
 * A series whose name ends in `_ms` is shown as time. `label` names the chart, `height` is in pixels.
 * Lines differ in dashes as well as in colour, and what they show is told in words to those who
 * cannot see them.
 */

import uPlot from "./vendor/uplot.esm.js";

import { Drawing, clock, duration, element } from "./drawing.js";

const HEIGHT = 180;
const HEIGHT_MIN = 60;
const TICK_WIDTH = 90;
const DAY_MS = 86_400_000;
const AXIS_FONT = "11px system-ui, sans-serif";
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const TOKENS = new Map([
  ["running", "--status-running"],
  ["busy", "--status-running"],
  ["waiting", "--status-runnable"],
  ["runnable", "--status-runnable"],
  ["queued", "--status-queued"],
  ["succeeded", "--status-succeeded"],
  ["failed", "--status-failed"],
  ["failed_an_hour", "--status-failed"],
  ["failures", "--status-failed"],
  ["abandoned", "--status-abandoned"],
  ["cancelled", "--status-cancelled"],
]);
const OTHERS = ["--accent", "--status-queued", "--status-abandoned", "--status-succeeded"];

/** @typedef {{at: number[], series: Record<string, (number | null)[]>}} Data */

class RoostChart extends Drawing {
  static observedAttributes = ["job", "attribute", "src", "series", "label", "height"];

  /** @type {Data} */
  #data = { at: [], series: {} };
  /** @type {uPlot | undefined} */
  #plot;
  /** What the plot was made for; another one is made when this changes. */
  #made = "";
  #place = element("div", "roost-chart-plot");
  #summary = element("p", "roost-muted roost-chart-summary");

  get source() {
    const [job, attribute] = [this.getAttribute("job"), this.getAttribute("attribute")];
    if (!job || !attribute) return this.getAttribute("src") ?? "";
    return `/drawings/jobs/${encodeURIComponent(job)}/attributes/${encodeURIComponent(attribute)}`;
  }

  get #label() {
    return this.getAttribute("label") ?? this.getAttribute("attribute") ?? "Chart";
  }

  get #names() {
    const wanted = (this.getAttribute("series") ?? "").split(",").map((name) => name.trim());
    const named = wanted.filter((name) => name && name in this.#data.series);
    return named.length ? named : Object.keys(this.#data.series);
  }

  build() {
    this.#place.setAttribute("role", "img");
    this.append(this.#place, this.#summary);
  }

  disconnectedCallback() {
    super.disconnectedCallback();
    this.#unmake();
  }

  /** @param {Data} data */
  receive(data) {
    this.#data = data;
    const told = this.#names.map((name) => inWords(name, data.series[name])).filter(Boolean);
    this.#summary.classList.toggle("roost-hidden", told.length > 0);
    this.#summary.textContent = told.length ? `${told.join("; ")}. Since ${clock(data.at[0])}.` : "No numbers yet.";
    this.#place.setAttribute("aria-label", `${this.#label}. ${this.#summary.textContent}`);
  }

  draw() {
    this.#place.hidden = !this.#data.at.length;
    const width = Math.floor(this.#place.clientWidth);
    if (!this.#data.at.length || !width) return;
    const height = Math.max(HEIGHT_MIN, Number(this.getAttribute("height")) || HEIGHT);
    const names = this.#names;
    const made = JSON.stringify([names, this.#label, this.colour("--text"), this.colour("--ground")]);
    const data = /** @type {uPlot.AlignedData} */ ([this.#data.at, ...names.map((name) => this.#data.series[name])]);
    if (this.#plot && made === this.#made) {
      if (this.#plot.width !== width || this.#plot.height !== height) this.#plot.setSize({ width, height });
      // Who looks at a part goes on looking at it.
      const { min, max } = this.#plot.scales.x;
      const [before] = this.#plot.data;
      this.#plot.setData(data, min === before[0] && max === before[before.length - 1]);
      return;
    }
    this.#unmake();
    this.#made = made;
    this.#plot = new uPlot(this.#options(names, width, height), data, this.#place);
  }

  #unmake() {
    this.#plot?.destroy();
    this.#plot = undefined;
  }

  /**
   * @param {string[]} names
   * @param {number} width
   * @param {number} height
   * @returns {uPlot.Options}
   */
  #options(names, width, height) {
    const axis = {
      stroke: this.colour("--muted", "#666"),
      font: AXIS_FONT,
      grid: { stroke: this.colour("--line", "#ddd"), width: 1 },
      ticks: { stroke: this.colour("--line", "#ddd"), width: 1 },
    };
    return {
      width,
      height,
      ms: 1,
      cursor: { drag: { x: true, y: false } },
      scales: {
        y: { range: (_, low, high) => (low >= 0 ? [0, high > 0 ? high * 1.05 : 1] : [low, Math.max(high, low + 1)]) },
      },
      axes: [
        {
          ...axis,
          space: TICK_WIDTH,
          values: (_, moments) => moments.map((at) => tick(at, moments)),
        },
        { ...axis, size: 52, values: (_, numbers) => numbers.map((value) => this.#short(names, value)) },
      ],
      series: [
        { label: "Time", value: (_, at) => (at === null ? "" : clock(at)) },
        ...names.map((name, i) => ({
          label: labelOf(name),
          stroke: this.#colourOf(name, i),
          width: 1.5,
          dash: DASHES[i % DASHES.length],
          points: { show: this.#data.at.length < 2 },
          value: (/** @type {uPlot} */ _, /** @type {number | null} */ value) =>
            value === null ? "" : amount(name, value),
        })),
      ],
    };
  }

  /** @param {string[]} names @param {number} value */
  #short(names, value) {
    return names.every(isDuration) ? amount(names[0], value) : short(value);
  }

  /** @param {string} name @param {number} i */
  #colourOf(name, i) {
    return this.colour(TOKENS.get(name) ?? OTHERS[i % OTHERS.length]);
  }
}

/** @param {string} name @param {(number | null)[]} values */
function inWords(name, values) {
  let [low, high, latest] = [Infinity, -Infinity, NaN];
  for (const value of values) {
    if (value === null) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
    latest = value;
  }
  if (Number.isNaN(latest)) return "";
  const span = low === high ? "" : `, between ${amount(name, low)} and ${amount(name, high)}`;
  return `${labelOf(name)}: ${amount(name, latest)} now${span}`;
}

/** @param {string} name */
function isDuration(name) {
  return name.endsWith("_ms");
}

/** `cpus_busy` as people write it. @param {string} name */
function labelOf(name) {
  return name
    .replace(/_ms$/, "")
    .replaceAll("_", " ")
    .replace(/\bcpu(s?)\b/, "CPU$1");
}

/** A number, or a duration by the name of its series. @param {string} name @param {number} value */
function amount(name, value) {
  if (!isDuration(name)) return value.toLocaleString();
  if (value >= 60_000) return duration(value);
  return `${(value / 1000).toLocaleString(undefined, { maximumFractionDigits: 1 })} s`;
}

/**
 * A time, or a date where a day begins or many are shown.
 * @param {number} at
 * @param {number[]} all
 */
function tick(at, all) {
  const date = new Date(at);
  const isMidnight = !date.getHours() && !date.getMinutes() && !date.getSeconds();
  if (isMidnight || all[all.length - 1] - all[0] > 5 * DAY_MS) {
    return date.toLocaleDateString(undefined, { day: "numeric", month: "short" });
  }
  const step = all.length > 1 ? all[1] - all[0] : DAY_MS;
  const second = step < 60_000 ? /** @type {const} */ ("2-digit") : undefined;
  return date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second });
}

const short = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 3 }).format;

customElements.define("roost-chart", RoostChart);
