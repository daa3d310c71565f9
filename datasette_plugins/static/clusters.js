// The keyboard in lists of clusters and on contact sheets.

const FIELDS = "input, textarea, select, [contenteditable]";

/** The element of `all` that lies next to `here` in a direction: in its row, or nearest above or below. */
function beside(all, here, key) {
  const places = all.map((element) => element.getBoundingClientRect());
  const from = places[all.indexOf(here)];
  if (key === "ArrowRight" || key === "ArrowLeft") {
    return all[all.indexOf(here) + (key === "ArrowRight" ? 1 : -1)];
  }
  const isOnTheWay = key === "ArrowDown" ? (p) => p.top > from.top + 1 : (p) => p.top < from.top - 1;
  let best;
  let least = Infinity;
  places.forEach((place, i) => {
    if (!isOnTheWay(place)) return;
    const away = 10 * Math.abs(place.top - from.top) + Math.abs(place.left - from.left);
    if (away < least) [best, least] = [all[i], away];
  });
  return best;
}

function onSheet(event) {
  const sheet = document.querySelector("[data-sheet]");
  const here = document.activeElement;
  const all = [...sheet.querySelectorAll("a.thumbnail")];
  if (!all.length) return false;
  if (!all.includes(here)) {
    // From the top of the page an arrow scrolls, as everywhere; right goes into the sheet.
    if (event.key !== "ArrowRight" || here !== document.body) return false;
    all[0].focus();
    return true;
  }
  const to = beside(all, here, event.key);
  to?.focus();
  return Boolean(to);
}

function inList(event) {
  const names = [...document.querySelectorAll("table.clusters a.name")];
  const at = names.indexOf(document.activeElement.closest("tr")?.querySelector("a.name"));
  const steps = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 };
  if (event.key in steps) {
    if (event.key.startsWith("Arrow") && document.activeElement !== names[at]) return false;
    const to = names[Math.max(0, at + steps[event.key])];
    to?.focus();
    return Boolean(to);
  }
  const within = at < 0 ? null : names[at].closest("tr").querySelector("details.within");
  if (!within || document.activeElement !== names[at]) return false;
  within.open = event.key === "ArrowRight";
  return true;
}

/** Follows a link of the page; false where there is none. */
function follow(selector) {
  const link = document.querySelector(selector);
  link?.click();
  return Boolean(link);
}

const LINKS = {
  n: '.turn[aria-label^="Pages"] a[rel="next"]',
  p: '.turn[aria-label^="Pages"] a[rel="prev"]',
  u: 'a[rel="up"]',
  "[": '[data-key="["]',
  "]": '[data-key="]"]',
};

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.(FIELDS) || document.querySelector("dialog[open]")) return;
  let isDone = false;
  if (event.key in LINKS) isDone = follow(LINKS[event.key]);
  else if (/^(Arrow(Up|Down|Left|Right)|[jk])$/.test(event.key)) {
    const isOnSheet = document.querySelector("[data-sheet]") && event.key.startsWith("Arrow");
    isDone = (isOnSheet && onSheet(event)) || inList(event);
  }
  if (isDone) event.preventDefault();
});
