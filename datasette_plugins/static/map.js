// The map page: one map or two, and what they share: colours, filter, selection, the opened item.

import { readAddress, simplified, writeAddress } from "./map-address.js";
import { askIds } from "./map-ask.js";
import { Card } from "./map-card.js";
import { Chosen } from "./map-chosen.js";
import { ColourBy } from "./map-colour-by.js";
import { otherColours, palette, readable } from "./map-colours.js";
import { Filter } from "./map-filter.js";
import { shared } from "./map-ids.js";
import { listen } from "./map-keys.js";
import { Legend } from "./map-legend.js";
import { Panel } from "./map-panel.js";
import { MapView, askMap } from "./map-view.js";

const NOISE = -1; // the codes of map_colours.py
const WITHOUT = -2;
const LASSO_TOLERANCE = 1.5; // pixels that a lasso's outline may lose
const MIX = 5; // groups named of a selection
const QUIET = 200; // ms after which the address follows the view

const root = document.getElementById("nearsql-map");
const settings = JSON.parse(root.dataset.settings);
const asked = readAddress();

const shown = {
  hidden: new Set(asked.hidden),
  lit: null,
  chosen: null,
  isNameless: asked.isNameless,
};
const pointed = { item: null };
let neighbours = [];
let names = null; // of the groups' codes, where the colours are groups
let places = new Map(); // of the palette, for each code
let isStarted = false;

const colourBy = new ColourBy(document.getElementById("colouring"), recolour);
colourBy.set(asked.colour);

// Asked for before anything else is made: the server works meanwhile.
const coming = settings.maps.map((map) => askMap(map, colourBy.key));

const card = new Card(document.getElementById("card"), settings.items);

const views = [...document.querySelectorAll(".canvas-frame")].map(
  (frame, k) =>
    new MapView(frame, settings.maps[k], {
      hover: (view, point) => hover(view, point),
      click: (view, point) => panel.open(view.points.ids[point]),
      lasso: (view, polygon) => lasso(view, polygon),
      moved() {
        card.hide();
        remember();
      },
      changed: (view) => {
        view.paint(places);
        refresh();
      },
    }),
);

// --- what is drawn ------------------------------------------------------------------------------

function refresh() {
  const wanted = {
    hidden: shown.hidden,
    lit: shown.lit,
    filter: filter.ids,
    chosen: shown.chosen && shown.chosen.ids,
  };
  for (const view of views) if (view.colours) view.show(wanted);
  for (const view of views) view.write(shown.isNameless ? null : names, shown.hidden);
  rings();
}

function rings() {
  for (const view of views) {
    if (view.points) view.ring({ opened: panel.opened, neighbours, pointed: pointed.item });
  }
}

async function recolour(key) {
  delete root.dataset.drawn;
  try {
    const done = await Promise.all(views.map((view) => view.colourBy(key)));
    if (!done.every(Boolean)) return;
    for (const view of views) view.say("");
    if (isStarted) shown.hidden = new Set();
    colourBy.say("");
    draw();
    root.dataset.drawn = key;
  } catch (error) {
    if (views.some((view) => view.colours)) colourBy.say(error.message);
    else for (const view of views) view.say(error.message);
  }
  remember();
}

// Everything that depends on the colours, which are there; also after light has become dark.
function draw() {
  const { colours } = views[0];
  names = null;
  if (colours.kind === "codes") {
    const legends = views.flatMap((view) => view.colours.legend);
    names = new Map(legends.map(({ code, name }) => [code, name]));
  }
  places = views[0].colourPlaces();
  for (const view of views.slice(1)) {
    // What only the second map has takes a colour by its number.
    for (const { code } of view.middles) if (!places.has(code)) places.set(code, code % 20);
  }
  for (const view of views) view.paint(places);
  const title = colourBy.title;
  if (colours.kind === "codes") legend.showGroups(title, groups(colours), shown.hidden);
  else if (colours.kind === "values") {
    const { scale } = otherColours(root);
    legend.showScale(title, colours.values, views[0].range, scale, colours.without);
  } else legend.hide();
  shown.hidden = legend.hidden;
  refresh();
}

