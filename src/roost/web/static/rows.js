// The rows of a long table that were left out of the first drawing; see `head.js`. They come when
// the page is connected and has had a moment to answer, or when somebody moves towards them.

const MOMENT_MS = 250;
const PATIENCE_MS = 1000;

export function startRows() {
  const show = () => document.documentElement.classList.remove("first-rows");
  document.addEventListener("roost-connected", () => setTimeout(show, MOMENT_MS), { once: true });
  addEventListener("scroll", show, { once: true, passive: true });
  setTimeout(show, PATIENCE_MS);
}
