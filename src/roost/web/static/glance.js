// Why a job is as it is, in a row beneath it.

export function startGlances() {
  document.addEventListener("click", (event) => {
    const button = /** @type {Element} */ (event.target).closest("[data-glance]");
    if (button instanceof HTMLElement) toggleGlance(button);
  });
}

/** @param {HTMLElement} button */
export async function toggleGlance(button) {
  const row = /** @type {HTMLTableRowElement} */ (button.closest("tr"));
  const next = row.nextElementSibling;
  if (next?.classList.contains("glanced")) {
    next.remove();
    button.setAttribute("aria-expanded", "false");
    return;
  }
  const below = document.createElement("tr");
  below.className = "glanced";
  const cell = below.insertCell();
  cell.colSpan = row.cells.length;
  cell.textContent = "…";
  row.after(below);
  button.setAttribute("aria-expanded", "true");
  try {
    const response = await fetch(/** @type {string} */ (button.dataset.glance));
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const glance = page.querySelector(".glance") ?? page.querySelector("#main");
    cell.replaceChildren(...(glance ? [glance] : ["It cannot be told."]));
  } catch {
    cell.textContent = "The server cannot be reached.";
  }
}
