/**
 * Terminal text as styled pieces: colours and weights are kept, all other control codes left out.
 *
 * Each line stands for itself: what a line switched on does not reach into the next one, as lines
 * are drawn in any order.
 *
 * @typedef {{foreground: string, background: string, classes: Set<string>}} Style
 * A colour is the name of a class (`ansi-3`) or a value such as `rgb(1, 2, 3)`; empty: as usual.
 */

// An operating system command, a control sequence, a short escape, or a lone control character.
const CODES =
  // eslint-disable-next-line no-control-regex
  /\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/** @type {Record<number, string>} */
const SWITCHES = { 1: "bold", 2: "faint", 3: "italic", 4: "underline", 7: "reverse", 9: "struck" };
/** @type {Record<number, string[]>} */
const OFF = {
  22: ["bold", "faint"],
  23: ["italic"],
  24: ["underline"],
  27: ["reverse"],
  29: ["struck"],
};

/** The text of a line without any control codes. @param {string} line */
export function plain(line) {
  return line.replace(CODES, "");
}

/** A line as nodes to be shown. @param {string} line @returns {Node[]} */
export function styled(line) {
  /** @type {Node[]} */
  const nodes = [];
  /** @type {Style} */
  let style = { foreground: "", background: "", classes: new Set() };
  let at = 0;
  for (const match of line.matchAll(CODES)) {
    add(nodes, line.slice(at, match.index), style);
    at = match.index + match[0].length;
    if (match[2] === "m") {
      style = changed(style, (match[1] ?? "").split(/[;:]/).map(Number));
    }
  }
  add(nodes, line.slice(at), style);
  return nodes;
}

/** @param {Node[]} nodes @param {string} text @param {Style} style */
function add(nodes, text, style) {
  if (!text) return;
  const { foreground, background, classes } = style;
  if (!foreground && !background && !classes.size) {
    nodes.push(document.createTextNode(text));
    return;
  }
  const span = document.createElement("span");
  span.textContent = text;
  for (const name of classes) span.classList.add(`ansi-${name}`);
  if (foreground.startsWith("ansi-")) span.classList.add(foreground);
  else if (foreground) span.style.color = foreground;
  if (background.startsWith("ansi-")) span.classList.add(background);
  else if (background) span.style.backgroundColor = background;
  nodes.push(span);
}

/**
 * The style after a list of codes.
 * @param {Style} style
 * @param {number[]} codes
 * @returns {Style}
 */
function changed(style, codes) {
  let { foreground, background } = style;
  let classes = new Set(style.classes);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (!code) [foreground, background, classes] = ["", "", new Set()];
    else if (code in SWITCHES) classes.add(SWITCHES[code]);
    else if (code in OFF) OFF[code].forEach((name) => classes.delete(name));
    else if (code >= 30 && code <= 37) foreground = `ansi-${code - 30}`;
    else if (code >= 90 && code <= 97) foreground = `ansi-${code - 82}`;
    else if (code >= 40 && code <= 47) background = `ansi-on-${code - 40}`;
    else if (code >= 100 && code <= 107) background = `ansi-on-${code - 92}`;
    else if (code === 39) foreground = "";
    else if (code === 49) background = "";
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes, i + 1, code === 38 ? "ansi-" : "ansi-on-");
      if (code === 38) foreground = colour;
      else background = colour;
      i += used;
    }
  }
  return { foreground, background, classes };
}

/**
 * A colour of 256, or of red, green and blue; and how many codes tell it.
 * @param {number[]} codes @param {number} at @param {string} prefix @returns {[string, number]}
 */
function extended(codes, at, prefix) {
  if (codes[at] === 2) {
    const parts = codes.slice(at + 1, at + 4).map((part) => Math.min(255, part || 0));
    return [`rgb(${parts.join(", ")})`, 4];
  }
  if (codes[at] !== 5) return ["", 1];
  const number = Math.min(255, codes[at + 1] || 0);
  if (number < 16) return [`${prefix}${number}`, 2];
  if (number >= 232) {
    const grey = 8 + (number - 232) * 10;
    return [`rgb(${grey}, ${grey}, ${grey})`, 2];
  }
  const level = (/** @type {number} */ step) => (step ? 55 + step * 40 : 0);
  const [red, green, blue] = [36, 6, 1].map((unit) => level(Math.floor((number - 16) / unit) % 6));
  return [`rgb(${red}, ${green}, ${blue})`, 2];
}
