// The card beside the pointer: what a point is. One for all maps of the page.

import { askHtml } from "./map-ask.js";

const KEPT = 500; // cards that need not be asked for again
const REST = 60; // ms that the pointer must stay on a point before its card is asked for
const AWAY = 16; // pixels from the pointer

export class Card {
  /**
   * @param {HTMLElement} element placed in the window
   * @param {string} items the address of items
   */
  constructor(element, items) {
    this.element = element;
    this.items = items;
    this.kept = new Map();
    this.wanted = null;
    this.timer = 0;
  }

  /** Shows an item's card near a place of the window; `line` is added to it, as text. */
  show(id, left, top, line) {
    if (this.wanted === id && !this.element.hidden) return;
    this.wanted = id;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(id, left, top, line), this.kept.has(id) ? 0 : REST);
  }

  async #ask(id, left, top, line) {
    if (!this.kept.has(id)) {
      const html = await askHtml(`${this.items}/${id}/card`).catch(() => null);
      if (html === null) return; // the pointer asks again when it comes back
      if (this.kept.size >= KEPT) this.kept.delete(this.kept.keys().next().value);
      this.kept.set(id, html);
    }
    if (this.wanted !== id) return; // the pointer has gone on
    const { element } = this;
    element.innerHTML = this.kept.get(id);
    if (line) {
      const added = document.createElement("p");
      added.className = "by";
      added.textContent = line;
      element.append(added);
    }
    element.dataset.item = id;
    element.hidden = false;
    const place = () => {
      const width = document.documentElement.clientWidth;
      const height = document.documentElement.clientHeight;
      const isRoom = left + AWAY + element.offsetWidth <= width;
      const x = isRoom ? left + AWAY : left - AWAY - element.offsetWidth;
      const y = Math.min(top + AWAY, height - element.offsetHeight - 8);
      element.style.left = `${Math.max(8, x)}px`;
      element.style.top = `${Math.max(8, y)}px`;
    };
    place();
    for (const image of element.querySelectorAll("img")) image.addEventListener("load", place);
  }

  hide() {
    this.wanted = null;
    clearTimeout(this.timer);
    this.element.hidden = true;
  }
}
