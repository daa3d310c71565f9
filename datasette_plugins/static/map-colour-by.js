// What the points are coloured by: a choice, a level of a hierarchy, or SQL of the visitor's own.

const SQL = "sql";

export class ColourBy {
  /**
   * @param {HTMLElement} section with select, .level and form.by-sql
   * @param {function} changed called with the new key
   */
  constructor(section, changed) {
    this.changed = changed;
    this.select = section.querySelector("select");
    this.levels = section.querySelector(".level");
    this.slider = this.levels.querySelector("input");
    this.output = this.levels.querySelector("output");
    this.form = section.querySelector("form.by-sql");
    this.said = section.querySelector(".said");
    this.question = ""; // the SQL that is shown
    this.slid = 0;
    this.first = this.key;
    this.select.addEventListener("change", () => this.#chosen());
    this.slider.addEventListener("input", () => {
      this.#sayLevel();
      clearTimeout(this.slid);
      this.slid = setTimeout(() => changed(this.key), 120); // not for each step that it slides over
    });
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.question = this.form.elements.sql.value.trim();
      if (this.question) changed(this.key);
    });
    this.form.elements.sql.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    this.#showLevels();
  }

  get option() {
    return this.select.selectedOptions[0];
  }

  get levelsThere() {
    return JSON.parse(this.option.dataset.levels ?? "[]");
  }

  /** The key of map_colours.py for what is chosen. */
  get key() {
    if (this.select.value === SQL) return `sql:${this.question}`;
    if (!this.levelsThere.length) return this.select.value;
    return `${this.option.dataset.kind}:${this.option.dataset.run}:${this.level}`;
  }

  get level() {
    return this.levelsThere[Number(this.slider.value)] ?? this.levelsThere[0];
  }

  get isDefault() {
    return this.key === this.first;
  }

  get title() {
    const name = this.option.textContent.trim();
    return this.levelsThere.length > 1 ? `${name}, level ${this.level}` : name;
  }

  /** Chooses what a key says; a key that is not offered leaves the first choice. */
  set(key) {
    if (!key) return;
    if (key.startsWith("sql:")) {
      this.select.value = SQL;
      this.question = key.slice(4);
      this.form.elements.sql.value = this.question;
    } else {
      const [kind, run, level] = key.split(":");
      for (const option of this.select.options) {
        const levels = JSON.parse(option.dataset.levels ?? "[]");
        const at = levels.indexOf(Number(level));
        const isIt = option.dataset.kind === kind && option.dataset.run === run && at >= 0;
        if (!isIt && option.value !== key) continue;
        this.select.value = option.value;
        this.#showLevels();
        if (isIt) this.slider.value = at;
        break;
      }
    }
    this.#showLevels(false);
  }

  #chosen() {
    this.say("");
    this.#showLevels();
    if (this.select.value !== SQL) {
      this.changed(this.key);
      return;
    }
    this.form.elements.sql.focus();
    if (this.question) this.changed(this.key);
  }

  #showLevels(isNew = true) {
    this.form.hidden = this.select.value !== SQL;
    const levels = this.levelsThere;
    this.levels.hidden = levels.length < 2;
    if (isNew) {
      this.slider.max = Math.max(0, levels.length - 1);
      this.slider.value = 0;
    }
    this.#sayLevel();
  }

  #sayLevel() {
    const levels = this.levelsThere;
    if (levels.length) this.output.value = `${this.level} of ${levels.length}`;
    this.slider.setAttribute("aria-valuetext", `level ${this.level}`);
  }

  /** Says what went wrong. */
  say(sentence) {
    this.said.textContent = sentence;
    this.said.hidden = !sentence;
  }

  /** A label that items have got meanwhile. */
  offerLabel(name) {
    const value = `label:${name}`;
    if ([...this.select.options].some((option) => option.value === value)) {
      if (this.key === value) this.changed(value);
      return;
    }
    const option = Object.assign(document.createElement("option"), { value, textContent: name });
    const plain = this.select.querySelector('option[value="plain"]');
    plain.parentElement.insertBefore(option, plain);
  }
}
