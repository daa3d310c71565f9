// Shows only some items: those of a selection, of a SELECT, or of a list. The rest is dimmed.

import { askIds } from "./map-ask.js";

export class Filter {
  /**
   * @param {HTMLFormElement} form with the field `within` and .facts
   * @param {string} address answers `?within=` with the ids of this map
   * @param {function} changed called after each change
   */
  constructor(form, address, changed) {
    this.form = form;
    this.address = address;
    this.changed = changed;
    this.field = form.elements.within;
    this.facts = form.querySelector(".facts");
    this.text = "";
    this.ids = null; // null: everything
    this.asked = 0;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.apply(this.field.value);
    });
    // A name chosen from the list, and the cross of an emptied field, need no Enter.
    this.field.addEventListener("input", (event) => {
      const isChosen = event.inputType === "insertReplacementText" || event.inputType === undefined;
      if (isChosen || !this.field.value) this.apply(this.field.value);
    });
  }

  /** Asks which items the text names, and shows only them. */
  async apply(text) {
    text = text.trim();
    if (text === this.text) return;
    const asked = ++this.asked;
    this.field.value = text;
    this.say(text ? "Asking" : "");
    let ids = null;
    try {
      if (text) ids = await askIds(`${this.address}?within=${encodeURIComponent(text)}`);
    } catch (error) {
      if (asked === this.asked) this.say(error.message, true);
      return;
    }
    if (asked !== this.asked) return; // another one was asked for meanwhile
    this.text = text;
    this.ids = ids;
    this.say(ids ? `${ids.length.toLocaleString("en")} shown` : "");
    this.changed();
  }

  /** Says how many are shown, or what went wrong. */
  say(text, isProblem = false) {
    this.facts.textContent = text;
    this.facts.classList.toggle("error", isProblem);
    this.field.setAttribute("aria-invalid", String(isProblem));
  }
}
