/**
 * `<roost-log job="42" attempt="2">`: what a job printed; without `attempt`, all of them in order.
 *
 * Lines are known by number, from 1. Only those in sight are in the document; those around are kept
 * in pages, up to `KEPT_CHARACTERS_MAX`, and fetched again when they are wanted again. The end
 * arrives by server-sent events, which also tell how many lines there are. Following means: the end
 * stays in sight. It pauses when the reader scrolls up, and goes on at the bottom.
 *
 * The first line in sight is `#top`, a number with a fraction. A browser cannot make an element
 * higher than some million pixels; where the log would be, the scroll bar only tells roughly
 * where we are, and short moves are taken as moves by lines.
 */

import {plain, styled} from "./ansi.js";
import {button, element, refusal} from "./drawing.js";

const PAGE_LINES = 250;
const KEPT_CHARACTERS_MAX = 2_000_000;
/** Two bytes a character: 4 MB. */
const HEIGHT_MAX = 4_000_000;
const ROWS_AROUND = 20;
const FIRST_LINES = 500;
const MATCHES_MAX = 10_000;
const RETRY_MS = 1000;
const RETRY_MS_MAX = 10_000;
const FETCH_PAUSE_MS = 60;

const ERROR = /\b(?:error|fatal|exception|traceback|panic|segmentation fault)\b/i;
const WARNING = /\bwarn(?:ing)?\b/i;

/** @typedef {{first: number, texts: string[], total: number, is_open: boolean, size: number,
 *             complete: boolean}} Lines */

class RoostLog extends HTMLElement {
  static observedAttributes = ["job", "attempt"];

  /** @type {Map<number, (string | undefined)[]>} */
  #pages = new Map();
  #total = 0;
  #size = 0;
  #complete = false;
  #following = true;
  #top = 1;
  #rowHeight = 18;
  #expectedScroll = 0;
  #lastScroll = 0;
  /** @type {Map<number, {row: HTMLElement, text?: string, kind: string, marks: string}>} */
  #rows = new Map();
  /** @type {EventSource | undefined} */
  #stream;
  #retryMs = RETRY_MS;
  #retryTimer = 0;
  #fetchTimer = 0;
  #drawRequest = 0;
  /** @type {Set<number>} */
  #fetching = new Set();
  /** @type {AbortController} */
  #life = new AbortController();
  #marked = 0;
  /** @type {{pattern: string, numbers: number[], searchedTo: number, current: number, run: number}} */
  #search = {pattern: "", numbers: [], searchedTo: 0, current: -1, run: 0};
  /** @type {ReturnType<typeof parts> | undefined} */
  #parts;

