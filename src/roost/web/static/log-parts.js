/**
 * What `<roost-log>` is made of: its controls, and a row for each line in sight. No state.
 */

import { plain, styled } from "./ansi.js";
import { button, element } from "./drawing.js";

/**
 * What lines are marked for, as patterns that the server finds them by too; without capital letters
 * they match both cases, there as here. A word of trouble counts at the start of a line, also behind
 * a time, a bracket or an amount of memory, or as compilers have it.
 */
const START = "^[^a-z\\n]*(?:[kmg]b\\b[^a-z\\n]*)?";
export const MARKS = {
  error: `${START}(?:fatal|error|critical|exception|traceback|panic|abort(?:ed)?|segmentation fault|bus error|out of memory|killed)\\b|^\\w*(?:error|exception)\\b|[:\\])] (?:fatal )?error:`,
  warning: `${START}warn(?:ing)?\\b|[:\\])] warning:`,
  progress: "^PROGRESS:[ \\t]*\\d+[ \\t]*/[ \\t]*\\d+|ALF_PROGRESS[ \\t]+\\d+[ \\t]*%",
};
/** @typedef {keyof typeof MARKS} MarkKind */
const KINDS = /** @type {[MarkKind, RegExp][]} */ (
  Object.entries(MARKS).map(([kind, pattern]) => [kind, new RegExp(pattern, pattern === pattern.toLowerCase() ? "i" : "")])
);
const SHAPES = { error: "failed", warning: "abandoned", progress: "running" };
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** @type {Record<MarkKind, string>} */
const MARK_NAMES = { error: "Errors", warning: "Warnings", progress: "Progress" };

/** The controls and the scrolled area. */
export function parts() {
  const bar = element("div", "roost-log-bar");
  const attempts = element("select", "roost-log-attempts");
  attempts.setAttribute("aria-label", "Attempt");
  attempts.hidden = true;
  const search = element("form", "roost-log-search");
  search.setAttribute("role", "search");
  search.setAttribute("aria-label", "In the output");
  const pattern = element("input");
  pattern.type = "search";
  pattern.placeholder = "Regular expression";
  pattern.setAttribute("aria-label", "Search the output by a regular expression");
  pattern.maxLength = 500;
  const previous = button("Previous", "Previous match (N)");
  const next = button("Next", "Next match (n)");
  previous.disabled = next.disabled = true;
  const found = element("span", "roost-log-found");
  found.setAttribute("role", "status");
  search.append(pattern, previous, next, found);
  const marks = element("select", "roost-log-attempts");
  marks.setAttribute("aria-label", "Go through marked lines");
  marks.append(new Option("Marks", ""), ...Object.keys(MARKS).map((kind) => new Option(MARK_NAMES[/** @type {MarkKind} */ (kind)], kind)));
  search.insertBefore(marks, previous);
  const status = element("span", "roost-log-status");
  status.setAttribute("role", "status");
  const followButton = button("Follow", "Keep the end in sight (f)");
  const timesButton = button("Times", "When each line came (i)");
  const download = element("a", "roost-log-download");
  download.textContent = "Download";
  download.setAttribute("download", "");
  bar.append(attempts, search, status, timesButton, followButton, download);
  const view = element("div", "roost-log-view");
  view.tabIndex = 0;
  view.dataset.ownKeys = "";
  view.setAttribute("role", "log");
  view.setAttribute("aria-live", "off");
  const spacer = element("div", "roost-log-spacer");
  const layer = element("div", "roost-log-layer");
  spacer.append(layer);
  view.append(spacer);
  return {
    bar,
    attempts,
    search,
    marks,
    timesButton,
    pattern,
    previous,
    next,
    found,
    status,
    followButton,
    download,
    view,
    spacer,
    layer,
  };
}

/** What a line is marked for. @param {string | undefined} text @returns {MarkKind | ""} */
export function kindOf(text) {
  if (!text) return "";
  const words = plain(text);
  for (const [kind, pattern] of KINDS) if (pattern.test(words)) return kind;
  return "";
}

/** Word and shape. @param {MarkKind} kind */
function markOf(kind) {
  const mark = element("span", "roost-log-mark");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "shape");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `${new URL("marks.svg", import.meta.url).pathname}#${SHAPES[kind]}`);
  svg.append(use);
  mark.append(svg, kind);
  return mark;
}

/** @param {number} seconds since 1970; 0 when not known */
function timeOf(seconds) {
  const time = element("time", "roost-log-time", seconds ? clock.format(seconds * 1000) : "");
  if (seconds) {
    time.dateTime = new Date(seconds * 1000).toISOString();
    time.title = `Came ${exact.format(seconds * 1000)}`;
  }
  return time;
}

/**
 * @param {number} line
 * @param {string | undefined} text
 * @param {MarkKind | ""} kind
 * @param {number | null} seconds when it came; null when that is not to be shown
 * @param {string} query
 */
export function rowOf(line, text, kind, seconds, query) {
  const row = element("div", "roost-log-row");
  row.dataset.line = String(line);
  const number = element("a", "roost-log-number");
  number.href = `${location.pathname}${query ? `?${query}` : ""}#L${line}`;
  number.textContent = String(line);
  number.tabIndex = -1;
  number.title = "Link to this line";
  const copy = button("Copy", "Copy this line");
  copy.classList.add("roost-log-copy");
  copy.tabIndex = -1;
  const code = element("code", "roost-log-text");
  if (text !== undefined) code.append(...styled(text));
  row.append(number, ...(seconds === null ? [] : [timeOf(seconds)]), copy, code);
  if (kind) row.append(markOf(kind));
  return row;
}

/** The line that the address points to, 0 for none. */
export function lineOfAddress() {
  return Number(/^#L([1-9]\d{0,14})$/.exec(location.hash)?.[1] ?? 0);
}

/** @param {number} bytes */
export function sizeOf(bytes) {
  const unit = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const amount = bytes / 1000 ** unit;
  return `${amount.toFixed(unit && amount < 99.5 ? 1 : 0)} ${["B", "KB", "MB", "GB"][unit]}`;
}

/** Also over plain HTTP, where there is no `navigator.clipboard`. @param {string} text */
export async function copied(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "roost-log-clipboard";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
