// "Look, don't touch": while it is on, no page in this browser acts. Kept in this browser only.
// head.js sets the class before the page is drawn; here it is switched, and meant: whatever slips
// past the style sheet is not sent.

import { store } from "./stored.js";

const KEY = "roost-look";
const IS_ON = "look-only";

export const looksOnly = () => document.documentElement.classList.contains(IS_ON);

/** @param {boolean} on */
function set(on) {
  document.documentElement.classList.toggle(IS_ON, on);
  for (const control of document.querySelectorAll("[data-look-switch]")) {
    if (control instanceof HTMLInputElement) control.checked = on;
    else if (control.hasAttribute("aria-pressed")) control.setAttribute("aria-pressed", String(on));
  }
  // Not even by keyboard.
  for (const form of document.querySelectorAll('form[method="post"]')) form.toggleAttribute("inert", on);
}

/** @param {boolean} on */
function choose(on) {
  store(KEY, on ? "1" : "");
  set(on);
}

export function startLooking() {
  set(looksOnly());
  document.addEventListener("roost-shown", () => set(looksOnly()));
  document.addEventListener("click", (event) => {
    const control = /** @type {Element} */ (event.target).closest("[data-look-switch]");
    if (control) choose(control instanceof HTMLInputElement ? control.checked : !looksOnly());
  });
  // Other tabs of this browser follow.
  addEventListener("storage", (event) => event.key === KEY && set(event.newValue === "1"));
  document.addEventListener(
    "submit",
    (event) => {
      const form = /** @type {HTMLFormElement} */ (event.target);
      if (!looksOnly() || form.method !== "post") return;
      event.preventDefault();
      event.stopImmediatePropagation();
    },
    { capture: true },
  );
}
