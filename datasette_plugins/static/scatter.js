// A map of points: draws them by WebGL2, pans, zooms, says which one is where. No dependency.
//
// Places are in data units, y upwards, the same scale on both axes; px and py are CSS pixels from the
// host's upper left corner. A point is named by its index in the arrays that were given.

import { PointPainter } from "./scatter-gl.js";
import { PointGrid, clamp } from "./scatter-grid.js";
import { Pointer } from "./scatter-pointer.js";
import { DIM, SHOWN, arrange } from "./scatter-shades.js";

const PICK_RADIUS = 12; // pixels
const MARGIN = 0.04; // of the frame, around all points
const MOST_ZOOM = 50000; // against the view of everything: float32 places have no more to show
const LEAST_ZOOM = 0.25;
const MOST_SOFT = 200000; // more points are drawn without blending, which costs frames
const FRAME_MS = 28; // what drawing may take while the view moves: above, it draws a part
const FEWEST_MOVING = 30000; // points of that part
const STILL_MS = 140; // without a move, all are drawn again
const SIZES = [[500, 8], [2000, 7], [10000, 6], [50000, 5], [200000, 4]]; // up to n points: pixels
const SMALLEST = 3;
const LARGEST_ZOOMED = 9;
const MOST_DEVICE_PIXELS = 2;

