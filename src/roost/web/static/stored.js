// What this browser remembers of its own. One that may keep nothing, as some are told, forgets it.

/** @param {string} key @returns {string} empty when nothing is kept */
export function stored(key) {
  try {
    return localStorage.getItem(key) ?? "";
  } catch {
    return "";
  }
}

/** @param {string} key @param {string} value empty: keep nothing */
export function store(key, value) {
  try {
    if (value) localStorage.setItem(key, value);
    else localStorage.removeItem(key);
  } catch {
    // Then it holds for this page only.
  }
}

/** @template T @param {string} key @param {T} otherwise @returns {T} */
export function storedObject(key, otherwise) {
  try {
    return JSON.parse(stored(key));
  } catch {
    return otherwise;
  }
}
