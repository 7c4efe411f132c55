// Forms that are answered in place, questions as dialogs, and copying. Without this script the same
// forms lead to the same pages.

import { showPage } from "./morph.js";

const dialog = () => /** @type {HTMLDialogElement} */ (document.getElementById("dialog"));

export function startForms() {
  document.addEventListener("submit", (event) => {
    const form = /** @type {HTMLFormElement} */ (event.target);
    if (!("quiet" in form.dataset)) return;
    event.preventDefault();
    send(form, /** @type {HTMLElement | null} */ (event.submitter));
  });
  document.addEventListener("click", (event) => {
    const target = /** @type {Element} */ (event.target);
    if (target.closest("#dialog [data-close]")) {
      event.preventDefault();
      dialog().close();
    }
    const copy = /** @type {HTMLElement | null} */ (target.closest("[data-copy]"));
    if (copy) copyText(copy, copy.dataset.copy ?? "");
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(target)) menu.removeAttribute("open");
    }
  });
}

/** @param {HTMLFormElement} form @param {HTMLElement | null} submitter */
export async function send(form, submitter) {
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form, submitter)) body.append(name, String(value));
  const address = submitter?.getAttribute("formaction") ?? form.getAttribute("action") ?? location.href;
  // Its buttons stay as they are: one that is disabled loses the focus.
  if (form.hasAttribute("aria-busy")) return;
  form.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(address, { method: "POST", body });
    const html = await response.text();
    if (html.includes('id="question"')) return ask(html);
    dialog().close();
    if (!html.includes('id="main"')) {
      // Somebody else's answer, such as a proxy's; ours are short and say why.
      const text = response.headers.get("content-type")?.startsWith("text/plain") ? html : "";
      return say(text.slice(0, 400) || `This may not have been done: the answer has the status ${response.status}.`);
    }
    if (response.url && new URL(response.url).pathname !== address) history.replaceState(null, "", response.url);
    await showPage(html, { whole: true });
    // What was refused is still there to be put right.
    if (response.ok && !document.querySelector("#main > .said.refused")) {
      if ("reset" in form.dataset) form.reset();
      document.dispatchEvent(new CustomEvent("roost-acted"));
    }
    scrollTo({ top: 0 });
  } catch {
    say("The server did not answer, so this may not have been done. Look again when it is back.");
  } finally {
    form.removeAttribute("aria-busy");
  }
}

/** @param {string} html a page with a question */
function ask(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  const question = page.getElementById("question");
  if (!question) return;
  const box = dialog();
  box.setAttribute("aria-label", question.querySelector("h1")?.textContent ?? "Question");
  box.replaceChildren(question);
  box.showModal();
  /** @type {HTMLElement | null} */ (box.querySelector("[autofocus]"))?.focus();
}

/** @param {string} text */
export function say(text) {
  const main = /** @type {HTMLElement} */ (document.getElementById("main"));
  main.querySelector(":scope > .said")?.remove();
  const said = document.createElement("p");
  said.className = "said refused";
  said.setAttribute("role", "status");
  said.textContent = text;
  main.prepend(said);
}

/** Also where the clipboard is only for pages with TLS. @param {HTMLElement} button @param {string} text */
async function copyText(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    (button.closest("dialog") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("copied");
  setTimeout(() => button.classList.remove("copied"), 1200);
}
