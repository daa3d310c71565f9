// Pages about runs: n and p go to the next and the previous; a wide lineage begins at its run.

import { isTyping } from "./keys.js";

const WAYS = { n: "next", p: "prev" };

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  const link = WAYS[event.key] && document.querySelector(`.turn a[rel=${WAYS[event.key]}]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});

const box = document.querySelector(".lineage");
const chosen = box?.querySelector(".chosen");

if (chosen) {
  const [outer, inner] = [box.getBoundingClientRect(), chosen.getBoundingClientRect()];
  box.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2);
}
