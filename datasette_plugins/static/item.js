// The page of an item: to the one before and after by key, and where else a neighbour is near.

// The neighbour of the same rank in the line above or below. Along a line the keys of every page go.
function walk(event) {
  const item = event.target.closest(".near li[data-item]");
  const by = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!item || !by) return false;
  const lines = [...document.querySelectorAll(".near")];
  const rank = [...item.parentElement.children].indexOf(item);
  const line = lines[lines.indexOf(item.closest(".near")) + by];
  const links = line ? [...line.querySelectorAll("li[data-item] a")] : [];
  const link = links[Math.min(rank, links.length - 1)];
  if (!link) return false;
  link.focus();
  link.scrollIntoView({ block: "nearest", inline: "nearest" });
  return true;
}

function turn(event) {
  // Where the arrows move something else, they are left to it.
  if (event.target.closest("input, textarea, select, [tabindex='0'], .scroll, .near")) return false;
  const way = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = way && document.querySelector(`.item-head a[rel=${way}]`);
  link?.click();
  return Boolean(link);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (walk(event) || turn(event)) event.preventDefault();
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
