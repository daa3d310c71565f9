// The page of an item: to the one before and after by key, and where else a neighbour is near.

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  // Where the arrows move something else, they are left to it.
  if (event.target.closest("input, textarea, select, [tabindex='0'], .scroll, ol.near-images")) return;
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = way && document.querySelector(`.item-head a[rel=${way}]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});

const neighbours = [...document.querySelectorAll(".near li[data-item]")];

function light(id) {
  for (const each of neighbours) each.classList.toggle("lit", each.dataset.item === id);
}

for (const each of neighbours) {
  each.addEventListener("pointerenter", () => light(each.dataset.item));
  each.addEventListener("pointerleave", () => light(null));
  each.addEventListener("focusin", () => light(each.dataset.item));
  each.addEventListener("focusout", () => light(null));
}
