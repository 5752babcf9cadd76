// Elements without HTML in strings: whatever comes from a log is text and stays text.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element[name] = value; // so that `become` can hand it on
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// Make the children of `parent` like `fresh`, touching only what differs: focus, selected text, how far a table was
// scrolled, open details and the place of a screen reader stay. No button, link or field turns into another one.
export function become(parent, fresh) {
  const olds = [...parent.childNodes], n = olds.length, m = fresh.length;
  const most = Array.from({ length: n + 1 }, () => new Uint16Array(m + 1)); // that can stay, from here to the end
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) most[i][j] = isSame(olds[i], fresh[j]) ? most[i + 1][j + 1] + 1 : Math.max(most[i + 1][j], most[i][j + 1]);
  }
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && isSame(olds[i], fresh[j])) take(olds[i++], fresh[j++]);
    else if (j === m || (i < n && most[i + 1][j] >= most[i][j + 1])) olds[i++].remove();
    else parent.insertBefore(fresh[j++], olds[i] || null);
  }
}

const OWN = { A: (one) => one.getAttribute("href"), BUTTON: (one) => one.textContent, INPUT: (one) => one.getAttribute("aria-label") };
const ownOf = (one) => one.dataset?.key ?? OWN[one.nodeName]?.(one);
const isSame = (old, one) => old.nodeName === one.nodeName && ownOf(old) === ownOf(one);

function take(old, one) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== one.data) old.data = one.data;
    return;
  }
  const names = new Set([...old.getAttributeNames(), ...one.getAttributeNames()]);
  names.delete("open"); // the reader's
  for (const name of names) {
    const value = one.getAttribute(name);
    if (value === null) old.removeAttribute(name); else if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of ["onclick", "onchange"]) old[name] = one[name];
  become(old, [...one.childNodes]);
}

export function table(caption, columns, rows, kind = "") {
  return [h("p", { class: "caption soft" }, caption), h("div", { class: `scroll ${kind}`, tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map(([title, kind]) => h("th", { scope: "col", class: kind }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: columns[i][1] }, cell)))))))];
}

export const tag = (word, kind) => h("span", { class: `tag ${kind || ""}` }, word);

export const facts = (pairs) => h("dl", {}, pairs.filter(([, value]) => value)
  .map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

// ---- how numbers and moments are said ------------------------------------------------------------

export const number = (value) => (value ?? 0).toLocaleString("en");
export const evidence = (value) => (value >= 1e5 || (value > 0 && value < 1e-3) ? value.toExponential(0) : Number(value.toPrecision(3)).toLocaleString("en"));
export const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

export function span(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${(seconds / 3600).toFixed(1)} h` : `${Math.round(seconds / 86400)} days`;
}

export function moment(iso) {
  const at = new Date(iso || NaN);
  return Number.isNaN(at.getTime()) ? iso || "" : `${at.toISOString().replace("T", " ").slice(0, 19)} UTC`;
}

// A text from a log, which may be a book: its beginning, and all of it where somebody wants it.
const BEGINNING = 240;
export const clipped = (text) => (text.length > BEGINNING ? `${text.slice(0, BEGINNING)}…` : text);
export const unfolding = (text) => (text.length > BEGINNING ? h("details", {}, h("summary", {}, clipped(text)), text) : text);

const RATES = new Set(["errors", "client_errors", "refusals", "empty_retrievals"]);
const TIMES = new Set(["latency", "ttft", "first_event", "gaps"]);

export function checkValue(check, value) {
  if (value === null || value === undefined) return "–";
  if (RATES.has(check)) return percent(value, 2);
  if (TIMES.has(check)) return ms(value / 1000);
  return value.toPrecision(3);
}

export function checkEffect(check, value) {
  if (value === null || value === undefined) return "–";
  const sign = value > 0 ? "+" : "";
  if (RATES.has(check)) return `${sign}${(100 * value).toFixed(2)} points`;
  if (check === "score" || check.startsWith("score")) return `${sign}${value.toFixed(3)}`;
  return `${sign}${(100 * value).toFixed(1)} %`;
}
