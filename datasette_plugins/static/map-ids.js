// Item ids in ascending order, as sets; and where each item lies among the points of a map.

/** Which points are which items: ids[i] is the item of point i. */
export class Places {
  /** @param {ArrayLike<number>} ids of the points, in any order, each once */
  constructor(ids) {
    const n = ids.length;
    let isSorted = true;
    for (let i = 1; i < n && isSorted; i++) isSorted = ids[i - 1] < ids[i];
    this.sorted = ids;
    this.points = null; // the k-th id in ascending order is that of point k
    if (isSorted) return;
    const order = Uint32Array.from({ length: n }, (_, i) => i).sort((a, b) => ids[a] - ids[b]);
    this.sorted = Float64Array.from(order, (i) => ids[i]);
    this.points = order;
  }

  /** The point of an item, or -1. */
  of(id) {
    let low = 0;
    let high = this.sorted.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const value = this.sorted[middle];
      if (value === id) return this.points ? this.points[middle] : middle;
      if (value < id) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** For each point, 1 when its item is among the ids (ascending), else 0. */
  among(ids) {
    const found = new Uint8Array(this.sorted.length);
    for (let k = 0, j = 0; k < this.sorted.length && j < ids.length; ) {
      if (this.sorted[k] < ids[j]) k++;
      else if (this.sorted[k] > ids[j]) j++;
      else {
        found[this.points ? this.points[k] : k] = 1;
        k++;
        j++;
      }
    }
    return found;
  }
}

/** What two ascending lists of ids share. */
export function shared(a, b) {
  const both = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] < b[j]) i++;
    else if (a[i] > b[j]) j++;
    else {
      both.push(a[i]);
      i++;
      j++;
    }
  }
  return Float64Array.from(both);
}

/** At most `most` of a list, evenly over it. */
export function evenly(list, most) {
  if (list.length <= most) return Array.from(list);
  return Array.from({ length: most }, (_, k) => list[Math.floor((k * list.length) / most)]);
}
