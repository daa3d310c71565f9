// The opened item beside the map, with its neighbours in a space of choice.

import { askHtml } from "./map-ask.js";

export class Panel {
  /**
   * @param {HTMLElement} section
   * @param {string} items the address of items
   * @param {?string} space whose neighbours are shown until another one is chosen
   * @param on opened(id, neighbours), closed(), and pointed(id or null) at one of the neighbours
   */
  constructor(section, items, space, on) {
    this.section = section;
    this.items = items;
    this.on = on;
    this.opened = null;
    this.space = space;
    section.addEventListener("click", (event) => this.#clicked(event));
    section.addEventListener("change", (event) => {
      if (event.target.id === "panel-space") this.open(this.opened, event.target.value);
    });
    for (const [name, isOn] of [
      ["pointerover", true],
      ["focusin", true],
      ["pointerout", false],
      ["focusout", false],
    ]) {
      section.addEventListener(name, (event) => {
        const item = event.target.closest(".neighbours li");
        if (item) on.pointed(isOn ? Number(item.dataset.item) : null);
      });
    }
  }

  async open(id, space = this.space) {
    this.opened = id;
    this.space = space;
    const asked = space ? `?space=${encodeURIComponent(space)}` : "";
    let html = "";
    let problem = "";
    try {
      html = await askHtml(`${this.items}/${id}/panel${asked}`);
    } catch (error) {
      problem = error.message;
    }
    if (this.opened !== id || this.space !== space) return; // another one was opened meanwhile
    if (html) {
      this.section.innerHTML = html;
    } else {
      const said = document.createElement("p");
      said.className = "problem";
      said.textContent = problem;
      this.section.replaceChildren(said);
    }
    this.section.hidden = false;
    this.section.scrollIntoView({ block: "nearest" });
    this.section.dataset.item = id;
    const rows = [...this.section.querySelectorAll(".neighbours li")];
    this.on.opened(id, rows.map((row) => Number(row.dataset.item)));
  }

  close() {
    if (this.opened === null) return;
    this.opened = null;
    this.section.hidden = true;
    this.on.closed();
  }

  #clicked(event) {
    if (event.target.closest(".close")) {
      this.close();
      return;
    }
    const item = event.target.closest(".neighbours li");
    if (item && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      this.open(Number(item.dataset.item));
    }
  }
}
