/**
 * `<roost-log job="42" attempt="2">`: what a job printed; without `attempt`, all of them in order.
 *
 * Lines are known by number, from 1. Only those in sight are in the document; those around are kept
 * in pages, up to some megabytes, and fetched again when they are wanted again. The end arrives by
 * server-sent events, which also tell how many lines there are. Following means: the end stays in
 * sight. It pauses when the reader scrolls up, and goes on at the bottom.
 *
 * The page brings the last lines along. They are shown at once, without numbers: those are known
 * when the stream has answered, which for a log that nobody has looked at yet takes as long as it
 * takes to count its lines.
 *
 * The first line in sight is `#top`, a number with a fraction. A browser cannot make an element
 * higher than some million pixels; where the log would be, the scroll bar only tells roughly
 * where we are, and short moves are taken as moves by lines.
 */

import { plain } from "./ansi.js";
import { refusal } from "./drawing.js";
import { Pages } from "./log-pages.js";
import { copied, kindOf, lineOfAddress, MARKS, parts, rowOf, sizeOf } from "./log-parts.js";
import { Search } from "./log-search.js";
import { store, stored } from "./stored.js";

const HEIGHT_MAX = 4_000_000;
/** In heights of the view: a wheel moves by less at a time, who drags the scroll bar by more. */
const LOCAL_MOVE_MAX = 10;
const SETTLE_MS = 200;
const ROWS_AROUND = 20;
const FIRST_LINES = 500;
const RETRY_MS = 1000;
const RETRY_MS_MAX = 10_000;
const FETCH_PAUSE_MS = 60;
const TIMES_SHOWN = "roost-log-times";

/** @typedef {{first: number, texts: string[], total: number, is_open: boolean, size: number,
 *             complete: boolean, times?: number[]}} Lines */

class RoostLog extends HTMLElement {
  static observedAttributes = ["job", "attempt"];

  #pages = new Pages();
  #total = 0;
  #size = 0;
  #complete = false;
  #following = true;
  /** Lines are shown that the page brought along, under numbers that are not theirs. */
  #isFirstLook = false;
  #top = 1;
  #rowHeight = 18;
  #expectedScroll = 0;
  #lastScroll = 0;
  /** @type {Map<number, {row: HTMLElement, text?: string, time: number, kind: string, marks: string}>} */
  #rows = new Map();
  /** @type {EventSource | undefined} */
  #stream;
  #retryMs = RETRY_MS;
  #retryTimer = 0;
  #fetchTimer = 0;
  #settleTimer = 0;
  #drawRequest = 0;
  /** @type {Set<number>} */
  #fetching = new Set();
  /** @type {AbortController} */
  #life = new AbortController();
  #marked = 0;
  #previousKey = "";
  #withTimes = stored(TIMES_SHOWN) === "1";
  /** @type {Search | null} */
  #search = null;
  /** @type {ReturnType<typeof parts> | undefined} */
  #parts;

