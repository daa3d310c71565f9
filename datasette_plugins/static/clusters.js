// The keyboard among clusters: from one to the next in a list, and from page to page.

import { isTyping } from "./keys.js";

// What a key follows, where the page has such a link.
const LINKS = {
  n: '.turn[aria-label^="Pages"] a[rel="next"]',
  p: '.turn[aria-label^="Pages"] a[rel="prev"]',
  u: 'a[rel="up"]',
  "[": '[data-key="["]',
  "]": '[data-key="]"]',
};
const STEPS = { j: 1, k: -1, ArrowDown: 1, ArrowUp: -1 };

function follow(key) {
  const link = document.querySelector(LINKS[key]);
  link?.click();
  return Boolean(link);
}

/** Goes along the names of a list; with a name in focus, right and left open and close what is within. */
function walk(key) {
  const names = [...document.querySelectorAll("table.clusters a.name")];
  const here = document.activeElement;
  const at = names.indexOf(here.closest("tr")?.querySelector("a.name"));
  // Arrows scroll, as everywhere, until a name is in focus.
  if (key.startsWith("Arrow") && here !== names[at]) return false;
  if (key in STEPS) {
    const next = names[Math.max(0, at + STEPS[key])];
    next?.focus();
    return Boolean(next);
  }
  const within = here.closest("tr").querySelector("details.within");
  if (within) within.open = key === "ArrowRight";
  return Boolean(within);
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event) || document.querySelector("dialog[open]")) return;
  const { key } = event;
  const isWalking = key in STEPS || key === "ArrowRight" || key === "ArrowLeft";
  if (key in LINKS ? follow(key) : isWalking && walk(key)) event.preventDefault();
});
