// Views of the jobs page under a name. They are addresses, kept in this browser.

import { store, stored, storedObject } from "./stored.js";

const KEY = "roost-views";
const DEFAULT = "roost-view";

/** @returns {Record<string, string>} */
const saved = () => storedObject(KEY, {});

export function startViews() {
  const first = stored(DEFAULT);
  for (const link of document.querySelectorAll('.pages a[href="/jobs"]')) {
    if (first) link.setAttribute("href", first);
  }
  show();
  document.addEventListener("roost-shown", show);
  document.addEventListener("submit", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!("saveView" in form.dataset)) return;
    event.preventDefault();
    const name = String(new FormData(form).get("name") ?? "").trim();
    if (!name) return;
    store(KEY, JSON.stringify({ ...saved(), [name]: address() }));
    form.reset();
    show();
  });
  document.addEventListener("change", (event) => {
    const box = /** @type {HTMLInputElement} */ (event.target);
    if (!("defaultView" in box.dataset)) return;
    store(DEFAULT, box.checked ? address() : "");
  });
  document.addEventListener("submit", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!("columns" in form.dataset)) return;
    // One word with commas is easier to read in an address than a dozen fields.
    event.preventDefault();
    const fields = new FormData(form);
    const columns = fields.getAll("columns").join(",");
    fields.delete("columns");
    const query = new URLSearchParams(/** @type {any} */ (fields));
    if (columns) query.set("columns", columns);
    location.href = `/jobs?${String(query).replaceAll("%2C", ",")}`;
  });
}

const address = () => location.pathname + location.search;

function show() {
  const list = document.querySelector("[data-saved-views]");
  if (!list) return;
  const items = Object.entries(saved()).map(([name, href]) => {
    const item = document.createElement("li");
    const link = document.createElement("a");
    link.href = href;
    link.textContent = name;
    if (href === address()) link.setAttribute("aria-current", "page");
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "plain";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Forget the view ${name}`);
    remove.addEventListener("click", () => {
      const views = saved();
      delete views[name];
      store(KEY, JSON.stringify(views));
      show();
    });
    item.append(link, " ", remove);
    return item;
  });
  list.replaceChildren(...items);
  const box = document.querySelector("[data-default-view]");
  if (box instanceof HTMLInputElement) box.checked = stored(DEFAULT) === address();
}