function groups(colours) {
  const list = colours.legend.map((group) => ({ ...group, colour: colourOf(group.code) }));
  if (colours.by === "cluster") {
    // Noise always, also when there is none.
    list.push({ code: NOISE, name: "noise", items: colours.noise, colour: colourOf(NOISE) });
  }
  if (colours.without) {
    const name = colours.by === "cluster" ? "not in this run" : "without a value";
    list.push({ code: WITHOUT, name, items: colours.without, colour: colourOf(WITHOUT) });
  }
  return list;
}

function colourOf(code) {
  const fixed = otherColours(root);
  if (code === NOISE) return fixed.noise;
  if (code === WITHOUT) return fixed.without;
  const list = palette(root);
  return list[(places.get(code) ?? code) % list.length];
}

// --- pointing and opening -----------------------------------------------------------------------

function nameOf(code) {
  if (code === NOISE) return "noise";
  return names?.get(code) ?? "";
}

function lineOf(view, point) {
  const { colours } = view;
  if (colours.kind === "codes") return nameOf(colours.codes[point]);
  if (colours.kind !== "values") return "";
  const value = colours.values[point];
  return `${colourBy.title}: ${Number.isNaN(value) ? "no value" : readable(value)}`;
}

function hover(view, point) {
  pointed.item = point < 0 ? null : view.points.ids[point];
  rings();
  if (point < 0) {
    card.hide();
    return;
  }
  showCard(view, point);
}

function showCard(view, point) {
  const frame = view.host.getBoundingClientRect();
  const [px, py] = view.scatter.screen(point);
  card.show(view.points.ids[point], frame.left + px, frame.top + py, lineOf(view, point));
}

const panel = new Panel(document.getElementById("panel"), settings.items, settings.maps[0].space, {
  opened(_, found) {
    card.hide();
    neighbours = found;
    rings();
    remember();
  },
  closed() {
    neighbours = [];
    rings();
    remember();
    current().host.focus({ preventScroll: true });
  },
  pointed(item) {
    pointed.item = item;
    rings();
  },
});

// --- the selection ------------------------------------------------------------------------------

const chosen = new Chosen(document.getElementById("chosen"), settings, {
  cleared: () => clear(),
  saved: (name) => {
    const option = Object.assign(document.createElement("option"), { value: name });
    document.getElementById("selections").append(option);
  },
  tagged: (name) => colourBy.offerLabel(name),
  open: (id) => panel.open(id),
});

function lasso(view, drawn) {
  const { x } = view.scatter.view();
  const pixel = (x[1] - x[0]) / view.host.clientWidth;
  setLassoMode(false);
  choose(view, simplified(drawn, LASSO_TOLERANCE * pixel));
}

// The file says which items lie within: it holds the exact places, and those that are not drawn.
async function choose(view, polygon) {
  const { run, insideSql } = view.settings;
  const making = (shown.chosen = { view, run, insideSql, polygon, ids: new Float64Array(0) });
  chosen.wait();
  let ids;
  try {
    const asked = encodeURIComponent(JSON.stringify(polygon));
    ids = await askIds(`${view.settings.inside}?polygon=${asked}`);
  } catch (error) {
    if (shown.chosen === making) {
      clear();
      filter.say(error.message, true);
    }
    return;
  }
  if (shown.chosen !== making) return;
  making.isPolygon = !filter.ids && shown.hidden.size === 0;
  if (filter.ids) ids = shared(ids, filter.ids);
  // What the legend hides is not meant. Of a sample, only what is drawn is known to be shown.
  if (shown.hidden.size) ids = shared(ids, Float64Array.from(view.itemsShown(shown.hidden)));
  making.ids = ids;
  refresh();
  remember();
  const text = names && ((id) => nameOf(view.codeOf(id)));
  chosen.show(making, mixOf(view, ids), text);
}

