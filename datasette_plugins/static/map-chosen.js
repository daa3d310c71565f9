// What the lasso has chosen: how many, what they are, some of them; to save, tag, or take along.

import { askHtml, post } from "./map-ask.js";
import { evenly } from "./map-ids.js";

const SHEET = 24; // items on the contact sheet
const IN_ADDRESS = 1500; // ids that an address of SQL can hold

export class Chosen {
  /**
   * @param {HTMLElement} section
   * @param settings {sheet, selections, tags, idsSql} addresses
   * @param on cleared(), saved(selection), tagged(name), open(id)
   */
  constructor(section, settings, on) {
    this.section = section;
    this.settings = settings;
    this.on = on;
    this.find = (name) => section.querySelector(`.${name}`);
    this.ids = null;
    this.find("close").addEventListener("click", () => on.cleared());
    this.find("csv").addEventListener("click", () => this.#download());
    this.find("save")?.addEventListener("submit", (event) => this.#save(event));
    this.find("tag")?.addEventListener("submit", (event) => this.#tag(event));
    this.find("some").addEventListener("click", (event) => {
      const link = event.target.closest("[data-item] a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      on.open(Number(link.closest("[data-item]").dataset.item));
    });
  }

  /** Something is being chosen. */
  wait() {
    this.ids = this.chosen = null;
    this.section.hidden = false;
    this.find("count").textContent = "Selecting";
    this.find("some").replaceChildren();
    this.find("mix").replaceChildren();
    this.#say("");
    this.#enable(false);
  }

  #enable(isOn) {
    const buttons = this.section.querySelectorAll("button:not(.close)");
    for (const button of buttons) button.disabled = !isOn;
  }

  /**
   * @param chosen {ids ascending, run, insideSql, polygon, isPolygon: it alone gives the ids}
   * @param {{name, items, colour}[]} mix what they are by the legend, the commonest first
   * @param {?function} describe id -> the name of its group, for the CSV; null without groups
   */
  async show(chosen, mix, describe) {
    Object.assign(this, { ids: chosen.ids, chosen, describe });
    const n = chosen.ids.length;
    this.section.hidden = false;
    this.find("count").textContent = `${n.toLocaleString("en")} item${n === 1 ? "" : "s"} selected`;
    this.#link(chosen);
    this.#say("");
    this.#mix(mix);
    this.#enable(n > 0);
    this.section.scrollIntoView({ block: "nearest" });
    if (n === 0) {
      this.find("some").replaceChildren();
      return;
    }
    const some = evenly(chosen.ids, SHEET);
    try {
      const html = await askHtml(`${this.settings.sheet}?items=${some.join(",")}`);
      if (this.chosen !== chosen) return;
      this.find("some").innerHTML = html;
      if (n > some.length) this.#add(`${some.length} of ${n.toLocaleString("en")}, evenly chosen.`);
    } catch (error) {
      if (this.chosen === chosen) this.#say(error.message, true);
    }
  }

  hide() {
    this.ids = this.chosen = null;
    this.section.hidden = true;
  }

  #link({ ids, insideSql, polygon, isPolygon }) {
    const link = this.find("sql");
    link.hidden = !isPolygon && ids.length > IN_ADDRESS;
    const filled = isPolygon
      ? `${insideSql}&polygon=${encodeURIComponent(JSON.stringify(polygon))}`
      : `${this.settings.idsSql}&items=${encodeURIComponent(JSON.stringify(Array.from(ids)))}`;
    if (!link.hidden) link.href = filled;
  }

  #mix(mix) {
    this.find("mix").replaceChildren(
      ...mix.map(({ name, items, colour }) => {
        const row = document.createElement("li");
        const swatch = document.createElement("i");
        swatch.style.background = colour;
        const count = document.createElement("span");
        count.textContent = items.toLocaleString("en");
        row.append(swatch, `${name} `, count);
        return row;
      }),
    );
  }

  #add(text) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    this.find("some").append(note);
  }

  #say(text, isProblem = false) {
    const said = this.find("said");
    said.replaceChildren(text);
    said.hidden = !text;
    said.classList.toggle("problem", isProblem);
  }

  #saidWithLink(text, url, words) {
    this.#say(text);
    const link = document.createElement("a");
    link.href = url;
    link.textContent = words;
    this.find("said").append(" ", link);
  }

  async #save(event) {
    event.preventDefault();
    const { chosen } = this;
    const form = event.target;
    const name = form.elements.name.value.trim();
    const fields = {
      name,
      how: "polygon",
      item_ids: Array.from(chosen.ids),
      polygon_json: chosen.polygon,
      projection_run_id: chosen.run,
      replace: form.elements.replace.checked,
    };
    await this.#write(form, async () => {
      const saved = await post(this.settings.selections, fields);
      this.#saidWithLink(`Saved ${saved.items.toLocaleString("en")} items as`, saved.url, name);
      this.on.saved(name);
    });
  }

  async #tag(event) {
    event.preventDefault();
    const form = event.target;
    const [name, value] = [form.elements.name.value.trim(), form.elements.value.value.trim()];
    await this.#write(form, async () => {
      const said = await post(this.settings.tags, { name, value, item_ids: Array.from(this.ids) });
      this.#say(`${said.items.toLocaleString("en")} items have the label ${name} = ${value}.`);
      this.on.tagged(name);
    });
  }

  async #write(form, work) {
    const buttons = form.querySelectorAll("button");
    for (const button of buttons) button.disabled = true;
    try {
      await work();
    } catch (error) {
      this.#say(error.message, true);
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  #download() {
    const quote = (value) => {
      const text = String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const { describe } = this;
    const rows = [describe ? "item_id,colour" : "item_id"];
    for (const id of this.ids) rows.push(describe ? `${id},${quote(describe(id))}` : id);
    const url = URL.createObjectURL(new Blob([rows.join("\r\n") + "\r\n"], { type: "text/csv" }));
    const link = document.createElement("a");
    Object.assign(link, { href: url, download: "selection.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }
}
