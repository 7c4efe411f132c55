// Light, dark, or as the system is.

const ORDER = ["system", "light", "dark"];

export function nextTheme() {
  const root = document.documentElement;
  const at = ORDER.indexOf(root.dataset.theme ?? "system");
  setTheme(/** @type {string} */ (ORDER[(at + 1) % ORDER.length]));
}

/** @param {string} theme */
export function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const age = theme === "system" ? 0 : 365 * 24 * 3600;
  document.cookie = `roost-theme=${theme}; path=/; max-age=${age}; samesite=strict`;
  dispatchEvent(new Event("roost-theme"));
  const button = document.querySelector("[data-theme-switch]");
  if (button instanceof HTMLElement) button.title = `Theme: ${theme} (t)`;
}

export function startTheme() {
  document.addEventListener("click", (event) => {
    if (/** @type {Element} */ (event.target).closest("[data-theme-switch]")) nextTheme();
  });
  document.addEventListener("change", (event) => {
    const input = /** @type {HTMLInputElement} */ (event.target);
    if (input.name === "theme" && "theme" in input.dataset) setTheme(input.value);
  });
}
