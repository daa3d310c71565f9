// The boxes on an item's image: which are drawn, and which one a row of the tables means.
"use strict";

(() => {
  const drawing = document.getElementById("boxes");
  const layers = document.querySelector("form.layers");
  const least = document.getElementById("least");
  const names = document.getElementById("names");
  const output = document.querySelector("output[for=least]");
  const all = [...drawing.querySelectorAll(".box")];
  const rows = [...document.querySelectorAll("table.of-boxes tr[data-box]")];

  function draw() {
    const shown = new Set(
      [...layers.querySelectorAll("input[data-layer]")]
        .filter((input) => input.checked)
        .map((input) => input.dataset.layer),
    );
    drawing.classList.toggle("nameless", names !== null && !names.checked);
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

  layers.addEventListener("input", draw);
  layers.addEventListener("submit", (event) => event.preventDefault());
  for (const element of [...rows, ...all]) {
    element.addEventListener("pointerenter", () => light(element.dataset.box));
    element.addEventListener("pointerleave", () => light(null));
  }
  draw();
})();
