/**
 * What `<roost-log>` is made of: its controls, and a row for each line in sight. No state.
 */

import { plain, styled } from "./ansi.js";
import { button, element } from "./drawing.js";

const ERROR = /\b(?:error|fatal|exception|traceback|panic|segmentation fault)\b/i;
const WARNING = /\bwarn(?:ing)?\b/i;

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
  const status = element("span", "roost-log-status");
  status.setAttribute("role", "status");
  const followButton = button("Follow", "Keep the end in sight (f)");
  const download = element("a", "roost-log-download");
  download.textContent = "Download";
  download.setAttribute("download", "");
  bar.append(attempts, search, status, followButton, download);
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

/** Whether a line tells of trouble, as a class. @param {string | undefined} text */
export function kindOf(text) {
  const words = plain(text ?? "");
  return ERROR.test(words) ? " is-error" : WARNING.test(words) ? " is-warning" : "";
}

/** @param {number} line @param {string | undefined} text @param {string} query */
export function rowOf(line, text, query) {
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
  row.append(number, copy, code);
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