function mixOf(view, ids) {
  const counts = new Map();
  if (!names) return [];
  for (const id of ids) {
    const code = view.codeOf(id);
    if (code !== undefined) counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  return [...counts]
    .sort((a, b) => b[1] - a[1])
    .slice(0, MIX)
    .map(([code, items]) => ({ name: nameOf(code) || "without", items, colour: colourOf(code) }));
}

function clear() {
  shown.chosen = null;
  chosen.hide();
  refresh();
  remember();
}

// --- controls -----------------------------------------------------------------------------------

const legend = new Legend(document.getElementById("legend"), {
  hidden(codes) {
    shown.hidden = codes;
    shown.lit = null;
    for (const view of views) view.cursor = -1;
    refresh();
    remember();
  },
  lit(code) {
    if (shown.lit === code) return;
    shown.lit = code;
    refresh();
  },
  find(code) {
    for (const view of views) view.zoomTo(code);
  },
});

const filter = new Filter(document.getElementById("filter"), settings.within, () => {
  refresh();
  remember();
});

function setLassoMode(isOn) {
  for (const view of views) view.setMode(isOn ? "lasso" : "pan");
}

function setNameless(isNameless) {
  shown.isNameless = isNameless;
  for (const button of document.querySelectorAll(".canvas-frame .to-names")) {
    button.setAttribute("aria-pressed", String(!isNameless));
  }
  refresh();
  remember();
}

function current() {
  return views.find((view) => view.host.contains(document.activeElement)) ?? views[0];
}

views.forEach((view) => {
  const on = (name, handler) =>
    view.frame.querySelector(`.${name}`).addEventListener("click", handler);
  on("to-lasso", () => setLassoMode(view.scatter.mode !== "lasso"));
  on("to-closer", () => view.scatter.zoomBy(1.5));
  on("to-farther", () => view.scatter.zoomBy(1 / 1.5));
  on("to-fit", () => view.scatter.fit());
  on("to-names", () => setNameless(!shown.isNameless));
});

listen({
  step(direction) {
    const view = current();
    const point = view.step(direction);
    rings();
    if (point >= 0) showCard(view, point);
  },
  open() {
    const view = current();
    if (view.cursor >= 0) panel.open(view.points.ids[view.cursor]);
  },
  zoom: (factor) => current().scatter.zoomBy(factor),
  fit: () => current().scatter.fit(),
  lasso: () => setLassoMode(views[0].scatter.mode !== "lasso"),
  escape() {
    card.hide();
    for (const view of views) {
      view.scatter.cancelLasso();
      view.cursor = -1;
    }
    if (views[0].scatter.mode === "lasso") setLassoMode(false);
    else if (panel.opened !== null) panel.close();
    else if (shown.chosen) clear();
    rings();
  },
});

for (const select of document.querySelectorAll("select.to-map")) {
  select.addEventListener("change", () => {
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const part of ["view", "lasso"]) kept.delete(part); // they are places of this map
    location.href = select.value + (kept.size ? `#${kept}` : "");
  });
}

// --- the address, and the start -----------------------------------------------------------------

let quiet = 0;

function remember() {
  if (!isStarted) return;
  clearTimeout(quiet);
  quiet = setTimeout(() => {
    const { scatter } = views[0];
    writeAddress({
      colour: colourBy.isDefault ? null : colourBy.key,
      filter: filter.text,
      item: panel.opened,
      space: panel.opened === null || panel.space === settings.maps[0].space ? null : panel.space,
      view: scatter.fitted ? null : scatter.view(),
      hidden: [...shown.hidden],
      lasso: shown.chosen && shown.chosen.view === views[0] ? shown.chosen.polygon : null,
      isNameless: shown.isNameless,
    });
  }, QUIET);
}

async function start() {
  try {
    await Promise.all(views.map((view, k) => view.load(coming[k])));
  } catch (error) {
    for (const view of views) view.say(error.message);
    return;
  }
  await recolour(colourBy.key);
  if (asked.view) views[0].scatter.setView(asked.view);
  isStarted = true;
  setNameless(asked.isNameless);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  await filter.apply(asked.filter);
  if (asked.lasso) choose(views[0], asked.lasso);
  if (asked.item !== null) panel.open(asked.item, asked.space ?? undefined);
}

addEventListener("hashchange", () => location.reload()); // somebody has written another address

start();
