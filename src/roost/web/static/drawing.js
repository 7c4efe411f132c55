/**
 * What the drawn elements share: asking the server now and then, drawing once per frame, colours by
 * the tokens of the page's theme, a tip at the pointer, and telling what went wrong.
 *
 * An element says where its data is (`source`), makes its parts once (`build`), takes the data
 * (`receive`) and draws (`draw`). It asks again every few seconds while somebody can see it, and at
 * once when the page has shown news (`roost-shown`), but not while its live updates are paused. What
 * has not changed costs nothing, as the answers have ETags.
 */

const REFRESH_MS = 5000;
const PAUSED = '[data-pause][aria-pressed="true"]';
const THEME_ATTRIBUTES = ["data-theme", "data-bs-theme", "class"];

export class Drawing extends HTMLElement {
  #isBuilt = false;
  #life = new AbortController();
  #timer = 0;
  #request = 0;
  #tag = "";
  #asked = 0;
  /** @type {Map<string, string>} */
  #colours = new Map();
  #message = element("p", "roost-drawing-message");
  #tip = element("div", "roost-tip");
  #probe = element("span");

  connectedCallback() {
    this.#life = new AbortController();
    if (!this.#isBuilt) {
      this.#isBuilt = true;
      this.#message.setAttribute("role", "status");
      // Charts keep their colours where the system forces its own on texts.
      this.#probe.style.setProperty("forced-color-adjust", "none");
      this.#message.hidden = this.#tip.hidden = this.#probe.hidden = true;
      this.#tip.setAttribute("role", "tooltip");
      this.build();
      this.append(this.#message, this.#tip, this.#probe);
    }
    const { signal } = this.#life;
    const resized = new ResizeObserver(() => this.redraw());
    resized.observe(this);
    const themed = new MutationObserver(() => this.#themeChanged());
    themed.observe(document.documentElement, { attributeFilter: THEME_ATTRIBUTES });
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.#themeChanged(), { signal });
    }
    signal.addEventListener("abort", () => {
      resized.disconnect();
      themed.disconnect();
      clearTimeout(this.#timer);
      cancelAnimationFrame(this.#request);
      this.#request = 0;
    });
    document.addEventListener("roost-shown", () => this.refresh(), { signal });
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh(), {
      signal,
    });
    this.#tag = "";
    this.listen(signal);
    this.refresh();
  }

  disconnectedCallback() {
    this.#life.abort();
  }

  attributeChangedCallback() {
    this.#tag = "";
    if (this.isConnected && this.#isBuilt) this.refresh();
  }

  // --- for the elements to fill in ---------------------------------------------------------------

  /** Where the data is; empty for none. */
  get source() {
    return "";
  }

  build() {}

  /** Add listeners that go with the element. @param {AbortSignal} signal */
  listen(signal) {}

  /** @param {any} data */
  receive(data) {}

  draw() {}

  // --- for the elements to use -------------------------------------------------------------------

  async refresh() {
    clearTimeout(this.#timer);
    const { source } = this;
    if (!source || document.hidden) return;
    if (this.#tag && document.querySelector(PAUSED)) {
      this.#timer = setTimeout(() => this.refresh(), REFRESH_MS);
      return;
    }
    const asked = ++this.#asked;
    try {
      const response = await fetch(source, { signal: this.#life.signal });
      if (asked !== this.#asked) return;
      const tag = response.headers.get("etag") ?? "";
      if (!response.ok) this.say(await refusal(response));
      else if (!tag || tag !== this.#tag) {
        this.say("");
        this.#tag = tag;
        this.receive(await response.json());
        this.redraw();
      } else this.say("");
    } catch (error) {
      if (this.#life.signal.aborted) return;
      if (!(error instanceof TypeError)) throw error;
      this.say("The server does not answer; what is shown may be old.");
    }
    if (asked === this.#asked) this.#timer = setTimeout(() => this.refresh(), REFRESH_MS);
  }

  /** Draw before the next frame. */
  redraw() {
    this.#request ||= requestAnimationFrame(() => {
      this.#request = 0;
      this.draw();
    });
  }

  /**
   * The value of a token, such as `--status-failed`.
   * @param {string} name
   * @param {string} instead
   */
  colour(name, instead = "#888") {
    let value = this.#colours.get(name);
    if (value === undefined) {
      // A token may be an expression that no canvas understands.
      this.#probe.style.color = `var(${name}, ${instead})`;
      value = getComputedStyle(this.#probe).color;
      this.#colours.set(name, value);
    }
    return value;
  }

  /** Something went wrong; empty when all is well. @param {string} text */
  say(text) {
    this.#message.textContent = text;
    this.#message.hidden = !text;
  }

  /**
   * Show lines of text near a place in the window.
   * @param {string[]} lines
   * @param {number} x
   * @param {number} y
   */
  showTip(lines, x, y) {
    this.#tip.replaceChildren(...lines.filter(Boolean).map((line) => element("div", "", line)));
    this.#tip.hidden = false;
    const { width, height } = this.#tip.getBoundingClientRect();
    const left = Math.max(4, Math.min(x + 12, innerWidth - width - 4));
    const top = y + 16 + height > innerHeight ? y - height - 8 : y + 16;
    this.#tip.style.left = `${left}px`;
    this.#tip.style.top = `${top}px`;
  }

  hideTip() {
    this.#tip.hidden = true;
  }

  /**
   * A canvas in its size on the page, emptied, to be drawn on in CSS pixels.
   * @param {HTMLCanvasElement} canvas @param {number} width @param {number} height
   */
  surface(canvas, width, height) {
    const scale = devicePixelRatio || 1;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    return pen;
  }

  #themeChanged() {
    this.#colours.clear();
    this.redraw();
  }
}

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name @param {string} [className] @param {string} [text]
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** @param {string} text @param {string} [title] */
export function button(text, title = "") {
  const made = element("button", "roost-button", text);
  made.type = "button";
  if (title) made.title = title;
  return made;
}

/** What an answer says that is no good one. @param {Response} response */
export async function refusal(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

/** `0:07`, `12:05`, `3:24:50`, `2d 04:10`. @param {number} ms */
export function duration(ms) {
  const seconds = Math.floor(Math.max(ms, 0) / 1000);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const [days, hours, minutes] = [86_400, 3600, 60].map((unit) => Math.floor(seconds / unit));
  if (days) return `${days}d ${two(hours % 24)}:${two(minutes % 60)}`;
  const rest = two(seconds % 60);
  return hours ? `${hours}:${two(minutes % 60)}:${rest}` : `${minutes}:${rest}`;
}

/** In the viewer's zone. @param {number} moment */
export function clock(moment) {
  return new Date(moment).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
}

/** `1 job`, `1,200 jobs`. @param {number} number @param {string} one */
export function counted(number, one) {
  return `${number.toLocaleString()} ${one}${number === 1 ? "" : "s"}`;
}
