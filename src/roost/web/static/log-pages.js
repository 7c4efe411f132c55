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

  /** The first line of the page that a line is on. @param {number} line */
  static firstOf(line) {
    return line - ((line - 1) % Pages.LINES);
  }

  clear() {
    this.#pages.clear();
  }

  /** Undefined when it is not here. @param {number} line */
  text(line) {
    return this.#pages.get(Pages.firstOf(line))?.[(line - 1) % Pages.LINES];
  }

  /**
   * Keep lines, and forget those far from `here` when there are too many.
   * @param {number} first
   * @param {string[]} texts
   * @param {number} here
   */
  keep(first, texts, here) {
    texts.forEach((text, i) => {
      const start = Pages.firstOf(first + i);
      let page = this.#pages.get(start);
      if (!page) this.#pages.set(start, (page = []));
      page[first + i - start] = text;
    });
    const distance = (/** @type {number} */ start) => Math.abs(start + Pages.LINES / 2 - here);
    let kept = 0;
    for (const start of [...this.#pages.keys()].sort((a, b) => distance(a) - distance(b))) {
      for (const text of this.#pages.get(start) ?? []) kept += (text?.length ?? 0) + LINE_COST;
      if (kept > CHARACTERS_MAX && distance(start) > Pages.LINES) this.#pages.delete(start);
    }
  }
}
