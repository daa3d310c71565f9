// A map of points: draws them, pans, zooms, says which one is where. No dependency.
//
// A graphics card draws them by WebGL2; where there is none, and at first, they are drawn pixel by pixel.
// Places are in data units, y upwards, the same scale on both axes; px and py are CSS pixels from
// the host's upper left corner. A point is named by its index in the arrays that were given.

import { PointPainter, hasFastWebGL } from "./scatter-gl.js";
import { PointGrid, clamp } from "./scatter-grid.js";
import { Pointer } from "./scatter-pointer.js";
import { RasterPainter } from "./scatter-raster.js";
import { DIM, SHOWN, arrange, paperBehind } from "./scatter-shades.js";
import { View } from "./scatter-view.js";

const PICK_RADIUS = 12; // pixels
const MOST_SOFT = 200000; // more points are drawn without blending, which costs frames
const FRAME_MS = 28; // what drawing may take while the view moves: above, it draws a part
const FEWEST_MOVING = 30000; // points of that part
const CARD_MS = 1000; // after the first picture, a graphics card is looked for
const STILL_MS = 140; // without a move, all are drawn again
// Up to so many points: pixels.
const SIZES = [[500, 8], [2000, 7], [10000, 6], [50000, 5], [200000, 4], [500000, 3]];
const SMALLEST = 2;
const LARGEST_ZOOMED = 9;
const MOST_DEVICE_PIXELS = 2;

export class Scatter {
  /**
   * host: the element to fill, which has a size. handlers, all optional:
   * onHover(i or -1), onClick(i, event), onView({x: [low, high], y: [low, high]}),
   * onLasso(Uint32Array of indices, [[x, y], ...] in data units).
   * painter: "webgl" or "raster", to have that one and no other.
   */
  constructor(host, handlers = {}, painter = "best") {
    this.host = host;
    this.handlers = handlers;
    this.mode = "pan"; // or "lasso"
    this.x = this.y = new Float32Array(0);
    this.mask = null;
    this.colouring = null;
    this.rings = [];
    this.seen = new View();
    this.fitted = true; // the view is still that of everything: it follows the size
    this.extent = this.seen.bounds; // of the points; the view may fit to more
    this.grid = null;
    this.drawMs = 0; // what the last frame took
    this.share = 1; // of the points, while the view moves
    this.isMoving = false;
    this.frame = 0;
    this.waiting = [];
    this.isDrawn = false; // all points are on the canvas as they are set now
    this.needsLoad = false;
    this.paper = paperBehind(host); // also before there are points
    if (getComputedStyle(host).position === "static") host.style.position = "relative";
    this.canvas = this.#layer("canvas");
    this.over = this.#layer("canvas");
    this.over.style.display = "none";
    this.surface = this.#layer("div"); // takes the pointer's events, and costs nothing to show
    this.painter = painter === "webgl" ? this.#card(this.canvas) : new RasterPainter(this.canvas);
    this.isSettled = painter !== "best"; // the painter will stay
    this.looking = 0;
    this.pointer = new Pointer(this.surface, this);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(host);
    this.#resize();
  }