  connectedCallback() {
    this.#life = new AbortController();
    if (!this.#parts) {
      this.#parts = parts();
      this.replaceChildren(this.#parts.bar, this.#parts.view);
    }
    this.#listen(this.#parts, this.#life.signal);
    this.#rowHeight = parseFloat(getComputedStyle(this.#parts.view).lineHeight) || 18;
    this.#start();
  }

  disconnectedCallback() {
    this.#life.abort();
    this.#closeStream();
    clearTimeout(this.#fetchTimer);
    cancelAnimationFrame(this.#drawRequest);
  }

  attributeChangedCallback() {
    if (this.isConnected && this.#parts) this.#start();
  }

  get #address() {
    return `/drawings/jobs/${encodeURIComponent(this.getAttribute("job") ?? "")}`;
  }

  /** @param {Record<string, string | number>} values */
  #query(values) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(values)) query.set(name, String(value));
    const attempt = this.getAttribute("attempt");
    if (attempt) query.set("attempt", attempt);
    return query;
  }

  // --- beginning ---------------------------------------------------------------------------------

  /** Show another job or attempt, from nothing. */
  #start() {
    const job = this.getAttribute("job") ?? "";
    const {view, download} = this.#shown;
    this.#closeStream();
    this.#pages.clear();
    this.#fetching.clear();
    for (const {row} of this.#rows.values()) row.remove();
    this.#rows.clear();
    [this.#total, this.#size, this.#complete, this.#top] = [0, 0, false, 1];
    this.#forgetSearch();
    view.setAttribute("aria-label", `Output of job ${job}`);
    download.href = `${this.#address}/output/download`;
    this.#marked = lineOfAddress();
    this.#follow(!this.#marked);
    this.#say("Loading…");
    this.#openStream(this.#marked ? 1 : -FIRST_LINES);
    this.#loadAttempts();
  }

  get #shown() {
    if (!this.#parts) throw new Error("not connected");
    return this.#parts;
  }

  /** @param {ReturnType<typeof parts>} shown @param {AbortSignal} signal */
  #listen(shown, signal) {
    const {view, followButton, attempts, search, previous, next} = shown;
    const on = {signal};
    view.addEventListener("scroll", () => this.#scrolled(), {signal, passive: true});
    view.addEventListener("click", (event) => this.#clicked(event), on);
    followButton.addEventListener("click", () => this.#follow(!this.#following), on);
    attempts.addEventListener("change", () => this.#pick(attempts.value), on);
    search.addEventListener("submit", (event) => this.#submitSearch(event), on);
    search.addEventListener("input", () => !shown.pattern.value && this.#forgetSearch(), on);
    next.addEventListener("click", () => this.#step(1), on);
    previous.addEventListener("click", () => this.#step(-1), on);
    document.addEventListener("keydown", (event) => this.#key(event), on);
    document.addEventListener("visibilitychange", () => this.#visibilityChanged(), on);
    window.addEventListener("hashchange", () => this.#goToLine(lineOfAddress()), on);
    const resized = new ResizeObserver(() => this.#reach(this.#following ? Infinity : this.#top));
    resized.observe(view);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  async #loadAttempts() {
    const {attempts} = this.#shown;
    const response = await this.#ask(`${this.#address}/attempts`);
    if (!response?.ok) return;
    /** @type {{number: number, nodes: string[], outcome: string}[]} */
    const found = await response.json();
    const choices = found.map(({number, nodes, outcome}) =>
      new Option(`Attempt ${number} · ${nodes[0] ?? "no node"} · ${outcome}`, String(number)));
    attempts.replaceChildren(new Option("All attempts", ""), ...choices);
    attempts.value = this.getAttribute("attempt") ?? "";
    attempts.hidden = found.length < 2 && !attempts.value;
  }

  /** @param {string} attempt */
  #pick(attempt) {
    const address = new URL(location.href);
    address.hash = "";
    if (attempt) address.searchParams.set("attempt", attempt);
    else address.searchParams.delete("attempt");
    history.replaceState(history.state, "", address);
    if (attempt) this.setAttribute("attempt", attempt);
    else this.removeAttribute("attempt");
  }

  /** @param {string} path @returns {Promise<Response | null>} null when the server is not there */
  async #ask(path) {
    try {
      return await fetch(path, {signal: this.#life.signal, headers: {accept: "application/json"}});
    } catch {
      return null;
    }
  }

  // --- the end of the log, as it grows -----------------------------------------------------------

  /** @param {number} first */
  #openStream(first) {
    this.#closeStream();
    if (document.hidden && this.#total) return;
    const stream = new EventSource(`${this.#address}/output/follow?${this.#query({first})}`);
    this.#stream = stream;
    stream.addEventListener("lines", (event) => {
      this.#retryMs = RETRY_MS;
      this.#receive(JSON.parse(/** @type {MessageEvent} */ (event).data));
    });
    stream.addEventListener("end", () => {
      this.#complete = true;
      this.#closeStream();
      this.#tell();
      this.#loadAttempts();
    });
    stream.addEventListener("error", () => {
      this.#say("Connection lost, trying again…");
      // A refusal ends it for good; a broken connection is tried again by the browser.
      if (stream.readyState === EventSource.CLOSED) this.#retry();
    });
  }

  #closeStream() {
    clearTimeout(this.#retryTimer);
    this.#stream?.close();
    this.#stream = undefined;
  }

  async #retry() {
    this.#closeStream();
    const response = await this.#ask(`${this.#address}/output?${this.#query({count: 0})}`);
    if (response && response.status === 404) {
      this.#say(await refusal(response));
      return;
    }
    this.#retryTimer = setTimeout(() => this.#openStream(this.#nextLine), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
  }

  /** Where to go on: the last line may not have been complete. */
  get #nextLine() {
    return this.#total || -FIRST_LINES;
  }

  #visibilityChanged() {
    if (this.#complete) return;
    if (document.hidden) this.#closeStream();
    else this.#openStream(this.#nextLine);
  }

  /** @param {Lines} lines */
  #receive(lines) {
    this.#keep(lines);
    if (this.#total && this.#top > this.#topMax) this.#top = this.#topMax;
    this.#tell();
    if (this.#marked) {
      this.#goToLine(this.#marked);
      this.#marked = 0;
    } else {
      this.#reach(this.#following ? Infinity : this.#top);
    }
  }

  /** @param {Lines} lines */
  #keep(lines) {
    this.#total = Math.max(lines.total, this.#total);
    this.#size = Math.max(lines.size, this.#size);
    this.#complete = lines.complete;
    lines.texts.forEach((text, i) => {
      const line = lines.first + i;
      const number = Math.floor((line - 1) / PAGE_LINES);
      let page = this.#pages.get(number);
      if (!page) this.#pages.set(number, (page = []));
      page[(line - 1) % PAGE_LINES] = text;
    });
    this.#forgetFarPages();
  }

  #forgetFarPages() {
    const here = Math.floor((this.#top - 1) / PAGE_LINES);
    const pages = [...this.#pages.keys()].sort((a, b) => Math.abs(a - here) - Math.abs(b - here));
    let kept = 0;
    for (const number of pages) {
      for (const text of this.#pages.get(number) ?? []) kept += (text?.length ?? 0) + 8;
      if (kept > KEPT_CHARACTERS_MAX && Math.abs(number - here) > 1) this.#pages.delete(number);
    }
  }

  /** @param {number} line */
  #text(line) {
    return this.#pages.get(Math.floor((line - 1) / PAGE_LINES))?.[(line - 1) % PAGE_LINES];
  }

  // --- scrolling ---------------------------------------------------------------------------------

  /** Lines that fit, with a fraction. */
  get #fitting() {
    return this.#shown.view.clientHeight / this.#rowHeight;
  }

  /** The largest `#top`: the last line is at the bottom. */
  get #topMax() {
    return Math.max(1, this.#total - this.#fitting + 1);
  }

  get #isScaled() {
    return this.#total * this.#rowHeight > HEIGHT_MAX;
  }

  /** Bring a line to the top, as far as there are lines below it. @param {number} top */
  #reach(top) {
    const {view, spacer} = this.#shown;
    const height = Math.min(this.#total * this.#rowHeight, HEIGHT_MAX);
    spacer.style.height = `${height}px`;
    this.#top = Math.min(Math.max(top, 1), this.#topMax);
    const room = Math.max(0, height - view.clientHeight);
    const share = this.#topMax > 1 ? (this.#top - 1) / (this.#topMax - 1) : 0;
    view.scrollTop = this.#top >= this.#topMax ? room : share * room;
    this.#expectedScroll = this.#lastScroll = view.scrollTop;
    this.#draw();
  }

  #scrolled() {
    const {view} = this.#shown;
    const at = view.scrollTop;
    if (Math.abs(at - this.#expectedScroll) < 1) return;
    this.#expectedScroll = -1;
    const room = view.scrollHeight - view.clientHeight;
    const moved = at - this.#lastScroll;
    this.#lastScroll = at;
    const before = this.#top;
    if (at >= room - 1) this.#top = this.#topMax;
    else if (at <= 0) this.#top = 1;
    else if (this.#isScaled && Math.abs(moved) < 2 * view.clientHeight) {
      this.#top = Math.min(Math.max(this.#top + moved / this.#rowHeight, 1), this.#topMax);
    } else this.#top = 1 + (at / room) * (this.#topMax - 1);
    if (this.#top < before && this.#following) this.#follow(false);
    else if (this.#top >= this.#topMax - 0.5 && !this.#complete) this.#follow(true);
    this.#draw();
  }

  /** @param {boolean} following */
  #follow(following) {
    this.#following = following;
    const {followButton} = this.#shown;
    followButton.setAttribute("aria-pressed", String(following));
    if (following && this.#total) this.#reach(Infinity);
  }

  /** @param {number} line */
  #goToLine(line) {
    if (!line || !this.#total) return;
    this.#follow(false);
    this.#reach(line - Math.floor(this.#fitting / 3));
  }

  // --- drawing -----------------------------------------------------------------------------------

  #draw() {
    if (!this.#drawRequest) {
      this.#drawRequest = requestAnimationFrame(() => {
        this.#drawRequest = 0;
        this.#drawNow();
      });
    }
  }

  #drawNow() {
    const {layer, spacer} = this.#shown;
    const first = Math.max(1, Math.floor(this.#top) - ROWS_AROUND);
    const last = Math.min(this.#total, Math.ceil(this.#top + this.#fitting) + ROWS_AROUND);
    const goal = lineOfAddress();
    for (const [line, {row}] of this.#rows) {
      if (line < first || line > last) {
        row.remove();
        this.#rows.delete(line);
      }
    }
    let isMissing = false;
    /** @type {HTMLElement | undefined} */
    let above;
    for (let line = first; line <= last; line++) {
      const text = this.#text(line);
      isMissing ||= text === undefined;
      let shown = this.#rows.get(line);
      if (!shown || shown.text !== text) {
        const row = rowOf(line, text, this.#query({}).toString());
        shown?.row.remove();
        // In the order of their numbers, for those who select or listen.
        if (above) above.after(row);
        else layer.prepend(row);
        this.#rows.set(line, (shown = {row, text, kind: kindOf(text), marks: ""}));
      }
      above = shown.row;
      const marks = shown.kind + this.#marksOf(line, goal);
      if (shown.marks !== marks) {
        shown.row.className = `roost-log-row${marks}`;
        shown.marks = marks;
      }
      shown.row.style.transform = `translateY(${(line - this.#top) * this.#rowHeight}px)`;
    }
    spacer.style.setProperty("--digits", String(String(this.#total).length));
    // Rows do not take part in the layout; the longest seen makes the width.
    const width = Math.max(...[...this.#rows.values()].map(({row}) => row.scrollWidth), 0);
    if (width > spacer.clientWidth) spacer.style.minWidth = `${width}px`;
    if (isMissing) this.#fetchSoon();
  }

  /** @param {number} line @param {number} goal */
  #marksOf(line, goal) {
    const {numbers, current} = this.#search;
    let marks = "";
    if (line === goal) marks += " is-goal";
    if (numbers.length) {
      const at = firstFrom(numbers, line);
      if (numbers[at] === line) marks += at === current ? " is-match is-current" : " is-match";
    }
    return marks;
  }

  #fetchSoon() {
    clearTimeout(this.#fetchTimer);
    this.#fetchTimer = setTimeout(() => this.#fetchMissing(), FETCH_PAUSE_MS);
  }

  #fetchMissing() {
    const first = Math.max(1, Math.floor(this.#top) - ROWS_AROUND);
    const last = Math.min(this.#total, Math.ceil(this.#top + this.#fitting) + ROWS_AROUND);
    for (let line = first; line <= last; line++) {
      const page = Math.floor((line - 1) / PAGE_LINES);
      if (this.#text(line) === undefined && !this.#fetching.has(page)) this.#fetchPage(page);
    }
  }

  /** @param {number} page */
  async #fetchPage(page) {
    this.#fetching.add(page);
    const query = this.#query({first: page * PAGE_LINES + 1, count: PAGE_LINES});
    const response = await this.#ask(`${this.#address}/output?${query}`);
    // Meanwhile another attempt may have been picked.
    const isWanted = query.get("attempt") === this.getAttribute("attempt");
    if (response?.ok && isWanted) {
      this.#keep(await response.json());
      this.#fetching.delete(page);
      this.#draw();
    } else {
      setTimeout(() => {
        this.#fetching.delete(page);
        if (this.isConnected) this.#draw();
      }, RETRY_MS);
    }
  }

  /** @param {string} text */
  #say(text) {
    this.#shown.status.textContent = text;
  }

  #tell() {
    const lines = this.#total.toLocaleString();
    if (this.#total) this.#say(`${lines} lines · ${sizeOf(this.#size)}${this.#complete ? "" : " · live"}`);
    else this.#say(this.#complete ? "It printed nothing." : "Nothing printed yet.");
  }

  // --- searching ---------------------------------------------------------------------------------

  #forgetSearch() {
    const run = this.#search.run + 1;
    this.#search = {pattern: "", numbers: [], searchedTo: 0, current: -1, run};
    this.#tellMatches("");
    if (this.#total) this.#draw();
  }

  /** @param {Event} event */
  #submitSearch(event) {
    event.preventDefault();
    const pattern = this.#shown.pattern.value;
    if (!pattern) return;
    if (pattern === this.#search.pattern) {
      this.#step(1);
      return;
    }
    this.#forgetSearch();
    this.#search.pattern = pattern;
    // The end is in sight first, so the last match is the nearest.
    this.#searchOn().then(() => this.#search.current < 0 && this.#step(this.#following ? -1 : 1));
  }

  /** Search the lines that have not been looked at yet. */
  async #searchOn() {
    const search = this.#search;
    while (search.searchedTo < this.#total && search.numbers.length < MATCHES_MAX) {
      const from = search.searchedTo + 1;
      this.#tellMatches(from > 1 ? ` in ${search.searchedTo.toLocaleString()} lines…` : "Searching…");
      const query = this.#query({pattern: search.pattern, first: from});
      const response = await this.#ask(`${this.#address}/output/search?${query}`);
      if (this.#search !== search) return;
      if (!response?.ok) {
        const message = response ? await refusal(response) : "The server does not answer.";
        this.#tellMatches(message);
        return;
      }
      /** @type {{numbers: number[], searched_to: number}} */
      const found = await response.json();
      search.numbers.push(...found.numbers);
      if (found.searched_to < from) {
        this.#tellMatches("The pattern takes too long.");
        return;
      }
      search.searchedTo = found.searched_to;
      this.#draw();
    }
    this.#tellMatches();
  }

  /** To the next match (1), or the previous (-1). @param {1 | -1} direction */
  async #step(direction) {
    const search = this.#search;
    if (!search.pattern) return;
    if (direction > 0 && search.current === search.numbers.length - 1) await this.#searchOn();
    const count = search.numbers.length;
    if (!count) return;
    if (search.current < 0) {
      const below = firstFrom(search.numbers, Math.floor(this.#top));
      search.current = direction > 0 ? below % count : firstFrom(search.numbers, this.#total + 1) - 1;
    } else search.current = (search.current + direction + count) % count;
    this.#goToLine(search.numbers[search.current]);
    this.#tellMatches();
  }

  /** @param {string} [text] */
  #tellMatches(text) {
    const {found, previous, next} = this.#shown;
    const {numbers, current} = this.#search;
    const more = numbers.length >= MATCHES_MAX ? "+" : "";
    const count = `${numbers.length.toLocaleString()}${more}`;
    if (text === undefined) text = current < 0 ? "" : `${(current + 1).toLocaleString()} of ${count}`;
    else if (text.startsWith(" ")) text = count + text;
    found.textContent = text || (this.#search.pattern ? (numbers.length ? count : "No match") : "");
    previous.disabled = next.disabled = !numbers.length;
  }

  // --- keys and clicks ---------------------------------------------------------------------------

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    const target = /** @type {Element} */ (event.target);
    if (event.key === "Escape" && target === this.#shown.pattern) {
      event.preventDefault();
      this.#shown.view.focus();
      return;
    }
    if (target.closest("input, textarea, select, [contenteditable]") || !this.checkVisibility()) return;
    const isInside = this.contains(target);
    if (event.key === "f") this.#follow(!this.#following);
    else if (event.key === "n") this.#step(1);
    else if (event.key === "N") this.#step(-1);
    else if (event.key === "/" && isInside) this.#shown.pattern.focus();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }

  /** @param {MouseEvent} event */
  async #clicked(event) {
    const target = /** @type {Element} */ (event.target);
    const row = target.closest(".roost-log-row");
    if (!(row instanceof HTMLElement)) return;
    if (target.closest(".roost-log-copy")) {
      await copied(plain(this.#text(Number(row.dataset.line)) ?? ""));
      this.#say(`Line ${row.dataset.line} copied.`);
    } else if (target.closest(".roost-log-number")) {
      event.preventDefault();
      const link = /** @type {HTMLAnchorElement} */ (target.closest("a"));
      history.replaceState(history.state, "", link.href);
      this.#follow(false);
      this.#draw();
    }
  }
}

/** The controls and the scrolled area. */
function parts() {
  const bar = element("div", "roost-log-bar");
  const attempts = element("select", "roost-log-attempts");
  attempts.setAttribute("aria-label", "Attempt");
  attempts.hidden = true;
  const search = element("form", "roost-log-search");
  search.setAttribute("role", "search");
  const pattern = element("input");
  pattern.type = "search";
  pattern.placeholder = "Regular expression";
  pattern.setAttribute("aria-label", "Search the output by a regular expression");
  pattern.maxLength = 500;
  const previous = button("Previous", "Previous match (N)");
  const next = button("Next", "Next match (n)");
  previous.disabled = next.disabled = true;
  const found = element("span", "roost-log-found");
  found.setAttribute("role", "status");
  search.append(pattern, previous, next, found);
  const status = element("span", "roost-log-status");
  status.setAttribute("role", "status");
  const followButton = button("Follow", "Keep the end in sight (f)");
  const download = element("a", "roost-log-download");
  download.textContent = "Download";
  download.setAttribute("download", "");
  bar.append(attempts, search, status, followButton, download);
  const view = element("div", "roost-log-view");
  view.tabIndex = 0;
  view.setAttribute("role", "log");
  view.setAttribute("aria-live", "off");
  const spacer = element("div", "roost-log-spacer");
  const layer = element("div", "roost-log-layer");
  spacer.append(layer);
  view.append(spacer);
  return {
    bar, attempts, search, pattern, previous, next, found, status, followButton, download, view,
    spacer, layer,
  };
}

/** Whether a line tells of trouble, as a class. @param {string | undefined} text */
function kindOf(text) {
  const words = plain(text ?? "");
  return ERROR.test(words) ? " is-error" : WARNING.test(words) ? " is-warning" : "";
}

/** @param {number} line @param {string | undefined} text @param {string} query */
function rowOf(line, text, query) {
  const row = element("div", "roost-log-row");
  row.dataset.line = String(line);
  const number = element("a", "roost-log-number");
  number.href = `${location.pathname}${query ? `?${query}` : ""}#L${line}`;
  number.textContent = String(line);
  number.tabIndex = -1;
  number.title = "Link to this line";
  const copy = button("Copy", "Copy this line");
  copy.classList.add("roost-log-copy");
  copy.tabIndex = -1;
  const code = element("code", "roost-log-text");
  if (text !== undefined) code.append(...styled(text));
  row.append(number, copy, code);
  return row;
}

/** The line that the address points to, 0 for none. */
function lineOfAddress() {
  return Number(/^#L([1-9]\d{0,14})$/.exec(location.hash)?.[1] ?? 0);
}

/** Where in ascending numbers the first is that is not below. @param {number[]} numbers @param {number} least */
function firstFrom(numbers, least) {
  let [low, high] = [0, numbers.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** @param {number} bytes */
function sizeOf(bytes) {
  const unit = Math.min(3, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const amount = bytes / 1000 ** unit;
  return `${amount.toFixed(unit && amount < 99.5 ? 1 : 0)} ${["B", "KB", "MB", "GB"][unit]}`;
}

/** Also over plain HTTP, where there is no `navigator.clipboard`. @param {string} text */
async function copied(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "roost-log-clipboard";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

customElements.define("roost-log", RoostLog);