export class Scatter {
  /**
   * host: the element to fill, which has a size. handlers, all optional:
   * onHover(i or -1), onClick(i, event), onLasso(Uint32Array of indices, [[x, y], ...] in data units),
   * onView({x: [low, high], y: [low, high]}).
   * Where the browser has no WebGL2, `isSupported` is false, and the host says so.
   */
  constructor(host, handlers = {}) {
    this.host = host;
    this.handlers = handlers;
    this.mode = "pan"; // or "lasso"
    this.x = this.y = new Float32Array(0);
    this.mask = null;
    this.colouring = null;
    this.rings = [];
    this.extent = this.bounds = { x: [0, 1], y: [0, 1] };
    this.centre = [0.5, 0.5];
    this.scale = 1; // CSS pixels a data unit
    this.fitted = true; // the view is still that of everything: it follows the size
    this.grid = null;
    this.fullMs = 0; // what drawing all points took
    this.movedAt = -Infinity;
    this.frame = 0;
    this.waiting = [];
    this.needsLoad = false;
    if (getComputedStyle(host).position === "static") host.style.position = "relative";
    this.canvas = this.#layer();
    this.over = this.#layer();
    this.painter = new PointPainter(this.canvas);
    this.isSupported = this.painter.gl !== null;
    if (!this.isSupported) this.#saySo();
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter.prepare();
      this.#reload();
    });
    this.pointer = new Pointer(this.over, this);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(host);
    this.#resize();
  }

  #layer() {
    const canvas = document.createElement("canvas");
    Object.assign(canvas.style, { position: "absolute", inset: "0", width: "100%", height: "100%" });
    canvas.setAttribute("aria-hidden", "true");
    this.host.append(canvas);
    return canvas;
  }

  #saySo() {
    const sentence = document.createElement("p");
    sentence.className = "problem";
    sentence.textContent =
      "This browser cannot draw the map: it needs WebGL2, which is switched off or missing here.";
    this.host.append(sentence);
  }

  // --- what is drawn --------------------------------------------------------------------------

  /** Other points: Float32Arrays in data units. Colours and mask are forgotten, the view stays. */
  setPoints({ x, y }) {
    const isFirst = this.x.length === 0;
    this.x = x;
    this.y = y;
    this.mask = null;
    this.colouring = null;
    this.rings = [];
    this.grid = null;
    this.fullMs = 0;
    if (x.length) this.extent = this.bounds = { x: ends(x), y: ends(y) };
    this.#reload();
    if (isFirst || this.fitted) this.fit();
  }

  /**
   * What the points are coloured by. Either {codes, palette, noise, without}: a code for each point,
   * which takes palette[code % palette.length]; -1 is noise and -2 without, each a colour. Or
   * {values, scale, range: [low, high], without}: a number for each point on a scale of colours; NaN is
   * without. Noise and what is without lie below the others.
   */
  setColours(colouring) {
    this.colouring = colouring;
    this.#reload();
  }

  /** Uint8Array, a number for each point: 0 hidden, 1 shown, 2 dimmed. null shows all. */
  setMask(mask) {
    this.mask = mask;
    this.#reload();
  }

  /** Rings around points: [{index, size, width, colour}], in pixels; colour defaults to the ink. */
  setRings(rings) {
    this.rings = rings;
    this.drawOver();
  }

  /** Draws again, with the colours that the style sheets give now. */
  redraw() {
    this.#reload();
    this.drawOver();
  }

  // The buffers are filled once before the next frame, however much was set until then.
  #reload() {
    this.needsLoad = true;
    this.#ask();
  }

  #load() {
    this.needsLoad = false;
    const { places, shades, layers } = arrange(this);
    this.drawn = shades.length;
    this.painter.load(places, shades, layers);
  }

  get isSoft() {
    return this.x.length <= MOST_SOFT;
  }

  /** The size of a point, in CSS pixels: by how many there are, and larger where the view is closer. */
  get pointSize() {
    const size = SIZES.find(([most]) => this.x.length <= most)?.[1] ?? SMALLEST;
    const closer = Math.max(0, Math.log2(this.scale / this.#fittedScale()));
    return Math.max(size, Math.min(LARGEST_ZOOMED, size * (1 + 0.15 * closer)));
  }

  #ask() {
    if (!this.frame && this.isSupported && !this.isGone) {
      this.frame = requestAnimationFrame(() => this.#draw());
    }
  }

  #draw() {
    this.frame = 0;
    if (this.painter.gl.isContextLost() || !this.width || !this.height) return;
    if (this.needsLoad) this.#load();
    const isMoving = performance.now() - this.movedAt < STILL_MS;
    const share = isMoving ? this.#movingShare() : 1;
    this.painter.draw({
      centre: this.centre,
      scale: this.scale * this.ratio,
      size: this.pointSize * this.ratio,
      isSoft: this.isSoft,
      share,
    });
    if (share < 1) this.#drawAllSoon();
    else this.#measure();
  }

  #movingShare() {
    if (this.fullMs <= FRAME_MS || !this.drawn) return 1;
    return clamp(FRAME_MS / this.fullMs, Math.min(1, FEWEST_MOVING / this.drawn), 1);
  }

  #drawAllSoon() {
    clearTimeout(this.still);
    this.still = setTimeout(() => this.#ask(), STILL_MS + 10);
  }

  async #measure() {
    const resolvers = this.waiting.splice(0);
    const started = performance.now();
    if (!(await this.painter.finished()) || this.isGone) return;
    this.fullMs = performance.now() - started;
    for (const resolve of resolvers) resolve();
    this.#indexSoon();
  }

  // The grid is made once the points are on the screen, not before.
  #indexSoon() {
    if (this.grid || this.indexing) return;
    this.indexing = true;
    setTimeout(() => {
      this.indexing = false;
      if (!this.isGone) this.#index();
    }, 0);
  }

  #index() {
    this.grid ??= new PointGrid(this.x, this.y, this.extent);
    return this.grid;
  }

  /** Resolves once all points are on the canvas as they are set now. */
  whenDrawn() {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.#ask();
    });
  }

  /** Draws what lies over the points: rings and the lasso. */
  drawOver() {
    const isEmpty = !this.rings.length && !this.pointer?.lasso;
    if (isEmpty && this.isOverClear) return; // a canvas that is touched is put on the screen again
    this.isOverClear = isEmpty;
    const context = this.over.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const ink = getComputedStyle(this.host).getPropertyValue("--ink").trim() || "#222";
    for (const { index, size, width, colour } of this.rings) {
      const [px, py] = this.screen(index);
      context.beginPath();
      context.arc(px, py, size / 2, 0, 2 * Math.PI);
      context.strokeStyle = colour ?? ink;
      context.lineWidth = width;
      context.stroke();
    }
    if (!this.pointer?.lasso) return;
    context.beginPath();
    for (const [px, py] of this.pointer.lasso) context.lineTo(px, py);
    context.closePath();
    context.globalAlpha = 0.08;
    context.fillStyle = ink;
    context.fill("evenodd");
    context.globalAlpha = 1;
    context.strokeStyle = ink;
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  }

  // --- the view -------------------------------------------------------------------------------

  #resize() {
    this.width = this.host.clientWidth;
    this.height = this.host.clientHeight;
    this.ratio = Math.min(window.devicePixelRatio || 1, MOST_DEVICE_PIXELS);
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.max(1, Math.round(this.width * this.ratio));
      canvas.height = Math.max(1, Math.round(this.height * this.ratio));
    }
    if (this.fitted) this.fit();
    else this.#moved(false);
  }

  #fittedScale() {
    const { x, y } = this.bounds;
    const inner = 1 - 2 * MARGIN;
    const across = x[1] - x[0] ? (this.width * inner) / (x[1] - x[0]) : Infinity;
    const up = y[1] - y[0] ? (this.height * inner) / (y[1] - y[0]) : Infinity;
    const scale = Math.min(across, up);
    return Number.isFinite(scale) && scale > 0 ? scale : 1;
  }

  /** Shows everything. */
  fit() {
    const { x, y } = this.bounds;
    this.centre = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2];
    this.scale = this.#fittedScale();
    this.#moved(false);
    this.fitted = true;
  }

  /** What `fit` shows, where that is more than the points: {x: [low, high], y: [low, high]}. */
  setBounds(bounds) {
    this.bounds = bounds;
    if (this.fitted) this.fit();
  }

  /** Closer by a factor above 1, farther by one below; (px, py), by default the middle, stays in place. */
  zoomBy(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.toData(px, py);
    const whole = this.#fittedScale();
    this.scale = clamp(this.scale * factor, whole * LEAST_ZOOM, whole * MOST_ZOOM);
    this.centre = [
      x - (px - this.width / 2) / this.scale,
      y + (py - this.height / 2) / this.scale,
    ];
    this.#moved(true);
  }

  /** Moves the points by pixels: dx to the right, dy down. */
  panBy(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale];
    this.#moved(true);
  }

  /** The part of the plane that is seen: {x: [low, high], y: [low, high]}. */
  view() {
    const [x, y] = this.centre;
    const [across, up] = [this.width / 2 / this.scale, this.height / 2 / this.scale];
    return { x: [x - across, x + across], y: [y - up, y + up] };
  }

  /** Shows this part of the plane, and more where the frame has another shape. */
  setView({ x, y }) {
    this.centre = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2];
    const whole = this.#fittedScale();
    const scale = Math.min(this.width / (x[1] - x[0]), this.height / (y[1] - y[0]));
    this.scale = clamp(Number.isFinite(scale) ? scale : whole, whole * LEAST_ZOOM, whole * MOST_ZOOM);
    this.#moved(true);
  }

  #moved(isByHand) {
    this.fitted = false;
    if (isByHand) this.movedAt = performance.now();
    this.#ask();
    this.drawOver();
    if (this.width && this.height) this.handlers.onView?.(this.view());
  }

  /** Where a place of the plane is on the screen: [px, py]. */
  toScreen(x, y) {
    return [
      this.width / 2 + (x - this.centre[0]) * this.scale,
      this.height / 2 - (y - this.centre[1]) * this.scale,
    ];
  }

  /** Which place of the plane is at these pixels: [x, y]. */
  toData(px, py) {
    return [
      this.centre[0] + (px - this.width / 2) / this.scale,
      this.centre[1] - (py - this.height / 2) / this.scale,
    ];
  }

  /** Where a point is on the screen: [px, py]. */
  screen(i) {
    return this.toScreen(this.x[i], this.y[i]);
  }

  // --- which point ----------------------------------------------------------------------------

  /** The nearest point within some pixels, a dimmed one only where there is no other; or -1. */
  pick(px, py, radius = PICK_RADIUS) {
    if (!this.x.length) return -1;
    const [x, y] = this.toData(px, py);
    const within = Math.max(radius, this.pointSize / 2) / this.scale;
    const { mask } = this;
    const found = this.#index().pick(x, y, within, (i) => mask === null || mask[i] === SHOWN);
    if (found >= 0 || mask === null) return found;
    return this.#index().pick(x, y, within, (i) => mask[i] === DIM);
  }

  /**
   * The next shown point from point i in a direction, [dx, dy] with y upwards: the nearest that lies
   * rather ahead than aside, and apart from it on the screen. From -1, the one nearest to the middle.
   */
  nearest(i, direction) {
    const { mask } = this;
    const isShown = (j) => mask === null || mask[j] === SHOWN;
    if (i < 0) return this.#index().nearest(...this.centre, isShown);
    const least = this.pointSize / 2 / this.scale;
    return this.#index().nearest(this.x[i], this.y[i], (j, dx, dy) => {
      const ahead = dx * direction[0] + dy * direction[1];
      const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
      return ahead > least && aside <= ahead && isShown(j);
    });
  }

  /** The shown points within a polygon [[x, y], ...] in data units, by the even-odd rule, ascending. */
  inPolygon(polygon) {
    const { mask } = this;
    return this.#index().inPolygon(polygon, (i) => mask === null || mask[i] === SHOWN);
  }

  /** Gives up a lasso that is being drawn. True if there was one. */
  cancelLasso() {
    return this.pointer.cancelLasso();
  }

  /** Takes the map away, and gives back what it held. */
  destroy() {
    this.isGone = true;
    cancelAnimationFrame(this.frame);
    clearTimeout(this.still);
    this.sizes.disconnect();
    this.pointer.destroy();
    this.painter.destroy();
    this.canvas.remove();
    this.over.remove();
  }
}

function ends(numbers) {
  let [low, high] = [Infinity, -Infinity];
  for (const number of numbers) {
    if (number < low) low = number;
    if (number > high) high = number;
  }
  return [low, high];
}