  #layer(name) {
    const layer = document.createElement(name);
    Object.assign(layer.style, {
      position: "absolute",
      inset: "0",
      width: "100%",
      height: "100%",
    });
    layer.setAttribute("aria-hidden", "true");
    this.host.append(layer);
    return layer;
  }

  #card(canvas) {
    const painter = new PointPainter(canvas);
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      painter.prepare();
      this.#reload();
    });
    return painter;
  }

  // Asking for a graphics card may take longer than the first picture without it, which comes first.
  async #findCard() {
    if (this.isGone) return;
    this.isSettled = !hasFastWebGL();
    if (this.isSettled) return;
    const { canvas, painter } = this;
    this.canvas = canvas.cloneNode();
    canvas.before(this.canvas); // below it, until something is drawn
    this.painter = this.#card(this.canvas);
    this.share = 1;
    this.#reload();
    await this.whenDrawn();
    canvas.remove();
    painter.destroy();
    this.isSettled = true;
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
    this.share = 1;
    if (x.length) this.extent = this.seen.bounds = { x: ends(x), y: ends(y) };
    this.#reload();
    if (isFirst || this.fitted) this.fit();
  }

  /**
   * What the points are coloured by. Either {codes, palette, noise, without}: a code for each
   * point, which takes palette[code % palette.length]; -1 is noise and -2 without, each a colour.
   * Or {values, scale, range: [low, high], without}: a number for each point on a scale of colours;
   * NaN is without. Noise and what is without lie below the others.
   */
  setColours(colouring) {
    this.colouring = colouring;
    this.#reload();
  }

  /** Uint8Array, a number for each point: 0 hidden, 1 shown, 2 dimmed. null shows all. */
  setMask(mask) {
    if (mask === null && this.mask === null) return; // nothing to draw again
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
    this.paper = paperBehind(this.host);
    const { places, shades, layers } = arrange(this);
    this.drawn = shades.length;
    this.painter.load(places, shades, layers);
  }

  get isSoft() {
    return this.x.length <= MOST_SOFT;
  }

  /** The size of a point, in CSS pixels: by how many there are, and larger in a closer view. */
  get pointSize() {
    const size = SIZES.find(([most]) => this.x.length <= most)?.[1] ?? SMALLEST;
    const closer = Math.max(0, Math.log2(this.seen.scale / this.seen.wholeScale));
    return Math.max(size, Math.min(LARGEST_ZOOMED, size * (1 + 0.15 * closer)));
  }

  #ask() {
    this.isDrawn = false;
    if (!this.frame && !this.isGone) {
      this.frame = requestAnimationFrame(() => this.#draw());
    }
  }

  #draw() {
    this.frame = 0;
    if (this.painter.isLost || !this.seen.width || !this.seen.height) return;
    if (this.needsLoad) this.#load();
    const fewest = Math.min(1, FEWEST_MOVING / (this.drawn || 1));
    const share = this.isMoving ? Math.max(this.share, fewest) : 1;
    const started = performance.now();
    this.painter.draw({
      centre: this.seen.centre,
      scale: this.seen.scale * this.ratio,
      size: this.pointSize * this.ratio,
      isSoft: this.isSoft,
      share,
      paper: this.paper,
    });
    this.#settle(share, started, share === 1 ? this.waiting.splice(0) : []);
  }

  async #settle(share, started, resolvers) {
    if (!(await this.painter.finished()) || this.isGone) return;
    this.drawMs = performance.now() - started;
    // While the view moves, as many points are drawn as a frame has time for.
    this.share = clamp((share * FRAME_MS) / this.drawMs, 0, 1);
    this.isDrawn = share === 1 && !this.frame;
    for (const resolve of resolvers) resolve();
    if (share < 1) return;
    this.#indexSoon();
    if (this.x.length && !this.isSettled) this.looking ||= setTimeout(() => this.#findCard(), CARD_MS);
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
    if (this.isDrawn) return Promise.resolve();
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.#ask();
    });
  }

  /** Draws what lies over the points: rings and the lasso. */
  drawOver() {
    const isEmpty = !this.rings.length && !this.pointer?.lasso;
    this.over.style.display = isEmpty ? "none" : ""; // a layer that is shown costs each frame
    if (isEmpty) return;
    const context = this.over.getContext("2d");
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.seen.width, this.seen.height);
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
    const { clientWidth: width, clientHeight: height } = this.host;
    Object.assign(this.seen, { width, height });
    this.ratio = Math.min(window.devicePixelRatio || 1, MOST_DEVICE_PIXELS);
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.max(1, Math.round(width * this.ratio));
      canvas.height = Math.max(1, Math.round(height * this.ratio));
    }
    if (this.fitted) this.fit();
    else this.#moved(false);
  }

  /** Shows everything. */
  fit() {
    this.seen.fit();
    this.#moved(false);
    this.fitted = true;
  }

  /** What `fit` shows, where that is more than the points: {x: [low, high], y: [low, high]}. */
  setBounds(bounds) {
    this.seen.bounds = bounds;
    if (this.fitted) this.fit();
  }

  /** Closer by a factor above 1, farther by one below; (px, py), or the middle, stays in place. */
  zoomBy(factor, px = this.seen.width / 2, py = this.seen.height / 2) {
    this.seen.zoomBy(factor, px, py);
    this.#moved(true);
  }

  /** Moves the points by pixels: dx to the right, dy down. */
  panBy(dx, dy) {
    this.seen.panBy(dx, dy);
    this.#moved(true);
  }

  /** The part of the plane that is seen: {x: [low, high], y: [low, high]}. */
  view() {
    return this.seen.ranges;
  }

  /** Shows this part of the plane, and more where the frame has another shape. */
  setView(ranges) {
    this.seen.ranges = ranges;
    this.#moved(true);
  }

  #moved(isByHand) {
    this.fitted = false;
    if (isByHand) this.#keepMoving();
    this.#ask();
    this.drawOver();
    if (this.seen.width && this.seen.height) this.handlers.onView?.(this.view());
  }

  // Moving, until nothing has moved for a while; then all points are drawn.
  #keepMoving() {
    this.isMoving = true;
    clearTimeout(this.still);
    this.still = setTimeout(() => {
      this.isMoving = false;
      this.#ask();
    }, Math.max(STILL_MS, 3 * this.drawMs));
  }

  /** Where a place of the plane is on the screen: [px, py]. */
  toScreen(x, y) {
    return this.seen.toScreen(x, y);
  }

  /** Which place of the plane is at these pixels: [x, y]. */
  toData(px, py) {
    return this.seen.toData(px, py);
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
    const within = Math.max(radius, this.pointSize / 2) / this.seen.scale;
    const { mask } = this;
    const found = this.#index().pick(x, y, within, (i) => mask === null || mask[i] === SHOWN);
    if (found >= 0 || mask === null) return found;
    return this.#index().pick(x, y, within, (i) => mask[i] === DIM);
  }

  /**
   * The next shown point from point i in a direction, [dx, dy] with y upwards: the nearest that
   * lies rather ahead than aside, and apart from it on the screen. From -1, the one nearest to the
   * middle of the view.
   */
  nearest(i, direction) {
    const { mask } = this;
    const isShown = (j) => mask === null || mask[j] === SHOWN;
    if (i < 0) return this.#index().nearest(...this.seen.centre, isShown);
    const least = this.pointSize / 2 / this.seen.scale;
    return this.#index().nearest(this.x[i], this.y[i], (j, dx, dy) => {
      const ahead = dx * direction[0] + dy * direction[1];
      const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
      return ahead > least && aside <= ahead && isShown(j);
    });
  }

  /** The shown points within a polygon [[x, y], ...] in data units, even-odd, ascending. */
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
    clearTimeout(this.looking);
    this.sizes.disconnect();
    this.pointer.destroy();
    this.painter.destroy();
    for (const layer of [this.canvas, this.over, this.surface]) layer.remove();
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
