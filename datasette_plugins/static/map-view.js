// One map: its points, their colours and names, and which of them are shown, dimmed or ringed.

import { fetchColours, fetchMap } from "./columns.js";
import { otherColours, palette, rangeOf, spreadColours } from "./map-colours.js";
import { Places } from "./map-ids.js";
import { middlesOf, Names } from "./map-names.js";
import { Scatter } from "./scatter.js";

const HIDDEN = 0; // what the renderer's mask says of a point
const SHOWN = 1;
const DIMMED = 2;
const PATIENCE = 150; // ms that points wait for their colours
const SOON = {};
const WINDOW_AFTER = 250; // ms that a view must rest before more of a sampled map is asked for
const MARGIN = 0.5; // of the view's size, asked for on each side of it

/** Asks for the points of a map and, with a key, for their colours: MapView.load takes them. */
export function askMap(settings, key = null) {
  return {
    key,
    points: fetchMap(settings.columns),
    colours: key
      ? fetchColours(settings.colours, key).catch(() => null) // asked for again by colourBy
      : Promise.resolve(null),
  };
}

export class MapView {
  /**
   * @param {HTMLElement} frame with .canvas, .names, .status and .sampled
   * @param {{run, columns, colours, space, title}} settings
   * @param on what happens: hover(view, point or -1), click(view, point), lasso(view, polygon),
   *   moved(view), changed(view) when other points of a sampled map came
   */
  constructor(frame, settings, on) {
    this.frame = frame;
    this.settings = settings;
    this.on = on;
    this.host = frame.querySelector(".canvas");
    this.statusLine = frame.querySelector(".status");
    this.points = null; // what fetchMap gave
    this.colours = null; // what fetchColours gave
    this.middles = []; // of the groups, the largest first
    this.cursor = -1; // the point that the keyboard is on
    this.codesLeft = null;
    this.asked = 0; // counts what was asked for, so that an answer that comes too late is dropped
    this.waiting = 0;
    this.host.map = this; // for who scripts the page, such as its tests
    this.names = new Names(frame.querySelector(".names"));
    this.scatter = new Scatter(this.host, {
      onHover: (point) => on.hover(this, point),
      onClick: (point) => on.click(this, point),
      onLasso: (_, polygon) => on.lasso(this, polygon),
      onView: (view) => this.#moved(view),
    });
  }

  /** Takes the whole map, or an even sample of it, and its first colours: what askMap asked for. */
  async load({ key, points, colours }) {
    this.say("Loading the points");
    this.#take(await points);
    this.isWhole = this.points.n === this.points.total;
    this.scatter.fit();
    this.#drawGrey(colours);
    const early = await colours;
    this.early = early?.points === this.points.points ? { key, colours: early } : null;
  }

