// Draws points into an image, pixel by pixel: where no graphics card helps, many times as fast as
// WebGL, which then runs in software and pays for each point as if it were a triangle.

const FRACTIONS = 4; // a soft point is placed to this part of a pixel, on both axes

export class RasterPainter {
  /** canvas: where to draw. The image is opaque: `paper` is what lies behind the points. */
  constructor(canvas) {
    this.canvas = canvas;
    // Straight to the screen: what waits for the rest of the page costs twice as much.
    this.context = canvas.getContext("2d", { alpha: false, desynchronized: true });
    this.isLost = false;
    this.load(new Float32Array(0), new Uint32Array(0), []);
  }

  /** What is to be drawn, in the order of drawing: as PointPainter takes it. */
  load(places, shades, layers) {
    this.places = places;
    this.shades = shades;
    this.layers = layers;
  }

  /** Draws a frame, as PointPainter does. */
  draw({ centre, scale, size, isSoft, share, paper }) {
    const { width, height } = this.canvas;
    // A border, so that no point in the picture needs clipping.
    const border = Math.ceil(size) + 2;
    const across = width + 2 * border;
    if (this.image?.width !== across || this.image.height !== height + 2 * border) {
      this.image = new ImageData(across, height + 2 * border);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    this.pixels.fill((0xff000000 | (paper[2] << 16) | (paper[1] << 8) | paper[0]) >>> 0);
    const frame = {
      across,
      left: width / 2 + border - centre[0] * scale,
      top: height / 2 + border + centre[1] * scale,
      scale,
      // The middle of a point that is in the picture lies between these.
      most: across - border / 2 - 1,
      bottom: height + border + border / 2 - 1,
      least: border / 2 + 1,
    };
    const stamp = isSoft ? softStamps(size, across) : null;
    let from = 0;
    for (const count of this.layers) {
      const to = from + Math.ceil(count * share);
      if (isSoft) this.#drawSoft(from, to, frame, stamp);
      else this.#drawHard(from, to, frame, Math.max(1, Math.round(size)));
      from += count;
    }
    this.context.putImageData(this.image, -border, -border);
  }

  // Squares of whole pixels.
  #drawHard(from, to, { across, left, top, scale, most, bottom, least }, size) {
    const { places, shades, pixels } = this;
    const half = size / 2 - 0.5;
    for (let k = from; k < to; k++) {
      const px = left + places[2 * k] * scale;
      const py = top - places[2 * k + 1] * scale;
      if (!(px > least && px < most && py > least && py < bottom)) continue;
      const shade = shades[k];
      let at = ((py - half) | 0) * across + ((px - half) | 0);
      for (let row = 0; row < size; row++, at += across) {
        for (let pixel = at; pixel < at + size; pixel++) pixels[pixel] = shade;
      }
    }
  }

  // Discs that let through what is below, with a soft edge.
  #drawSoft(from, to, { across, left, top, scale, most, bottom, least }, stamps) {
    const { places, shades, pixels } = this;
    for (let k = from; k < to; k++) {
      const px = left + places[2 * k] * scale;
      const py = top - places[2 * k + 1] * scale;
      if (!(px > least && px < most && py > least && py < bottom)) continue;
      const column = px | 0;
      const row = py | 0;
      const right = ((px - column) * FRACTIONS) | 0;
      const down = ((py - row) * FRACTIONS) | 0;
      const { offsets, weights } = stamps[down * FRACTIONS + right];
      const shade = shades[k];
      const opacity = shade >>> 24;
      const redBlue = shade & 0xff00ff;
      const green = shade & 0xff00;
      const at = row * across + column;
      for (let p = 0; p < offsets.length; p++) {
        const below = pixels[at + offsets[p]];
        const weight = (weights[p] * opacity) >> 8; // of 256
        const rest = 256 - weight;
        pixels[at + offsets[p]] =
          0xff000000 |
          (((Math.imul(below & 0xff00ff, rest) + Math.imul(redBlue, weight)) >>> 8) & 0xff00ff) |
          (((Math.imul(below & 0xff00, rest) + Math.imul(green, weight)) >>> 8) & 0xff00);
      }
    }
  }

  /** Resolves to true: what was asked for is drawn. */
  finished() {
    return Promise.resolve(true);
  }

  /** Frees the image. */
  destroy() {
    this.image = this.pixels = null;
  }
}

// For each fraction of a pixel, which pixels a disc covers, relative to the one that its middle is
// in, and how much of each, of 256.
function softStamps(size, across) {
  const reach = Math.ceil(size / 2) + 1;
  const stamps = [];
  for (let row = 0; row < FRACTIONS; row++) {
    for (let column = 0; column < FRACTIONS; column++) {
      const offsets = [];
      const weights = [];
      for (let dy = -reach; dy <= reach; dy++) {
        for (let dx = -reach; dx <= reach; dx++) {
          const away = Math.hypot(
            dx + 0.5 - (column + 0.5) / FRACTIONS,
            dy + 0.5 - (row + 0.5) / FRACTIONS,
          );
          const weight = Math.round(256 * Math.min(1, Math.max(0, size / 2 - away + 0.5)));
          if (!weight) continue;
          offsets.push(dy * across + dx);
          weights.push(weight);
        }
      }
      stamps.push({ offsets: Int32Array.from(offsets), weights: Int32Array.from(weights) });
    }
  }
  return stamps;
}
