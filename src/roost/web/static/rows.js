// The rows of a long table that were left out of the first drawing; see `head.js`.

const PATIENCE_MS = 500;

export function startRows() {
  const show = () => document.documentElement.classList.remove("first-rows");
  // Not every browser tells when it has nothing else to do.
  if ("requestIdleCallback" in window) requestIdleCallback(show, { timeout: PATIENCE_MS });
  else setTimeout(show, PATIENCE_MS);
}