  // Where the colours take longer, the points are there before them.
  async #drawGrey(colours) {
    const soon = new Promise((resolve) => setTimeout(resolve, PATIENCE, SOON));
    if ((await Promise.race([colours, soon])) !== SOON || this.colours) return;
    const { noise } = otherColours(this.frame);
    this.scatter.setColours({ codes: new Uint8Array(this.points.n), palette: [noise] });
    this.say("");
  }

  #take(points) {
    this.points = points;
    this.places = new Places(points.ids);
    this.cursor = -1;
    this.scatter.setPoints({ x: points.x, y: points.y });
    this.scatter.setBounds(points.bounds);
    const sampled = this.frame.querySelector(".sampled");
    sampled.hidden = points.n === points.total;
    sampled.textContent =
      `${points.n.toLocaleString("en")} of ${points.total.toLocaleString("en")} points shown` +
      (points.query.includes("x=") ? "" : ", evenly; zoom in for more");
  }

  /** Fetches the colours of a key, of the points that are there. */
  async colourBy(key) {
    const asked = ++this.asked;
    const colours =
      this.early?.key === key
        ? this.early.colours
        : await fetchColours(this.settings.colours, key, this.points);
    this.early = null;
    if (asked !== this.asked) return false;
    this.key = key;
    this.colours = colours;
    const { x, y } = this.points;
    this.middles = colours.kind === "codes" ? middlesOf(x, y, colours.codes) : [];
    this.range = colours.kind === "values" ? rangeOf(colours.values) : null;
    return true;
  }

  get isWindow() {
    return this.points.query.includes("x=");
  }

  /** Draws the colours; `colourOf` says which place of the palette each code has. */
  paint(colourOf) {
    const fixed = otherColours(this.frame);
    const { colours } = this;
    if (colours.kind === "values") {
      const { low, high } = this.range;
      this.scatter.setColours({
        values: colours.values,
        scale: fixed.scale,
        range: [low, high],
        without: fixed.without,
      });
    } else {
      const codes = Math.max(0, ...colourOf.keys()) + 1;
      const list = palette(this.frame);
      this.scatter.setColours({
        codes: colours.codes,
        // One for each code: groups that lie apart may share a colour.
        palette: Array.from(
          { length: codes },
          (_, code) => list[(colourOf.get(code) ?? code) % list.length],
        ),
        noise: fixed.noise,
        without: fixed.without,
      });
    }
  }

  /** The places of the palette that keep neighbours apart. */
  colourPlaces() {
    if (this.colours.kind === "plain") return new Map([[0, 0]]);
    return spreadColours(this.middles, palette(this.frame).length);
  }

  /** Writes the names of the groups of which something is shown; none where `names` is null. */
  write(names, hidden) {
    const isShown = ({ code }) =>
      names?.has(code) && !hidden.has(code) && (this.codesLeft?.has(code) ?? true);
    const named = this.middles.filter(isShown);
    this.names.set(named.map((middle) => ({ ...middle, name: names.get(middle.code) })));
    this.names.place(this.scatter.view());
  }

  /**
   * Shows what is wanted and dims or hides the rest.
   *
   * @param {{hidden: Set<number>, lit: number|null, filter: ids|null, chosen: ids|null}} wanted
   */
  show({ hidden, lit, filter, chosen }) {
    const codes = this.colours.codes ?? null;
    const isAll = (!codes || (hidden.size === 0 && lit === null)) && !filter && !chosen;
    this.codesLeft = null; // of the groups of which something is shown; null: all
    if (isAll) {
      this.scatter.setMask(null);
      return;
    }
    if (codes && (filter || chosen)) this.codesLeft = new Set();
    const inFilter = filter && this.places.among(filter);
    const inChosen = chosen && this.places.among(chosen);
    const mask = new Uint8Array(this.points.n).fill(SHOWN);
    for (let i = 0; i < mask.length; i++) {
      if (codes && hidden.size && hidden.has(codes[i])) mask[i] = HIDDEN;
      else if (inFilter && !inFilter[i]) mask[i] = DIMMED;
      else if (inChosen && !inChosen[i]) mask[i] = DIMMED;
      else {
        this.codesLeft?.add(codes[i]);
        if (lit !== null && codes && codes[i] !== lit) mask[i] = DIMMED;
      }
    }
    this.scatter.setMask(mask);
  }

  /** The items of the points that the legend does not hide, ascending. */
  itemsShown(hidden) {
    const found = [];
    for (let k = 0; k < this.places.sorted.length; k++) {
      const point = this.places.points ? this.places.points[k] : k;
      if (!hidden.has(this.colours.codes[point])) found.push(this.places.sorted[k]);
    }
    return found;
  }

  /** The code of an item's colour; undefined where it is not drawn. */
  codeOf(id) {
    const point = this.places.of(id);
    return point < 0 ? undefined : this.colours.codes[point];
  }

  /** What a drag does: "pan" or "lasso". */
  setMode(mode) {
    this.scatter.mode = mode;
    this.frame.classList.toggle("lassoing", mode === "lasso");
    this.frame.querySelector(".to-lasso").setAttribute("aria-pressed", String(mode === "lasso"));
  }

  /** Rings around items: the opened one, its neighbours, the one that is pointed at. */
  ring({ opened, neighbours, pointed }) {
    const rings = [];
    const colour = otherColours(this.frame).ink;
    const add = (id, size, width) => {
      const index = id === null ? -1 : this.places.of(id);
      if (index >= 0) rings.push({ index, size, width, colour });
    };
    for (const id of neighbours) add(id, 12, 1.25);
    add(opened, 18, 3);
    add(pointed, 16, 1.5);
    if (this.cursor >= 0) rings.push({ index: this.cursor, size: 20, width: 2, colour });
    this.scatter.setRings(rings);
  }

  /** Goes to the next point in a direction [dx, dy], at first to the one nearest to the middle. */
  step(direction) {
    const next = this.scatter.nearest(this.cursor, direction);
    if (next >= 0) {
      this.cursor = next;
      this.#reveal(next);
    }
    return next;
  }

  // Brings a point into view, where it is not.
  #reveal(point) {
    const view = this.scatter.view();
    const x = this.points.x[point];
    const y = this.points.y[point];
    if (x > view.x[0] && x < view.x[1] && y > view.y[0] && y < view.y[1]) return;
    const [w, h] = [view.x[1] - view.x[0], view.y[1] - view.y[0]];
    this.scatter.setView({ x: [x - w / 2, x + w / 2], y: [y - h / 2, y + h / 2] });
  }

  /** Zooms to the points of a group. */
  zoomTo(wanted) {
    const { codes } = this.colours;
    const frame = { x: [Infinity, -Infinity], y: [Infinity, -Infinity] };
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] !== wanted) continue;
      for (const axis of ["x", "y"]) {
        frame[axis][0] = Math.min(frame[axis][0], this.points[axis][i]);
        frame[axis][1] = Math.max(frame[axis][1], this.points[axis][i]);
      }
    }
    if (frame.x[0] > frame.x[1]) return;
    const edge = 0.15 * Math.max(frame.x[1] - frame.x[0], frame.y[1] - frame.y[0]) || 0.5;
    this.scatter.setView({
      x: [frame.x[0] - edge, frame.x[1] + edge],
      y: [frame.y[0] - edge, frame.y[1] + edge],
    });
  }

  /** The middle of the frame says something; nothing hides it. */
  say(sentence) {
    this.statusLine.textContent = sentence;
    this.statusLine.hidden = !sentence;
  }

  #moved(view) {
    this.names.place(view);
    if (!this.colours) return; // not yet begun
    this.on.moved(this);
    if (this.isWhole) return;
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.#window(view), WINDOW_AFTER);
  }

  // A sampled map shows more of what one looks at: a denser sample of the view and around.
  async #window(view) {
    const { bounds } = this.points;
    const isAll = ["x", "y"].every(
      (axis) => view[axis][0] <= bounds[axis][0] && view[axis][1] >= bounds[axis][1],
    );
    if (isAll && !this.isWindow) return;
    const url = new URL(this.settings.columns, location.href);
    for (const axis of isAll ? [] : ["x", "y"]) {
      const [low, high] = view[axis];
      const margin = MARGIN * (high - low);
      url.searchParams.set(axis, `${low - margin},${high + margin}`);
    }
    const asked = ++this.asked;
    try {
      const points = await fetchMap(url);
      const colours = await fetchColours(this.settings.colours, this.key, points);
      if (asked !== this.asked) return;
      const place = this.scatter.view();
      this.#take(points);
      this.colours = colours;
      this.scatter.setView(place);
      this.on.changed(this);
    } catch (error) {
      this.say(error.message);
    }
  }
}