  connectedCallback() {
    this.#life = new AbortController();
    const brought = this.querySelector("pre[data-last-lines]")?.textContent?.split("\n") ?? [];
    if (!this.#parts) {
      this.#parts = parts();
      this.replaceChildren(this.#parts.bar, this.#parts.view);
    }
    this.#listen(this.#parts, this.#life.signal);
    this.#rowHeight = parseFloat(getComputedStyle(this.#parts.view).lineHeight) || 18;
    this.#start();
    if (brought.length && !this.#marked) this.#showFirst(brought);
  }

  disconnectedCallback() {
    this.#life.abort();
    this.#closeStream();
    clearTimeout(this.#fetchTimer);
    clearTimeout(this.#settleTimer);
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

  /** Of lines, with the times that they came if these are shown. @param {Record<string, string | number>} values */
  #linesQuery(values) {
    const query = this.#query(values);
    if (this.#withTimes) query.set("times", "1");
    return query;
  }

  // --- beginning ---------------------------------------------------------------------------------

  /** Show another job or attempt, from nothing. */
  #start() {
    const job = this.getAttribute("job") ?? "";
    const { view, download } = this.#shown;
    this.#closeStream();
    this.#forgetLines();
    this.#forgetSearch();
    view.setAttribute("aria-label", `Output of job ${job}`);
    download.href = `${this.#address}/output/download`;
    this.#marked = lineOfAddress();
    this.#follow(!this.#marked);
    this.#say("Loading…");
    this.#openStream(this.#marked ? 1 : -FIRST_LINES);
    this.#loadAttempts();
  }

  #forgetLines() {
    this.#pages.clear();
    this.#fetching.clear();
    for (const { row } of this.#rows.values()) row.remove();
    this.#rows.clear();
    [this.#total, this.#size, this.#complete, this.#top] = [0, 0, false, 1];
    this.#setFirstLook(false);
  }

  /** @param {string[]} texts the last lines, until they come with their numbers */
  #showFirst(texts) {
    this.#setFirstLook(true);
    this.#keep({ first: 1, texts, total: texts.length, is_open: false, size: 0, complete: false });
    this.#reach(Infinity);
  }

  /** The lines that were shown without numbers have some now. @param {Lines} lines */
  #number(lines) {
    const top = lines.total - this.#total + this.#top;
    this.#forgetLines();
    this.#keep(lines);
    this.#top = Math.max(top, 1);
  }

  /** @param {boolean} isFirstLook */
  #setFirstLook(isFirstLook) {
    this.#isFirstLook = isFirstLook;
    this.#shown.view.classList.toggle("is-first-look", isFirstLook);
  }

  get #shown() {
    if (!this.#parts) throw new Error("not connected");
    return this.#parts;
  }

  /** @param {ReturnType<typeof parts>} shown @param {AbortSignal} signal */
  #listen(shown, signal) {
    const { view, followButton, timesButton, attempts, search, marks, previous, next } = shown;
    const on = { signal };
    view.addEventListener("scroll", () => this.#scrolled(), { signal, passive: true });
    view.addEventListener("click", (event) => this.#clicked(event), on);
    followButton.addEventListener("click", () => this.#follow(!this.#following), on);
    timesButton.setAttribute("aria-pressed", String(this.#withTimes));
    timesButton.addEventListener("click", () => this.#showTimes(!this.#withTimes), on);
    marks.addEventListener("change", () => this.#findMarks(marks.value), on);
    attempts.addEventListener("change", () => this.#pick(attempts.value), on);
    search.addEventListener("submit", (event) => this.#submitSearch(event), on);
    shown.pattern.addEventListener("input", () => !shown.pattern.value && this.#forgetSearch(), on);
    next.addEventListener("click", () => this.#step(1), on);
    previous.addEventListener("click", () => this.#step(-1), on);
    // Keys of its own come before those of the page.
    this.addEventListener("keydown", (event) => this.#key(event, true), on);
    document.addEventListener("keydown", (event) => this.#key(event, false), on);
    document.addEventListener("visibilitychange", () => this.#visibilityChanged(), on);
    window.addEventListener("hashchange", () => this.#goToLine(lineOfAddress()), on);
    const resized = new ResizeObserver(() => this.#reach(this.#following ? Infinity : this.#top));
    resized.observe(view);
    signal.addEventListener("abort", () => resized.disconnect());
  }

  async #loadAttempts() {
    const { attempts } = this.#shown;
    const response = await this.#ask(`${this.#address}/attempts`);
    if (!response?.ok) return;
    /** @type {{number: number, nodes: string[], outcome: string}[]} */
    const found = await response.json();
    const choices = found.map(
      ({ number, nodes, outcome }) =>
        new Option(`Attempt ${number} · ${nodes[0] ?? "no node"} · ${outcome}`, String(number)),
    );
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
      return await fetch(path, { signal: this.#life.signal, headers: { accept: "application/json" } });
    } catch {
      return null;
    }
  }

  // --- the end of the log, as it grows -----------------------------------------------------------

  /** @param {number} first */
  #openStream(first) {
    this.#closeStream();
    if (document.hidden && this.#total) return;
    const stream = new EventSource(`${this.#address}/output/follow?${this.#linesQuery({ first })}`);
    this.#stream = stream;
    stream.addEventListener("lines", (event) => {
      this.#retryMs = RETRY_MS;
      this.#receive(JSON.parse(/** @type {MessageEvent} */ (event).data));
      // Of a page that nobody looks at the beginning is enough. A browser has six connections for
      // all pages of a server: as many logs that are opened behind each other would take them all.
      if (document.hidden) this.#closeStream();
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
    const response = await this.#ask(`${this.#address}/output?${this.#query({ count: 0 })}`);
    if (response && response.status === 404) {
      this.#say(await refusal(response));
      return;
    }
    this.#retryTimer = setTimeout(() => this.#openStream(this.#nextLine), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, RETRY_MS_MAX);
  }

  /** Where to go on: the last line may not have been complete. */
  get #nextLine() {
    return (!this.#isFirstLook && this.#total) || -FIRST_LINES;
  }

  #visibilityChanged() {
    if (this.#complete) return;
    if (document.hidden) this.#closeStream();
    else this.#openStream(this.#nextLine);
  }

  /** @param {Lines} lines */
  #receive(lines) {
    if (this.#isFirstLook) this.#number(lines);
    else this.#keep(lines);
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
    this.#pages.keep(lines.first, lines.texts, this.#top, lines.times);
  }

  // --- scrolling ---------------------------------------------------------------------------------

  /** Lines that fit, with a fraction. */
  get #fitting() {
    return this.#shown.view.clientHeight / this.#rowHeight;
  }

  /** The first and the last line to be drawn: those in sight, and some around. */
  get #around() {
    const first = Math.max(1, Math.floor(this.#top) - ROWS_AROUND);
    const last = Math.min(this.#total, Math.ceil(this.#top + this.#fitting) + ROWS_AROUND);
    return [first, last];
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
    const { view, spacer } = this.#shown;
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
    const { view } = this.#shown;
    const at = view.scrollTop;
    if (Math.abs(at - this.#expectedScroll) < 1) return;
    this.#expectedScroll = -1;
    const room = view.scrollHeight - view.clientHeight;
    const moved = at - this.#lastScroll;
    this.#lastScroll = at;
    const before = this.#top;
    if (this.#isScaled && Math.abs(moved) < LOCAL_MOVE_MAX * view.clientHeight) {
      this.#top = Math.min(Math.max(before + moved / this.#rowHeight, 1), this.#topMax);
      // The scroll bar tells something else now; set it right when the hand is off it.
      clearTimeout(this.#settleTimer);
      this.#settleTimer = setTimeout(() => this.#reach(this.#top), SETTLE_MS);
    } else if (at >= room - 1) this.#top = this.#topMax;
    else this.#top = 1 + (at / room) * (this.#topMax - 1);
    if (this.#top < before && this.#following) this.#follow(false);
    else if (this.#top >= this.#topMax - 0.5 && !this.#complete) this.#follow(true);
    this.#draw();
  }

  /** @param {boolean} following */
  #follow(following) {
    this.#following = following;
    const { followButton } = this.#shown;
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
    const { layer, spacer } = this.#shown;
    const [first, last] = this.#around;
    const goal = lineOfAddress();
    for (const [line, { row }] of this.#rows) {
      if (line < first || line > last) {
        row.remove();
        this.#rows.delete(line);
      }
    }
    let isMissing = false;
    /** @type {HTMLElement | undefined} */
    let above;
    for (let line = first; line <= last; line++) {
      const text = this.#pages.text(line);
      isMissing ||= text === undefined;
      let shown = this.#rows.get(line);
      const time = this.#withTimes ? this.#pages.time(line) : 0;
      if (!shown || shown.text !== text || shown.time !== time) {
        const kind = kindOf(text);
        const seconds = this.#withTimes ? time : null;
        const row = rowOf(line, text, kind, seconds, this.#query({}).toString());
        shown?.row.remove();
        // In the order of their numbers, for those who select or listen.
        if (above) above.after(row);
        else layer.prepend(row);
        this.#rows.set(line, (shown = { row, text, time, kind: kind && ` is-${kind}`, marks: "" }));
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
    const width = Math.max(...[...this.#rows.values()].map(({ row }) => row.scrollWidth), 0);
    if (width > spacer.clientWidth) spacer.style.minWidth = `${width}px`;
    if (isMissing) this.#fetchSoon();
  }

  /** @param {number} line @param {number} goal */
  #marksOf(line, goal) {
    const marks = line === goal ? " is-goal" : "";
    return marks + (this.#search?.marks(line) ?? "");
  }

  #fetchSoon() {
    clearTimeout(this.#fetchTimer);
    this.#fetchTimer = setTimeout(() => this.#fetchMissing(), FETCH_PAUSE_MS);
  }

  #fetchMissing() {
    const [begin, end] = this.#around;
    for (let line = begin; line <= end; line++) {
      const first = Pages.firstOf(line);
      if (this.#pages.text(line) === undefined && !this.#fetching.has(first)) this.#fetchPage(first);
    }
  }

  /** @param {number} first */
  async #fetchPage(first) {
    this.#fetching.add(first);
    const query = this.#linesQuery({ first, count: Pages.LINES });
    const response = await this.#ask(`${this.#address}/output?${query}`);
    // Meanwhile another attempt may have been picked.
    const isWanted =
      query.get("attempt") === this.getAttribute("attempt") && query.has("times") === this.#withTimes;
    if (response?.ok && isWanted) {
      this.#keep(await response.json());
      this.#fetching.delete(first);
      this.#draw();
    } else {
      setTimeout(() => {
        this.#fetching.delete(first);
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

  /** Show when each line came, or not. @param {boolean} shown */
  #showTimes(shown) {
    this.#withTimes = shown;
    store(TIMES_SHOWN, shown ? "1" : "");
    this.#shown.timesButton.setAttribute("aria-pressed", String(shown));
    for (const { row } of this.#rows.values()) row.remove();
    this.#rows.clear();
    if (shown) {
      // What is here came without.
      this.#pages.clear();
      this.#fetching.clear();
    }
    if (!this.#complete) this.#openStream(this.#nextLine);
    this.#draw();
  }

  // --- searching ---------------------------------------------------------------------------------

  #forgetSearch() {
    this.#search = null;
    this.#shown.marks.value = "";
    this.#tellMatches();
  }

  /** @param {Event} event */
  async #submitSearch(event) {
    event.preventDefault();
    const pattern = this.#shown.pattern.value;
    if (pattern === this.#search?.pattern) {
      this.#step(1);
      return;
    }
    this.#forgetSearch();
    if (pattern) await this.#find(pattern);
  }

  /** Go through the lines that are marked for something. @param {string} kind */
  async #findMarks(kind) {
    this.#shown.pattern.value = "";
    this.#forgetSearch();
    if (!(kind in MARKS)) return;
    this.#shown.marks.value = kind;
    await this.#find(MARKS[/** @type {keyof typeof MARKS} */ (kind)]);
  }

  /** @param {string} pattern */
  async #find(pattern) {
    const search = new Search(pattern, (first) =>
      this.#ask(`${this.#address}/output/search?${this.#query({ pattern, first })}`),
    );
    this.#search = search;
    await search.run(this.#total, () => this.#tellMatches(search));
    // While the end is in sight, the last match is the nearest.
    if (search === this.#search && !search.isPlaced) this.#step(this.#following ? -1 : 1);
  }

  /** To the next match (1), or the previous (-1). @param {1 | -1} direction */
  async #step(direction) {
    const search = this.#search;
    if (!search) return;
    if (direction > 0 && search.isPlaced && search.isAtLast) {
      // More may have been printed since.
      await search.run(this.#total, () => this.#tellMatches(search));
    }
    if (search !== this.#search || !search.hasMatches) return;
    const line = search.step(direction, this.#following ? this.#total : Math.ceil(this.#top));
    // The address is the link to what is looked at.
    history.replaceState(history.state, "", `#L${line}`);
    this.#goToLine(line);
    this.#tellMatches(search);
  }

  /** @param {Search | null} search that there is news of; of one that was given up, none is told */
  #tellMatches(search = null) {
    if (search !== this.#search) return;
    const { found, previous, next } = this.#shown;
    found.textContent = search?.words ?? "";
    previous.disabled = next.disabled = !search?.hasMatches;
    this.#draw();
  }

  // --- keys and clicks ---------------------------------------------------------------------------

  /** @param {KeyboardEvent} event @param {boolean} isInside */
  #key(event, isInside) {
    const target = /** @type {Element} */ (event.target);
    if (!isInside && this.contains(target)) return;
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape" && target === this.#shown.pattern) {
      event.preventDefault();
      this.#shown.view.focus();
      return;
    }
    if (target.closest("input, textarea, select, [contenteditable]") || !this.checkVisibility()) return;
    // `g n` goes to the nodes.
    const isGoing = this.#previousKey === "g";
    this.#previousKey = event.key;
    if (isGoing) return;
    if (event.key === "f") this.#follow(!this.#following);
    else if (event.key === "n" && this.#search) this.#step(1);
    else if (event.key === "N" && this.#search) this.#step(-1);
    else if (event.key === "m" || event.key === "M") {
      if (!this.#shown.marks.value) this.#findMarks("error");
      else this.#step(event.key === "m" ? 1 : -1);
    } else if (event.key === "i") this.#showTimes(!this.#withTimes);
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
      await copied(plain(this.#pages.text(Number(row.dataset.line)) ?? ""));
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

customElements.define("roost-log", RoostLog);
