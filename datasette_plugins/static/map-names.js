// The names of groups on the map: at their middles, the largest first, never one over another.

const MOST = 120; // drawn at once; more are too many to read
const CANDIDATES = 2000; // the largest groups; among the rest nobody would look for a name
const LONGEST = 34; // letters of a name
const GAP = 14; // pixels between two names, beside each other
const TOOLS = 48; // pixels at the right edge that the tools of the map cover
const SAMPLE = 4000; // points of a group that its middle is computed from

/**
 * Where the groups lie: the point nearest to the medians of x and y, so that a name stands on its
 * group even when that is bent around another.
 *
 * @returns {{code, x, y, n}[]} the largest group first; points of no group (codes below 0) left out
 */
export function middlesOf(x, y, codes) {
  let groups = 0;
  for (let i = 0; i < codes.length; i++) if (codes[i] >= groups) groups = codes[i] + 1;
  const counts = new Uint32Array(groups);
  for (let i = 0; i < codes.length; i++) if (codes[i] >= 0) counts[codes[i]]++;
  const sampled = Array.from(counts, () => []);
  const seen = new Uint32Array(groups);
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code >= 0 && seen[code]++ % Math.ceil(counts[code] / SAMPLE) === 0) sampled[code].push(i);
  }
  const middles = [];
  sampled.forEach((points, code) => {
    if (!points.length) return;
    const mx = median(Float64Array.from(points, (i) => x[i]));
    const my = median(Float64Array.from(points, (i) => y[i]));
    let nearest = points[0];
    let shortest = Infinity;
    for (const i of points) {
      const distance = (x[i] - mx) ** 2 + (y[i] - my) ** 2;
      if (distance < shortest) [nearest, shortest] = [i, distance];
    }
    middles.push({ code, x: x[nearest], y: y[nearest], n: counts[code] });
  });
  return middles.sort((a, b) => b.n - a.n || a.code - b.code);
}

function median(values) {
  values.sort();
  return values[values.length >> 1];
}

function shortened(name) {
  const letters = Array.from(name);
  return letters.length > LONGEST ? letters.slice(0, LONGEST - 1).join("").trim() + "\u2026" : name;
}

/** The layer of names over one map. */
export class Names {
  constructor(layer) {
    this.layer = layer;
    this.entries = [];
    this.spans = [];
    this.ruler = document.createElement("canvas").getContext("2d");
  }

  /** @param {{name, x, y, n}[]} entries the most important first */
  set(entries) {
    const most = entries.length ? entries[0].n : 1;
    const family = getComputedStyle(this.layer).fontFamily;
    this.entries = entries.slice(0, CANDIDATES).map(({ name, x, y, n }) => {
      const text = shortened(name);
      const size = Math.round(11 + 3 * Math.sqrt(n / most));
      this.ruler.font = `600 ${size}px ${family}`;
      const width = this.ruler.measureText(text).width + GAP;
      return { text, x, y, size, width, height: size * 1.6 };
    });
  }

  /** Places the names for a view, {x: [low, high], y: [low, high]} in the units of the points. */
  place(view) {
    const width = this.layer.clientWidth;
    const height = this.layer.clientHeight;
    const placed = [];
    for (const entry of this.entries) {
      if (placed.length === MOST) break;
      const px = (width * (entry.x - view.x[0])) / (view.x[1] - view.x[0]);
      const py = (height * (view.y[1] - entry.y)) / (view.y[1] - view.y[0]);
      if (px < 0 || py < 0 || px > width || py > height) continue;
      // At the edge a name is moved in, so that it can be read.
      const half = entry.width / 2;
      const x = Math.max(half, Math.min(width - half - TOOLS, px));
      const y = Math.max(entry.height / 2, Math.min(height - entry.height / 2, py));
      const isFree = placed.every(
        (other) =>
          Math.abs(other.x - x) * 2 >= other.entry.width + entry.width ||
          Math.abs(other.y - y) * 2 >= other.entry.height + entry.height,
      );
      if (isFree) placed.push({ entry, x, y });
    }
    placed.forEach(({ entry, x, y }, k) => {
      const span = (this.spans[k] ??= this.layer.appendChild(document.createElement("span")));
      if (span.textContent !== entry.text) span.textContent = entry.text;
      span.style.fontSize = `${entry.size}px`;
      const place = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      span.style.transform = `${place} translate(-50%, -50%)`;
      span.hidden = false;
    });
    for (let k = placed.length; k < this.spans.length; k++) this.spans[k].hidden = true;
  }
}
