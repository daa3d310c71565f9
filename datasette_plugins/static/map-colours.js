// Which colour means what: groups as colours that differ where they touch, numbers as a scale.

const MOST_SPREAD = 1000; // groups whose colours are chosen by where they lie; the rest are tiny

/** The custom properties --c0, --c1, ... of the style sheet: a palette for every kind of sight. */
export function palette(element) {
  const style = getComputedStyle(element);
  const colours = [];
  for (let i = 0; style.getPropertyValue(`--c${i}`).trim(); i++) {
    colours.push(style.getPropertyValue(`--c${i}`).trim());
  }
  return colours;
}

/** The colours of a scale from low to high, and those of noise and of points without a group. */
export function otherColours(element) {
  const style = getComputedStyle(element);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    scale: [0, 1, 2, 3, 4].map((step) => value(`--s${step}`)),
    noise: value("--noise"),
    without: value("--without"),
    ink: value("--ink"),
  };
}

/**
 * For each code the place of its colour in a list of `size`.
 *
 * Up to `size` groups have one each. More groups than colours share them, so that those of one
 * colour lie far apart: the largest choose first, each the colour whose nearest user is farthest
 * away.
 *
 * @param {{code: number, x: number, y: number}[]} middles by size, the largest group first
 */
export function spreadColours(middles, size) {
  const places = new Map();
  const codes = middles.map((middle) => middle.code);
  if (codes.every((code) => code < size)) {
    for (const code of codes) places.set(code, code);
    return places;
  }
  const users = Array.from({ length: size }, () => []);
  for (const { code } of middles.slice(MOST_SPREAD)) places.set(code, code % size);
  for (const middle of middles.slice(0, MOST_SPREAD)) {
    let best = 0;
    let farthest = -1;
    for (let colour = 0; colour < size; colour++) {
      let nearest = Infinity;
      for (const user of users[colour]) {
        nearest = Math.min(nearest, (user.x - middle.x) ** 2 + (user.y - middle.y) ** 2);
      }
      if (nearest > farthest) [best, farthest] = [colour, nearest];
      if (nearest === Infinity) break; // an unused one
    }
    users[best].push(middle);
    places.set(middle.code, best);
  }
  return places;
}

/**
 * The ends of a scale. One far value would leave all others in one colour: where the outermost
 * hundredths take up more than half of the range, the scale ends at them, and the legend says so.
 *
 * @returns {{low, high, least, most, without}} low and high of the scale, least and most of values
 */
export function rangeOf(values) {
  const known = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  const without = values.length - known.length;
  if (!known.length) return { low: 0, high: 1, least: NaN, most: NaN, without };
  const at = (share) => known[Math.min(known.length - 1, Math.floor(share * known.length))];
  const [least, most, low, high] = [known[0], known[known.length - 1], at(0.01), at(0.99)];
  const isClipped = high > low && (high - low) * 2 < most - least;
  const ends = isClipped ? { low, high } : { low: least, high: most };
  return { ...ends, least, most, without };
}

/** A number as a person reads it. */
export function readable(value) {
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return value.toLocaleString("en");
  const short = Number(value.toPrecision(4));
  return Math.abs(short) >= 1e6 || (short !== 0 && Math.abs(short) < 1e-4)
    ? short.toExponential(2)
    : String(short);
}
