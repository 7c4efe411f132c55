/**
 * The lines of a log that match a pattern, as far as the server has looked, and the one we are at.
 */

import { refusal } from "./drawing.js";

const MATCHES_MAX = 10_000;

export class Search {
  /** Ascending. @type {number[]} */
  #numbers = [];
  #current = -1;
  #searchedTo = 0;
  /** What went wrong. */
  #trouble = "";
  /** @type {Promise<void> | null} */
  #running = null;

  /**
   * @param {string} pattern
   * @param {(first: number) => Promise<Response | null>} ask for the matches from a line on
   */
  constructor(pattern, ask) {
    this.pattern = pattern;
    this.ask = ask;
  }

  get hasMatches() {
    return this.#numbers.length > 0;
  }

  get isPlaced() {
    return this.#current >= 0;
  }

  /** How it stands, for people. */
  get words() {
    const more = this.#numbers.length >= MATCHES_MAX ? "+" : "";
    const count = `${this.#numbers.length.toLocaleString()}${more}`;
    if (this.#trouble) return this.#trouble;
    if (this.#running && !this.#searchedTo) return "Searching…";
    if (this.#running) return `${count} in ${this.#searchedTo.toLocaleString()} lines…`;
    if (this.isPlaced) return `${(this.#current + 1).toLocaleString()} of ${count}`;
    return this.hasMatches ? count : "No match";
  }

  /**
   * Look at the lines that have not been looked at yet, up to a line.
   * @param {number} last
   * @param {() => void} tell is called whenever more is known
   */
  async run(last, tell) {
    this.#running ??= this.#run(last, tell).finally(() => (this.#running = null));
    tell();
    await this.#running;
    tell();
  }

  /** @param {number} last @param {() => void} tell */
  async #run(last, tell) {
    this.#trouble = "";
    while (this.#searchedTo < last && this.#numbers.length < MATCHES_MAX) {
      const response = await this.ask(this.#searchedTo + 1);
      if (!response?.ok) {
        this.#trouble = response ? await refusal(response) : "The server does not answer.";
        return;
      }
      /** @type {{numbers: number[], searched_to: number, mistake?: string}} */
      const found = await response.json();
      if (found.mistake) {
        this.#trouble = found.mistake;
        return;
      }
      this.#numbers.push(...found.numbers);
      if (found.searched_to <= this.#searchedTo) {
        this.#trouble = "The pattern takes too long.";
        return;
      }
      this.#searchedTo = found.searched_to;
      tell();
    }
  }

  /** Whether the next step down would begin again from the top. */
  get isAtLast() {
    return this.#current === this.#numbers.length - 1;
  }

  /**
   * The line of the next match (1) or the previous one (-1); at first, of the nearest to a line.
   * @param {1 | -1} direction
   * @param {number} line
   */
  step(direction, line) {
    const count = this.#numbers.length;
    if (this.isPlaced) this.#current = (this.#current + direction + count) % count;
    else if (direction > 0) this.#current = this.#from(line) % count;
    else this.#current = (this.#from(line + 1) - 1 + count) % count;
    return this.#numbers[this.#current];
  }

  /** The classes of a line. @param {number} line */
  marks(line) {
    const at = this.#from(line);
    if (this.#numbers[at] !== line) return "";
    return at === this.#current ? " is-match is-current" : " is-match";
  }

  /** Where the first match is that is not above a line. @param {number} line */
  #from(line) {
    let [low, high] = [0, this.#numbers.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#numbers[middle] < line) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
