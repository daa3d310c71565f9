// What the colours mean: groups that can be found, hidden and seen alone; or a scale and its range.

import { readable } from "./map-colours.js";

const BARS = 44; // of the histogram above a scale
const MOST = 300; // groups listed; more are found by their names
const HOW = "Click: hide or show. Shift-click: alone. Double-click: go there.";
const SEARCHED_FROM = 8; // groups; fewer need no search

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

export class Legend {
  /**
   * @param {HTMLElement} section with .title, .find and .entries
   * @param on hidden(Set of codes), lit(code or null), find(code)
   */
  constructor(section, on) {
    this.section = section;
    this.on = on;
    this.title = section.querySelector(".title");
    this.finder = section.querySelector(".find");
    this.list = section.querySelector(".entries");
    this.groups = [];
    this.hidden = new Set();
    this.finder.addEventListener("input", () => this.#list());
    this.finder.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      const first = this.list.querySelector("button");
      if (first) this.on.find(Number(first.dataset.code));
    });
  }

  /**
   * Groups, each {code, name, items, colour}; those below 0 are noise and points without one.
   * @param {Iterable<number>} hidden the codes that are hidden
   */
  showGroups(title, groups, hidden) {
    this.groups = groups;
    this.hidden = new Set(groups.map((group) => group.code).filter((code) => hidden.has(code)));
    this.title.textContent = title;
    this.finder.value = "";
    this.#offerFinder(groups.length >= SEARCHED_FROM);
    this.section.hidden = false;
    this.list.className = "entries";
    this.#list();
  }

  // The groups whose names hold what is looked for; noise and points without a group come last.
  #list() {
    const wanted = this.finder.value.trim().toLocaleLowerCase();
    const found = this.groups.filter(({ name }) => name.toLocaleLowerCase().includes(wanted));
    const named = found.filter(({ code }) => code >= 0);
    const listed = [...named.slice(0, MOST), ...found.filter(({ code }) => code < 0)];
    this.list.replaceChildren(...listed.map((group) => this.#entry(group)));
    if (named.length > MOST) {
      const more = `${(named.length - MOST).toLocaleString("en")} more: find them by their names.`;
      this.list.append(element("p", { className: "note" }, more));
    }
  }

  #entry({ code, name, items, colour }) {
    const swatch = element("i", {});
    swatch.style.background = colour;
    const button = element(
      "button",
      { type: "button", title: `${name}\n${HOW}` },
      swatch,
      element("span", { className: "name" }, name),
      element("span", { className: "count" }, items.toLocaleString("en")),
    );
    button.setAttribute("aria-pressed", String(!this.hidden.has(code)));
    button.dataset.code = code;
    button.addEventListener("click", (event) => this.#toggle(code, event.shiftKey));
    button.addEventListener("dblclick", () => this.on.find(code));
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.on.lit(this.hidden.has(code) ? null : code);
    });
    button.addEventListener("pointerleave", () => this.on.lit(null));
    return button;
  }

  #toggle(code, isAlone) {
    const others = this.groups.map((group) => group.code).filter((other) => other !== code);
    if (isAlone) {
      const wasAlone = !this.hidden.has(code) && others.every((other) => this.hidden.has(other));
      this.hidden = new Set(wasAlone ? [] : others);
    } else if (!this.hidden.delete(code)) {
      this.hidden.add(code);
    }
    for (const button of this.list.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(!this.hidden.has(Number(button.dataset.code))));
    }
    this.on.hidden(this.hidden);
  }

  // Where there is one, it is what the key / goes to: see keys.js.
  #offerFinder(isThere) {
    this.finder.hidden = !isThere;
    this.finder.toggleAttribute("data-slash", isThere);
  }

  /** A scale: how the values lie on it, its ends, and how many points have none. */
  showScale(title, values, range, scale, items) {
    this.groups = [];
    this.hidden = new Set();
    this.title.textContent = title;
    this.#offerFinder(false);
    this.section.hidden = false;
    this.list.className = "entries of-scale";
    const gradient = element("div", { className: "scale" });
    gradient.style.background = `linear-gradient(to right, ${scale.join(", ")})`;
    const [low, high] = [readable(range.low), readable(range.high)];
    const facts = [];
    if (range.low > range.least) facts.push(`the least is ${readable(range.least)}`);
    if (range.high < range.most) facts.push(`the most is ${readable(range.most)}`);
    if (items) facts.push(`${items.toLocaleString("en")} points have no value`);
    this.list.replaceChildren(
      histogram(values, range),
      gradient,
      element(
        "div",
        { className: "ends" },
        element("span", {}, range.low > range.least ? `\u2264 ${low}` : low),
        element("span", {}, range.high < range.most ? `\u2265 ${high}` : high),
      ),
      element("p", { className: "note" }, facts.length ? `${sentence(facts.join("; "))}.` : ""),
    );
  }

  hide() {
    this.groups = [];
    this.hidden = new Set();
    this.#offerFinder(false);
    this.section.hidden = true;
  }
}

function sentence(text) {
  return text[0].toUpperCase() + text.slice(1);
}

function histogram(values, { low, high }) {
  const counts = new Array(BARS).fill(0);
  const width = high - low || 1;
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    counts[Math.max(0, Math.min(BARS - 1, Math.floor((BARS * (value - low)) / width)))]++;
  }
  const most = Math.max(1, ...counts);
  const path = counts
    .map((n, k) => (n ? `M${k} 20v${-Math.max(0.5, (20 * n) / most).toFixed(2)}h0.9V20z` : ""))
    .join("");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${BARS} 20`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "histogram");
  svg.setAttribute("role", "img");
  const ends = `${readable(low)} and ${readable(high)}`;
  svg.setAttribute("aria-label", `How the values lie between ${ends}`);
  const bars = document.createElementNS("http://www.w3.org/2000/svg", "path");
  bars.setAttribute("d", path);
  svg.append(bars);
  return svg;
}
