/**
 * Lines of a log by number, as many as memory should hold: those around the place in sight.
 */

const CHARACTERS_MAX = 2_000_000;
/** What a line takes besides its characters, in characters of two bytes. */
const LINE_COST = 16;

export class Pages {
  /** Lines of a page. */
  static LINES = 250;

  /** @type {Map<number, (string | undefined)[]>} */
  #pages = new Map();
  /** Of the same lines, if they are wanted. @type {Map<number, number[]>} */
  #times = new Map();

  /** The first line of the page that a line is on. @param {number} line */
  static firstOf(line) {
    return line - ((line - 1) % Pages.LINES);
  }

  clear() {
    this.#pages.clear();
    this.#times.clear();
  }

  /** Undefined when it is not here. @param {number} line */
  text(line) {
    return this.#pages.get(Pages.firstOf(line))?.[(line - 1) % Pages.LINES];
  }

  /** When it came, in seconds since 1970; 0 when that is not known. @param {number} line */
  time(line) {
    return this.#times.get(Pages.firstOf(line))?.[(line - 1) % Pages.LINES] ?? 0;
  }

  /**
   * Keep lines, and forget those far from `here` when there are too many.
   * @param {number} first
   * @param {string[]} texts
   * @param {number} here
   * @param {number[]} [times]
   */
  keep(first, texts, here, times = []) {
    texts.forEach((text, i) => {
      const start = Pages.firstOf(first + i);
      let page = this.#pages.get(start);
      if (!page) this.#pages.set(start, (page = []));
      page[first + i - start] = text;
    });
    times.forEach((time, i) => {
      const start = Pages.firstOf(first + i);
      let page = this.#times.get(start);
      if (!page) this.#times.set(start, (page = []));
      page[first + i - start] = time;
    });
    const distance = (/** @type {number} */ start) => Math.abs(start + Pages.LINES / 2 - here);
    let kept = 0;
    for (const start of [...this.#pages.keys()].sort((a, b) => distance(a) - distance(b))) {
      for (const text of this.#pages.get(start) ?? []) kept += (text?.length ?? 0) + LINE_COST;
      if (kept > CHARACTERS_MAX && distance(start) > Pages.LINES) {
        this.#pages.delete(start);
        this.#times.delete(start);
      }
    }
  }
}
