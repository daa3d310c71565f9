// The pointer on a map: drag, wheel, pinch, click, double click, and the lasso.

const CLICK_PIXELS = 4; // what moves less is a click
const LASSO_PIXELS = 3; // between two corners of a lasso
const TOUCH_RADIUS = 24; // a finger is less exact than a mouse
const WHEEL_LINE = 16; // pixels of a wheel that counts in lines
const LARGEST_STEP = 240; // pixels that one turn of the wheel counts at most

export class Pointer {
  /** surface: the element that takes the events; map: the Scatter whose view they move. */
  constructor(surface, map) {
    this.surface = surface;
    this.map = map;
    this.down = new Map(); // of each finger or button that is down, its last place
    this.lasso = null; // the corners so far, in pixels
    this.moved = 0; // how far the pointer went since it came down
    this.hovered = -1;
    this.waiting = null; // a place of the pointer that nobody has looked at yet
    this.stop = new AbortController();
    const on = (name, handler, options) =>
      surface.addEventListener(name, handler.bind(this), { signal: this.stop.signal, ...options });
    on("pointerdown", this.onDown);
    on("pointermove", this.onMove);
    on("pointerup", this.onUp);
    on("pointercancel", this.onCancel);
    on("pointerleave", () => this.hover(-1));
    on("wheel", this.onWheel, { passive: false });
    on("dblclick", () => map.fit());
    surface.style.touchAction = "none";
  }

  place(event) {
    const frame = this.surface.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.surface.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, this.place(event));
    if (this.down.size > 1) {
      this.setLasso(null); // a second finger pinches
      this.moved = Infinity;
      return;
    }
    this.moved = 0;
    if (this.map.mode === "lasso" || event.shiftKey) this.setLasso([this.place(event)]);
  }

  onMove(event) {
    const to = this.place(event);
    const from = this.down.get(event.pointerId);
    if (!from) {
      if (event.pointerType !== "touch") this.look(to);
      return;
    }
    this.moved += Math.hypot(to[0] - from[0], to[1] - from[1]);
    if (this.lasso) {
      const last = this.lasso.at(-1);
      if (Math.hypot(to[0] - last[0], to[1] - last[1]) >= LASSO_PIXELS) {
        this.setLasso([...this.lasso, to]);
      }
    } else if (this.down.size === 2) {
      this.pinch(event.pointerId, from, to);
    } else if (this.moved > CLICK_PIXELS) {
      this.hover(-1);
      this.map.panBy(to[0] - from[0], to[1] - from[1]);
    } else {
      return; // a shaking hand: the drag begins where it came down
    }
    this.down.set(event.pointerId, to);
  }

  pinch(id, from, to) {
    const [, other] = [...this.down].find(([pointer]) => pointer !== id);
    const apart = (place) => Math.hypot(place[0] - other[0], place[1] - other[1]) || 1;
    const middle = (place) => [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2];
    const [x, y] = middle(to);
    const [oldX, oldY] = middle(from);
    this.map.panBy(x - oldX, y - oldY);
    this.map.zoomBy(apart(to) / apart(from), x, y);
  }

  onUp(event) {
    if (!this.down.delete(event.pointerId)) return;
    const { lasso } = this;
    this.setLasso(null);
    if (this.moved <= CLICK_PIXELS) {
      const radius = event.pointerType === "touch" ? TOUCH_RADIUS : undefined;
      const point = this.map.pick(...this.place(event), radius);
      if (point >= 0) this.map.handlers.onClick?.(point, event);
    } else if (lasso && lasso.length > 2) {
      const polygon = lasso.map(([px, py]) => this.map.toData(px, py));
      this.map.handlers.onLasso?.(this.map.inPolygon(polygon), polygon);
    }
  }

  onCancel(event) {
    this.down.delete(event.pointerId);
    this.setLasso(null);
  }

  /** Gives up a lasso that is being drawn. True if there was one. */
  cancelLasso() {
    const had = this.lasso !== null;
    this.setLasso(null);
    if (had) this.moved = Infinity;
    return had;
  }

  setLasso(corners) {
    if (this.lasso === corners) return;
    this.lasso = corners;
    this.map.drawOver();
  }

  onWheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : WHEEL_LINE;
    const turned = Math.max(-LARGEST_STEP, Math.min(LARGEST_STEP, event.deltaY * lines));
    // A pinch on a touchpad comes as a wheel with Ctrl, in small steps.
    this.map.zoomBy(Math.exp(-turned * (event.ctrlKey ? 0.01 : 0.002)), ...this.place(event));
  }

  // Once a frame, however often the pointer reports.
  look(place) {
    const isAsked = this.waiting !== null;
    this.waiting = place;
    if (isAsked) return;
    requestAnimationFrame(() => {
      const [px, py] = this.waiting;
      this.waiting = null;
      if (!this.stop.signal.aborted && !this.down.size) this.hover(this.map.pick(px, py));
    });
  }

  hover(point) {
    if (point === this.hovered) return;
    this.hovered = point;
    this.surface.style.cursor = point >= 0 ? "pointer" : "";
    this.map.handlers.onHover?.(point);
  }

  destroy() {
    this.stop.abort();
  }
}
