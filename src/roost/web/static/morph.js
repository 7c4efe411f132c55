// Puts a freshly fetched page in the place of the one that is shown, changing only what differs:
// focus, scroll position and ticked boxes stay.

import { showTimes } from "./times.js";

/** @typedef {{swap: (context: {text: string, target: Element, swap: string}) => Promise<void>}} Htmx */

/** Large, and not needed before something has changed. @returns {Promise<Htmx | null>} */
async function htmx() {
  try {
    return (await import("./vendor/htmx.esm.min.js")).default;
  } catch {
    return null;
  }
}

/** @param {Element} target @param {Element} fresh */
async function morph(target, fresh) {
  // What somebody has opened or closed stays so.
  for (const details of /** @type {NodeListOf<HTMLDetailsElement>} */ (fresh.querySelectorAll("details[id]"))) {
    const shown = target.querySelector(`#${details.id}`);
    if (shown instanceof HTMLDetailsElement) details.open = shown.open;
  }
  const morpher = await htmx();
  if (morpher) await morpher.swap({ text: fresh.innerHTML, target, swap: "innerMorph" });
  else target.replaceChildren(...fresh.childNodes);
}

/** @param {Element} page */
const parts = (page) => [...page.querySelectorAll("[data-fresh]")].map((part) => part.id).join();

/**
 * @param {string} html the whole page
 * @param {{whole?: boolean}} options whole: all of it, not only the parts that say they change
 */
export async function showPage(html, { whole = false } = {}) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const main = document.querySelector("#main");
  const fresh = page.querySelector("#main");
  if (!main || !fresh) return;
  const headline = page.querySelector("#headline");
  if (headline) await morph(/** @type {Element} */ (document.querySelector("#headline")), headline);
  // A part that came or went is another page: the first row of a list, or what is gone.
  if (whole || parts(main) !== parts(fresh)) {
    await morph(main, fresh);
  } else {
    for (const region of main.querySelectorAll("[data-fresh]")) {
      const update = fresh.querySelector(`#${region.id}`);
      if (update) await morph(region, update);
    }
  }
  document.title = page.title;
  document.body.dataset.live = page.body.dataset.live ?? "";
  showTimes();
  document.dispatchEvent(new CustomEvent("roost-shown", { detail: { whole } }));
}

/** Fetches this page again; what came of a form is for the page that the form leads to. @param {{whole?: boolean}} options */
export async function refresh(options = {}) {
  const response = await fetch(location.href, { headers: { "roost-refresh": "1" } });
  // A failure of the moment leaves what is shown.
  if (response.status >= 500 && !options.whole) return;
  await showPage(await response.text(), options);
}
