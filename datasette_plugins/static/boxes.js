// The boxes and masks on an item's image: which are drawn, and which one a row of the tables means.

const drawing = document.getElementById("boxes");
const layers = document.querySelector("form.layers");
const least = document.getElementById("least");
const output = document.querySelector("output[for=least]");
const all = [...drawing.querySelectorAll(".box")];
const rows = [...document.querySelectorAll("table.of-boxes tr[data-box]")];

function draw() {
  const shown = new Set(
    [...layers.querySelectorAll("input[data-layer]")]
      .filter((input) => input.checked)
      .map((input) => input.dataset.layer),
  );
  for (const part of layers.querySelectorAll("input[data-part]")) {
    drawing.classList.toggle(`no-${part.dataset.part}`, !part.checked);
  }
  const threshold = least ? Number(least.value) : 0;
  if (output) output.value = threshold.toFixed(2);
  for (const box of all) {
    const isLayer = [...shown].some((name) => box.classList.contains(name));
    const isSure = !(Number(box.dataset.confidence ?? 1) < threshold);
    box.classList.toggle("off", !(isLayer && isSure));
  }
}

// The box that is meant stands out, also one that is not drawn otherwise.
function light(name) {
  drawing.classList.toggle("one-lit", name !== null);
  for (const box of all) box.classList.toggle("lit", box.dataset.box === name);
  for (const row of rows) row.classList.toggle("lit", row.dataset.box === name);
}

// An address may mean a box: #p12, #o3.
function lightMeant() {
  const name = location.hash.slice(1);
  light(all.some((box) => box.dataset.box === name) ? name : null);
}

layers.addEventListener("input", draw);
layers.addEventListener("submit", (event) => event.preventDefault());
for (const element of [...rows, ...all]) {
  element.addEventListener("pointerenter", () => light(element.dataset.box));
  element.addEventListener("pointerleave", lightMeant);
}
for (const row of rows) {
  row.addEventListener("focus", () => light(row.dataset.box));
  row.addEventListener("blur", lightMeant);
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("textarea, select, input:not([type=checkbox], [type=range])")) return;
  const part = { b: "edges", m: "masks", n: "names" }[event.key];
  const box = part && layers.querySelector(`input[data-part=${part}]`);
  if (box) box.click();
});
addEventListener("hashchange", lightMeant);
draw();
lightMeant();
