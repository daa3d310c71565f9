// Says what is under the pointer: elements with data-tip show it beside them, at once.

const tip = document.createElement("p");
tip.className = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true"); // the tables say the same
document.body.append(tip);

function place(x, y) {
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = Math.min(x + 14, window.innerWidth - width - 8);
  const top = y + 18 + height > window.innerHeight ? y - height - 10 : y + 18;
  tip.style.transform = `translate(${Math.max(8, left)}px, ${Math.max(8, top)}px)`;
}

document.addEventListener("pointerover", (event) => {
  const about = event.target.closest?.("[data-tip]");
  tip.hidden = !about;
  if (about) {
    tip.textContent = about.dataset.tip;
    place(event.clientX, event.clientY);
  }
});
document.addEventListener("pointermove", (event) => {
  if (!tip.hidden) place(event.clientX, event.clientY);
});
document.addEventListener("focusin", (event) => {
  const about = event.target.closest?.("[data-tip]");
  tip.hidden = !about;
  if (about) {
    tip.textContent = about.dataset.tip;
    const box = about.getBoundingClientRect();
    place(box.left, box.bottom - 12);
  }
});
document.addEventListener("scroll", () => (tip.hidden = true), { passive: true, capture: true });
