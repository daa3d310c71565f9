// Fetches the columns of a map: its points, and apart from them its colours. See map_columns.py.

const TYPES = {
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
};

/**
 * The points of a map.
 *
 * url: the columns route of a run, with `x=LOW,HIGH&y=LOW,HIGH` for a window and `limit` if wanted.
 * Gives {n, total, x, y, ids, bounds, points, query}: Float32Arrays of n places in data units,
 * their item ids, the bounds {x: [low, high], y: [low, high]} of the whole map. n < total is a
 * sample. `points` names the points, and `query` what was asked for: fetchColours needs both.
 * Throws an Error with the server's sentence.
 */
export async function fetchMap(url) {
  const { header, column } = await fetchPacked(url);
  return {
    ...header,
    x: numbers(column("x")),
    y: numbers(column("y")),
    ids: running(column("ids")),
    query: new URL(url, location.href).search,
  };
}

/**
 * The colours of the points of a map, in their order.
 *
 * url: the colours route of the run; key: plain, cluster:RUN:LEVEL, label:NAME, outlier:RUN:LEVEL,
 * metric:RUN:COLUMN, loss:RUN:COMPONENT or sql:TEXT; map: what fetchMap gave. It may be left out
 * where the map is not a sample; with it, points that have changed meanwhile are an Error.
 * Gives {kind: "codes", codes: Int32Array, legend: [{code, name, items}], noise, without}, the code
 * -1 for noise and -2 for points in no group; or {kind: "values", values: Float32Array with NaN for
 * none, range: [low, high] or null, without}; or {kind: "plain", codes, legend: []}. The numbers of
 * items are those of the whole map, also where the points are a sample of it.
 */
export async function fetchColours(url, key, map = null) {
  const asked = new URL(url, location.href);
  for (const [name, value] of new URLSearchParams(map?.query ?? "")) {
    asked.searchParams.set(name, value);
  }
  asked.searchParams.set("by", key);
  const { header, column } = await fetchPacked(asked);
  if (map && header.points !== map.points) {
    throw new Error("The points of this map have changed meanwhile: load the page again.");
  }
  if (header.kind === "values") return { ...header, values: column("values").stored };
  if (header.kind === "plain") return { ...header, codes: new Int32Array(header.n), legend: [] };
  const { stored, shift } = column("codes");
  return { ...header, codes: Int32Array.from(stored, (code) => code + shift) };
}

async function fetchPacked(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(problemOf(await response.text()) || "The points did not come.");
  const buffer = await response.arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, 4, length));
  const { columns, ...header } = JSON.parse(text);
  const column = (name) => {
    const described = columns[name];
    const stored = new TYPES[described.type](buffer, 4 + length + described.at, header.n);
    return { ...described, stored };
  };
  return { header, column };
}

function problemOf(html) {
  const found = new DOMParser().parseFromString(html, "text/html").querySelector(".problem");
  return found ? found.textContent.trim() : "";
}

// Whole numbers from 0 to the largest of their type stand for evenly spaced ones of the range.
function numbers({ stored, range }) {
  if (!range) return stored;
  const [low, high] = range;
  const step = (high - low) / (2 ** (8 * stored.BYTES_PER_ELEMENT) - 1);
  const found = new Float32Array(stored.length);
  for (let i = 0; i < stored.length; i++) found[i] = low + step * stored[i];
  return found;
}

// Differences, the first of them from `first`.
function running({ stored, first }) {
  if (first === undefined) return stored;
  const found = new Float64Array(stored.length);
  let last = first;
  for (let i = 0; i < stored.length; i++) {
    last += stored[i];
    found[i] = last;
  }
  return found;
}
