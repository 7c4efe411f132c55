// Times as the viewer's clock shows them: "3 min ago", with the exact moment on hover.

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const UNITS = /** @type {const} */ ([
  ["s", 1000, 60],
  ["min", 60_000, 90],
  ["h", 3_600_000, 48],
  ["d", 86_400_000, Infinity],
]);

/** @param {number} ms */
function about(ms) {
  for (const [unit, size, most] of UNITS) {
    if (ms <= most * size) return `${Math.max(Math.round(ms / size), 1)} ${unit}`;
  }
  return "";
}

/** @param {ParentNode} root */
export function showTimes(root = document) {
  const now = Date.now();
  for (const element of root.querySelectorAll("time[data-at]")) {
    const time = /** @type {HTMLTimeElement} */ (element);
    const at = Number(time.dataset.at);
    if ("exact" in time.dataset) {
      const text = exact.format(at);
      if (time.textContent !== text) time.textContent = text;
      continue;
    }
    const passed = now - at;
    if ("for" in time.dataset) {
      const text = about(Math.max(passed, 0));
      if (time.textContent !== text) time.textContent = text;
      continue;
    }
    const size = Math.abs(passed);
    const text = size < 10_000 ? "just now" : passed > 0 ? `${about(size)} ago` : `in ${about(size)}`;
    if (time.textContent !== text) time.textContent = text;
    if (!time.title) time.title = exact.format(at);
  }
}

export function startTimes() {
  showTimes();
  setInterval(() => document.hidden || showTimes(), 15_000);
}
