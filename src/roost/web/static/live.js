// One stream for a page. It ends while nobody looks, says when it is lost, and catches up after.

import { refresh } from "./morph.js";
import { showTimes } from "./times.js";

const RETRY_MS = 1000;
const SILENT_MS = 4500; // the server says something every two seconds
const REFRESH_MS = 1000;
const NOTICED_MS = 800; // a background that fades would be painted sixty times a second

/** @type {EventSource | null} */
let source = null;
let paused = false;
let heardAt = 0;
let lostAt = 0;
let hasLost = false;
let refreshing = false;
let wantsRefresh = 0;
let refreshedAt = 0;
let version = "";

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
const exact = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function startLive() {
  version = document.querySelector("meta[name=roost-version]")?.getAttribute("content") ?? "";
  const button = /** @type {HTMLButtonElement} */ (document.querySelector("[data-pause]"));
  button.hidden = false;
  button.addEventListener("click", togglePause);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else if (!paused) {
      connect();
      if (hasConnected) later();
    }
  });
  document.addEventListener("roost-shown", reconnectIfOther);
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (target.closest("#new-rows")) refresh({ whole: true });
  });
  setInterval(watch, 1000);
  connect();
}

let hasConnected = false;
let query = "";

function connect() {
  if (source || document.hidden || paused) return;
  query = document.body.dataset.live ?? "";
  source = new EventSource(`/live${query}`);
  heardAt = Date.now();
  source.addEventListener("hello", (event) => {
    hasConnected = true;
    if (event.data !== version) return sayOutdated();
    if (lostAt) {
      lostAt = 0;
      refresh({ whole: false }).catch(lost);
    }
    document.body.classList.remove("lost");
    document.body.classList.add("connected");
    element("connection").textContent = "connected";
    heard();
    document.dispatchEvent(new CustomEvent("roost-connected"));
  });
  source.addEventListener("beat", heard);
  source.addEventListener("counts", (event) => {
    heard();
    element("headline").innerHTML = event.data;
  });
  source.addEventListener("rows", (event) => {
    heard();
    showRows(event.data);
  });
  source.addEventListener("gone", (event) => {
    heard();
    for (const id of event.data.split(",")) document.getElementById(`job-${id}`)?.classList.add("gone");
  });
  source.addEventListener("new", (event) => {
    heard();
    const button = document.querySelector("#new-rows");
    const count = Number(event.data);
    if (button instanceof HTMLElement) {
      button.hidden = !count;
      button.textContent = `${count >= 100 ? "100 or more" : count} new ${count === 1 ? "job" : "jobs"}: show`;
    } else if (count) refresh({ whole: true }).catch(() => {}); // none is shown yet
  });
  source.addEventListener("changed", () => {
    heard();
    later();
  });
  source.onerror = lost;
}

function disconnect() {
  source?.close();
  source = null;
}

/** What is shown may be other jobs now. */
function reconnectIfOther() {
  const asked = document.body.dataset.live ?? "";
  const seen = /&seen=\d+$/;
  if (source && query.replace(seen, "") !== asked.replace(seen, "")) {
    disconnect();
    connect();
  }
}

function heard() {
  heardAt = Date.now();
  showAge();
}

function lost() {
  disconnect();
  if (!lostAt) lostAt = Date.now();
  hasLost = true;
  document.body.classList.remove("connected");
  document.body.classList.add("lost");
  element("connection").textContent = `not connected since ${exact.format(lostAt)}; what is shown may be old`;
  setTimeout(() => !paused && connect(), RETRY_MS);
}

function watch() {
  if (source && Date.now() - heardAt > SILENT_MS) lost();
  showAge();
  if (wantsRefresh && Date.now() - refreshedAt > REFRESH_MS) later();
}

function showAge() {
  const age = element("age");
  if (paused) age.textContent = `paused; updated ${exact.format(heardAt)}`;
  else if (lostAt) age.textContent = `retrying, for ${Math.round((Date.now() - lostAt) / 1000)} s`;
  else if (source) {
    const seconds = Math.round((Date.now() - heardAt) / 1000);
    age.textContent = seconds > 2 ? `updated ${seconds} s ago` : "up to date";
  }
}

function sayOutdated() {
  disconnect();
  paused = true;
  element("connection").textContent = "The server runs another Roost now: reload this page.";
  const reload = document.createElement("a");
  reload.href = location.href;
  reload.textContent = "Reload";
  element("age").replaceChildren(reload);
}

/** Fetch the parts that change again, not more often than they can be looked at. */
async function later() {
  if (refreshing || Date.now() - refreshedAt < REFRESH_MS) {
    wantsRefresh = 1;
    return;
  }
  wantsRefresh = 0;
  refreshing = true;
  try {
    await refresh();
  } catch {
    // The stream will notice it as well.
  } finally {
    refreshing = false;
    refreshedAt = Date.now();
  }
}

/** Cells that differ are changed in place, so that nothing moves and no tick is lost.
 * @param {string} html */
function showRows(html) {
  const template = document.createElement("template");
  template.innerHTML = `<table><tbody>${html}</tbody></table>`;
  /** @type {HTMLElement[]} */
  const changed = [];
  for (const fresh of template.content.querySelectorAll("tr[id]")) {
    const row = document.getElementById(fresh.id);
    if (!row || row.cells === undefined) continue;
    // What only the clock has changed is no news.
    showTimes(row);
    showTimes(fresh);
    let differs = false;
    const cells = /** @type {HTMLTableRowElement} */ (/** @type {unknown} */ (row)).cells;
    const others = /** @type {HTMLTableRowElement} */ (fresh).cells;
    for (let i = 0; i < others.length; i++) {
      const cell = cells[i];
      const other = others[i];
      if (!cell || !other || cell.classList.contains("pick") || cell.classList.contains("more")) continue;
      if (cell.innerHTML === other.innerHTML) continue;
      if (cell.contains(document.activeElement)) continue;
      cell.replaceChildren(...other.childNodes);
      // That a job goes on printing is no news either.
      differs ||= !cell.classList.contains("silent");
    }
    for (const name of ["status", "failed", "priority"]) {
      const value = /** @type {HTMLElement} */ (fresh).dataset[name] ?? "";
      if (row.dataset[name] !== value) row.dataset[name] = value;
    }
    if (differs) changed.push(row);
  }
  for (const row of changed) row.classList.add("changed");
  setTimeout(() => {
    for (const row of changed) row.classList.remove("changed");
  }, NOTICED_MS);
  document.dispatchEvent(new CustomEvent("roost-rows"));
}

export function togglePause() {
  paused = !paused;
  const button = /** @type {HTMLButtonElement} */ (document.querySelector("[data-pause]"));
  button.setAttribute("aria-pressed", String(paused));
  /** @type {HTMLElement} */ (button.querySelector("span")).textContent = paused ? "Go on" : "Pause";
  if (paused) {
    disconnect();
    document.body.classList.remove("connected");
    element("connection").textContent = "live updates are paused";
  } else {
    connect();
    later();
  }
  showAge();
}
