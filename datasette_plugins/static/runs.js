// A lineage that is wider than the page begins at the chosen run.

const box = document.querySelector(".lineage");
const chosen = box?.querySelector(".chosen");

if (chosen) {
  const [outer, inner] = [box.getBoundingClientRect(), chosen.getBoundingClientRect()];
  box.scrollLeft += inner.left + inner.width / 2 - (outer.left + outer.width / 2);
}
