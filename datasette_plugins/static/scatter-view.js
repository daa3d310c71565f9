// Which part of the plane a frame shows. y is upwards in the plane, and downwards on the screen.

import { clamp } from "./scatter-grid.js";

const MARGIN = 0.04; // of the frame, around all points
const MOST_ZOOM = 50000; // against the view of everything: float32 places have no more to show
const LEAST_ZOOM = 0.25;

export class View {
  constructor() {
    this.width = this.height = 0; // of the frame, in CSS pixels
    this.bounds = { x: [0, 1], y: [0, 1] }; // of everything
    this.centre = [0.5, 0.5];
    this.scale = 1; // CSS pixels a data unit
  }

  /** The scale at which everything is seen. */
  get wholeScale() {
    const { x, y } = this.bounds;
    const inner = 1 - 2 * MARGIN;
    const across = x[1] > x[0] ? (this.width * inner) / (x[1] - x[0]) : Infinity;
    const up = y[1] > y[0] ? (this.height * inner) / (y[1] - y[0]) : Infinity;
    const scale = Math.min(across, up);
    return Number.isFinite(scale) && scale > 0 ? scale : 1;
  }

  fit() {
    this.centre = [middle(this.bounds.x), middle(this.bounds.y)];
    this.scale = this.wholeScale;
  }

  zoomBy(factor, px, py) {
    const [x, y] = this.toData(px, py);
    this.scale = this.#allowed(this.scale * factor);
    this.centre = [
      x - (px - this.width / 2) / this.scale,
      y + (py - this.height / 2) / this.scale,
    ];
  }

  panBy(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale];
  }

  get ranges() {
    const [x, y] = this.centre;
    const [across, up] = [this.width / 2 / this.scale, this.height / 2 / this.scale];
    return { x: [x - across, x + across], y: [y - up, y + up] };
  }

  set ranges({ x, y }) {
    this.centre = [middle(x), middle(y)];
    const scale = Math.min(this.width / (x[1] - x[0]), this.height / (y[1] - y[0]));
    this.scale = Number.isFinite(scale) ? this.#allowed(scale) : this.wholeScale;
  }

  #allowed(scale) {
    return clamp(scale, this.wholeScale * LEAST_ZOOM, this.wholeScale * MOST_ZOOM);
  }

  toScreen(x, y) {
    return [
      this.width / 2 + (x - this.centre[0]) * this.scale,
      this.height / 2 - (y - this.centre[1]) * this.scale,
    ];
  }

  toData(px, py) {
    return [
      this.centre[0] + (px - this.width / 2) / this.scale,
      this.centre[1] - (py - this.height / 2) / this.scale,
    ];
  }
}

const middle = ([low, high]) => (low + high) / 2;
