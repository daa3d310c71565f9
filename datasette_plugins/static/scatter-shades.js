// Which colour each point of a map has, and in which order the points are drawn.

import { clamp } from "./scatter-grid.js";

// What a mask says about a point.
export const HIDDEN = 0;
export const SHOWN = 1;
export const DIM = 2;

const OPACITY = 0.85;
const DIMMED = 0.16; // what is left of the colour of a dimmed point
const STEPS = 256; // of a scale of colours

/**
 * Points in the order of drawing: dimmed ones, then those in no group, then the others; within
 * each layer scattered, so that the first of them are an even part, and none covers others by its
 * number.
 *
 * host: where the colours of the style sheets are read; x, y: Float32Arrays; mask, colouring: as
 * Scatter takes them; isSoft: whether colours may let others through.
 * paper: [r, g, b] behind the points.
 * Gives {places: Float32Array of x, y, ...; shades: Uint32Array of bytes r, g, b, a; layers: how
 * many points are in each, the lowest first}.
 */
export function arrange({ host, x, y, mask, colouring, isSoft, paper }) {
  const n = x.length;
  const { colourOf, isBelow } = shading(colouring, host, isSoft);
  const layerOf = (i) => (mask !== null && mask[i] === DIM ? 0 : isBelow(i) ? 1 : 2);
  const layers = [0, 0, 0];
  for (let i = 0; i < n; i++) if (mask === null || mask[i] !== HIDDEN) layers[layerOf(i)]++;
  const drawn = layers[0] + layers[1] + layers[2];
  const next = [0, layers[0], layers[0] + layers[1]];
  const places = new Float32Array(2 * drawn);
  const shades = new Uint32Array(drawn);
  const step = scattering(n);
  const dim = dimming(paper);
  for (let k = 0, i = 0; k < n; k++, i = (i + step) % n) {
    if (mask !== null && mask[i] === HIDDEN) continue;
    const layer = layerOf(i);
    const at = next[layer]++;
    places[2 * at] = x[i];
    places[2 * at + 1] = y[i];
    shades[at] = layer === 0 ? dim(colourOf(i)) : colourOf(i);
  }
  return { places, shades, layers };
}

// Of each point its colour, as four bytes, and whether it lies below the others.
function shading(colouring, host, isSoft) {
  const opacity = isSoft ? Math.round(255 * OPACITY) : 255;
  const pack = ([r, g, b]) => ((opacity << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const one = (colour, name) => pack(parseColours([colour ?? styled(host, name, "#999")])[0]);
  const { codes, values, palette, scale, range } = colouring ?? {};
  const without = one(colouring?.without, "--without");
  if (codes) {
    const noise = one(colouring.noise, "--noise");
    const packed = Uint32Array.from(parseColours(palette), pack);
    const count = packed.length;
    const outside = (code) => (code === -1 ? noise : without);
    return {
      colourOf: (i) => (codes[i] >= 0 ? packed[codes[i] % count] : outside(codes[i])),
      isBelow: (i) => codes[i] < 0,
    };
  }
  if (values) {
    const steps = Uint32Array.from(gradient(parseColours(scale)), pack);
    const [low, high] = range ?? [0, 1];
    const width = high > low ? (STEPS - 1) / (high - low) : 0;
    const stepOf = (value) => clamp(Math.round((value - low) * width), 0, STEPS - 1);
    return {
      colourOf: (i) => (Number.isNaN(values[i]) ? without : steps[stepOf(values[i])]),
      isBelow: (i) => Number.isNaN(values[i]),
    };
  }
  const plain = one(undefined, "--c0");
  return { colourOf: () => plain, isBelow: () => false };
}

// A packed colour as it is when dimmed: mostly the paper.
function dimming(paper) {
  const known = new Map();
  return (packed) => {
    let found = known.get(packed);
    if (found === undefined) {
      const mix = (p, at) => Math.round(p + (((packed >>> (8 * at)) & 255) - p) * DIMMED);
      const mixed = paper.map(mix);
      found = ((packed & 0xff000000) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0]) >>> 0;
      known.set(packed, found);
    }
    return found;
  };
}

/** The colour that lies behind an element, [r, g, b]: of the nearest that has a background. */
export function paperBehind(host) {
  for (let element = host; element; element = element.parentElement) {
    const colour = getComputedStyle(element).backgroundColor;
    if (!/^$|^transparent$|, 0\)$/.test(colour)) return parseColours([colour])[0];
  }
  return [255, 255, 255];
}

function styled(host, name, otherwise) {
  return getComputedStyle(host).getPropertyValue(name).trim() || otherwise;
}

/** Any CSS colours as [r, g, b], each from 0 to 255. */
export function parseColours(colours) {
  return colours.map((colour) => {
    if (!parsed.has(colour)) parsed.set(colour, parseColour(colour));
    return parsed.get(colour);
  });
}

const parsed = new Map();
let pixel; // one is drawn with each colour, and read

const HEX = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i;
const RGB = /^rgb\((\d+), (\d+), (\d+)\)$/;

function parseColour(colour) {
  // What style sheets mostly give: a browser's first canvas takes a while.
  const hex = HEX.exec(colour);
  if (hex) return hex.slice(1).map((part) => Number.parseInt(part, 16));
  const rgb = RGB.exec(colour);
  if (rgb) return rgb.slice(1).map(Number);
  if (!pixel) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 1;
    pixel = canvas.getContext("2d", { willReadFrequently: true });
  }
  pixel.fillStyle = "#888";
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  return Array.from(pixel.getImageData(0, 0, 1, 1).data.subarray(0, 3));
}

// Colours that run evenly through the given ones.
function gradient(colours) {
  return Array.from({ length: STEPS }, (_, at) => {
    const place = (at * (colours.length - 1)) / (STEPS - 1);
    const from = colours[Math.floor(place)];
    const to = colours[Math.ceil(place)];
    return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place % 1)));
  });
}

// A step that visits all of n places, each once, far apart one after the other.
function scattering(n) {
  let step = Math.max(1, Math.round(n * 0.6180339887));
  while (step > 1 && divisor(step, n) > 1) step--;
  return step;
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}
