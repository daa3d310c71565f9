// Which points lie where: a grid over the plane, so that no move looks at every point.

const POINTS_PER_CELL = 4;
const MOST_CELLS_ACROSS = 1024;

export class PointGrid {
  /** x, y: Float32Arrays of places; bounds: {x: [low, high], y: [low, high]} that hold them all. */
  constructor(x, y, bounds) {
    this.x = x;
    this.y = y;
    const n = x.length;
    const across = Math.ceil(Math.sqrt(n / POINTS_PER_CELL));
    this.across = Math.max(1, Math.min(across, MOST_CELLS_ACROSS));
    [this.left] = bounds.x;
    [this.bottom] = bounds.y;
    this.width = (bounds.x[1] - bounds.x[0]) / this.across || 1;
    this.height = (bounds.y[1] - bounds.y[0]) / this.across || 1;
    // A counting sort: the points of cell c are points[first[c]] to points[first[c + 1] - 1].
    const cells = new Uint32Array(n);
    this.first = new Uint32Array(this.across * this.across + 1);
    for (let i = 0; i < n; i++) {
      cells[i] = this.row(y[i]) * this.across + this.column(x[i]);
      this.first[cells[i] + 1]++;
    }
    for (let c = 1; c < this.first.length; c++) this.first[c] += this.first[c - 1];
    const next = this.first.slice();
    this.points = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.points[next[cells[i]]++] = i;
  }

  column(x) {
    return clamp(Math.floor((x - this.left) / this.width), 0, this.across - 1);
  }

  row(y) {
    return clamp(Math.floor((y - this.bottom) / this.height), 0, this.across - 1);
  }

  /** The nearest point to (x, y) within the radius for which isTaken(i) holds, or -1. */
  pick(x, y, radius, isTaken) {
    let best = -1;
    let shortest = radius * radius;
    const [low, high] = [this.column(x - radius), this.column(x + radius)];
    for (let row = this.row(y - radius); row <= this.row(y + radius); row++) {
      const start = row * this.across;
      for (let at = this.first[start + low]; at < this.first[start + high + 1]; at++) {
        const i = this.points[at];
        const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
        if (distance <= shortest && isTaken(i)) [best, shortest] = [i, distance];
      }
    }
    return best;
  }

  /** The nearest point to (x, y) for which isTaken(i, dx, dy) holds, however far, or -1. */
  nearest(x, y, isTaken) {
    const [column, row] = [this.column(x), this.row(y)];
    let best = -1;
    let shortest = Infinity;
    const look = (r, c) => {
      const cell = r * this.across + c;
      for (let at = this.first[cell]; at < this.first[cell + 1]; at++) {
        const i = this.points[at];
        const [dx, dy] = [this.x[i] - x, this.y[i] - y];
        const distance = dx * dx + dy * dy;
        if (distance < shortest && isTaken(i, dx, dy)) [best, shortest] = [i, distance];
      }
    };
    // Ring by ring of cells, until what is found is nearer than the next ring can be.
    const side = Math.min(this.width, this.height);
    for (let ring = 0; ring < this.across && shortest > ((ring - 1) * side) ** 2; ring++) {
      const [low, high] = [Math.max(0, column - ring), Math.min(this.across - 1, column + ring)];
      for (let r = Math.max(0, row - ring); r <= Math.min(this.across - 1, row + ring); r++) {
        if (Math.abs(r - row) === ring) {
          for (let c = low; c <= high; c++) look(r, c);
        } else {
          if (column - ring >= 0) look(r, column - ring);
          if (column + ring < this.across) look(r, column + ring);
        }
      }
    }
    return best;
  }

  /** The points within a polygon [[x, y], ...] (even-odd) for which isTaken(i) holds, ascending. */
  inPolygon(polygon, isTaken) {
    if (polygon.length < 3) return new Uint32Array(0);
    const xs = polygon.map(([x]) => x);
    const [low, high] = [this.column(Math.min(...xs)), this.column(Math.max(...xs))];
    const edges = this.#cellsOnEdges(polygon);
    const found = [];
    for (const [row, onEdge] of edges) {
      let isInside = null; // of the run of cells that no edge crosses: all of them or none
      for (let c = low; c <= high; c++) {
        const cell = row * this.across + c;
        const from = this.first[cell];
        const to = this.first[cell + 1];
        if (onEdge.has(c)) {
          isInside = null;
          for (let at = from; at < to; at++) {
            const i = this.points[at];
            if (isTaken(i) && contains(polygon, this.x[i], this.y[i])) found.push(i);
          }
          continue;
        }
        isInside ??= contains(
          polygon,
          this.left + (c + 0.5) * this.width,
          this.bottom + (row + 0.5) * this.height,
        );
        if (!isInside) continue;
        for (let at = from; at < to; at++) {
          if (isTaken(this.points[at])) found.push(this.points[at]);
        }
      }
    }
    return Uint32Array.from(found).sort();
  }

  // For each row of cells that the polygon touches, the columns that an edge may cross.
  #cellsOnEdges(polygon) {
    const rows = new Map();
    polygon.forEach(([x1, y1], at) => {
      const [x2, y2] = polygon[(at + 1) % polygon.length];
      for (let row = this.row(Math.min(y1, y2)); row <= this.row(Math.max(y1, y2)); row++) {
        if (!rows.has(row)) rows.set(row, new Set());
        // Where the edge is within this row; the outermost rows hold all that lies beyond.
        const bottom = row === 0 ? -Infinity : this.bottom + row * this.height;
        const top = row === this.across - 1 ? Infinity : this.bottom + (row + 1) * this.height;
        const place = (y) => (y1 === y2 ? x1 : x1 + ((x2 - x1) * (y - y1)) / (y2 - y1));
        const [low, high] = y1 < y2 ? [y1, y2] : [y2, y1];
        const ends =
          y1 === y2 ? [x1, x2] : [place(clamp(bottom, low, high)), place(clamp(top, low, high))];
        // One cell more at either side: rounding must not lose one.
        const from = Math.max(0, this.column(Math.min(...ends)) - 1);
        const to = Math.min(this.across - 1, this.column(Math.max(...ends)) + 1);
        for (let c = from; c <= to; c++) rows.get(row).add(c);
      }
    });
    return [...rows].sort(([a], [b]) => a - b);
  }
}

/** Whether (x, y) is within the polygon, by the even-odd rule. */
export function contains(polygon, x, y) {
  let isInside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [xi, yi] = polygon[i];
    const [xj, yj] = polygon[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) isInside = !isInside;
  }
  return isInside;
}

export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
