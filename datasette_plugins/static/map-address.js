// What is shown, in the part of the address after #, so that a map can be sent to somebody.
//
// colour, filter, item, space: as in the controls. view: x0,x1,y0,y1. hidden: codes of the legend.
// lasso: x,y x,y ... in the units of the points. names=off.

const NUMBER = /^-?[\d.]+(e[-+]?\d+)?$/i;

function numbers(text, separator) {
  const parts = (text ?? "").split(separator);
  return parts.every((part) => NUMBER.test(part)) ? parts.map(Number) : null;
}

/** What the address asks for; what cannot be read is left out. */
export function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const view = numbers(asked.get("view"), ",");
  const corners = (asked.get("lasso") ?? "").split(" ").map((pair) => numbers(pair, ","));
  const item = Number(asked.get("item"));
  return {
    colour: asked.get("colour"),
    filter: asked.get("filter") ?? "",
    item: asked.has("item") && Number.isSafeInteger(item) ? item : null,
    space: asked.get("space"),
    view:
      view?.length === 4 && view[0] < view[1] && view[2] < view[3]
        ? { x: view.slice(0, 2), y: view.slice(2) }
        : null,
    hidden: numbers(asked.get("hidden"), ",") ?? [],
    lasso: corners.length > 2 && corners.every((pair) => pair?.length === 2) ? corners : null,
    isNameless: asked.get("names") === "off",
  };
}

/** Writes it: the address changes, and the page stays. Whatever is as usual is left out. */
export function writeAddress(shown) {
  const parts = new URLSearchParams();
  const set = (name, value) => {
    if (value !== null && value !== "" && value !== undefined) parts.set(name, value);
  };
  set("colour", shown.colour);
  set("filter", shown.filter);
  set("item", shown.item);
  set("space", shown.space);
  set("hidden", shown.hidden.join(","));
  set("names", shown.isNameless ? "off" : null);
  if (shown.view) {
    const { x, y } = shown.view;
    set("view", [...x, ...y].map(short).join(","));
  }
  if (shown.lasso) set("lasso", shown.lasso.map((pair) => pair.map(short).join(",")).join(" "));
  const text = parts.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** Six digits: finer than a pixel, and exactly what is read back. */
export function short(value) {
  return String(Number(value.toPrecision(6)));
}

/**
 * A drawn polygon with fewer corners: none that lies within `tolerance` of the line without it
 * (Ramer, Douglas and Peucker), rounded as the address rounds.
 */
export function simplified(polygon, tolerance) {
  const keep = new Uint8Array(polygon.length);
  keep[0] = keep[polygon.length - 1] = 1;
  const parts = [[0, polygon.length - 1]];
  while (parts.length) {
    const [first, last] = parts.pop();
    let farthest = -1;
    let most = tolerance;
    for (let k = first + 1; k < last; k++) {
      const distance = fromLine(polygon[k], polygon[first], polygon[last]);
      if (distance > most) [farthest, most] = [k, distance];
    }
    if (farthest < 0) continue;
    keep[farthest] = 1;
    parts.push([first, farthest], [farthest, last]);
  }
  return polygon
    .filter((_, k) => keep[k])
    .map((pair) => pair.map((value) => Number(short(value))));
}

function fromLine([x, y], [x0, y0], [x1, y1]) {
  const length = Math.hypot(x1 - x0, y1 - y0);
  if (length === 0) return Math.hypot(x - x0, y - y0);
  return Math.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length;
}
