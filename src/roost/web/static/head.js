// Runs before the page is drawn, so that a dark page never flashes white, and one that is only to be
// looked at never shows a button.
(() => {
  const root = document.documentElement;
  // Of a long table what fits on a screen is drawn first; `startRows` shows the rest. But who comes
  // back wants to be where they were, which may be far down.
  const [entry] = performance.getEntriesByType("navigation");
  const isNew = /** @type {PerformanceNavigationTiming | undefined} */ (entry)?.type === "navigate";
  root.classList.toggle("first-rows", isNew && !location.hash);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = root.dataset.theme;
    const isDark = theme === "dark" || (theme !== "light" && dark.matches);
    root.classList.toggle("dark", isDark);
    root.classList.toggle("dark-theme", isDark);
    root.classList.toggle("light-theme", !isDark);
    root.dataset.bsTheme = isDark ? "dark" : "light";
  };
  apply();
  dark.addEventListener("change", apply);
  addEventListener("roost-theme", apply);
  try {
    root.classList.toggle("look-only", localStorage.getItem("roost-look") === "1");
  } catch {
    // A browser that keeps nothing has nothing to say.
  }
})();
