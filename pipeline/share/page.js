// A shared map: one page that holds everything it shows.

import { fetchColours } from "./columns.js";
import { otherColours, palette } from "./map-colours.js";
import { Legend } from "./map-legend.js";
import { MapView, askMap } from "./map-view.js";

const NOISE = -1;
const WITHOUT = -2;
const MOST_FOUND = 40; // items listed of a search
const TYPING = 150; // ms without a key, after which the search begins
const AWAY = 16; // pixels of the card from the pointer
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

const body = document.body;
const [choose, search, card, panel, found, aside] = ["#colour", "#search", "#card", "#panel", "#found", "aside"].map(
  (selector) => document.querySelector(selector),
);
const said = document.querySelector("#filter .facts");

const shown = { hidden: new Set(), lit: null, filter: null };
const grouped = []; // the colourings that are groups: {title, codes, names}, which the search reads
let facts;
let texts = new Map();
let thumbnails = new Map(); // item: {bytes, url}
let names = null;
let places = new Map();
let opened = null;
let typing = 0;

const view = new MapView(document.querySelector(".canvas-frame"), { columns: "points", colours: "colours" }, {
  hover: (_, point) => hover(point),
  click: (_, point) => open(point),
  lasso: () => {},
  moved: () => hideCard(),
  changed: () => {},
});
view.scatter.redraw(); // an empty frame, until there are points
const legend = new Legend(document.getElementById("legend"), {
  hidden: (codes) => {
    shown.hidden = codes;
    refresh();
    writeNames();
  },
  lit: (code) => {
    shown.lit = code;
    refresh();
  },
  find: (code) => view.zoomTo(code),
});

// --- what the page holds ------------------------------------------------------------------------

function json(buffer) {
  return JSON.parse(new TextDecoder().decode(buffer));
}

// The packed bytes of a colouring are unpacked when it is first asked for.
function hold(colouring) {
  let once = null;
  held.colours.set(colouring.key, () => (once ??= unpacked(colouring.part)));
}

function readThumbnails() {
  const bytes = raw("thumbnails");
  if (!bytes) return;
  const table = new DataView(bytes.buffer);
  const n = table.getUint32(0, true);
  let at = 4 + 8 * n;
  for (let k = 0; k < n; k++) {
    const length = table.getUint32(4 + 4 * (n + k), true);
    thumbnails.set(table.getUint32(4 + 4 * k, true), { bytes: bytes.subarray(at, at + length), url: null });
    at += length;
  }
}

function thumbnailOf(item) {
  const kept = thumbnails.get(item);
  if (!kept) return null;
  const type = kept.bytes[0] === 0x89 ? "image/png" : "image/jpeg";
  kept.url ??= URL.createObjectURL(new Blob([kept.bytes], { type }));
  const image = element("img", { src: kept.url, alt: `Item ${item}`, decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 100));
  return image;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter((child) => child !== null));
  return made;
}

// --- colours ------------------------------------------------------------------------------------

async function recolour(key) {
  try {
    if (!(await view.colourBy(key))) return;
  } catch (error) {
    view.say(error.message);
    return;
  }
  view.say("");
  shown.hidden = new Set();
  draw();
  body.dataset.drawn = key;
}

function draw() {
  const { colours } = view;
  names = colours.kind === "codes" ? new Map(colours.legend.map(({ code, name }) => [code, name])) : null;
  places = view.colourPlaces();
  view.paint(places);
  const title = choose.selectedOptions[0]?.textContent ?? "Map";
  if (colours.kind === "codes") legend.showGroups(title, groups(colours), shown.hidden);
  else if (colours.kind === "values") {
    legend.showScale(title, colours.values, view.range, otherColours(body).scale, colours.without);
  } else legend.hide();
  refresh();
  writeNames();
}

function groups(colours) {
  const fixed = otherColours(body);
  const list = palette(body);
  const entries = colours.legend.map((group) => ({
    ...group,
    colour: list[(places.get(group.code) ?? group.code) % list.length],
  }));
  if (colours.by === "cluster") {
    entries.push({ code: NOISE, name: "noise", items: colours.noise, colour: fixed.noise });
  }
  if (colours.without) {
    entries.push({ code: WITHOUT, name: "without a value", items: colours.without, colour: fixed.without });
  }
  return entries;
}

function writeNames() {
  view.write(names, shown.hidden);
}

function refresh() {
  view.show({ hidden: shown.hidden, lit: shown.lit, filter: shown.filter, chosen: null });
  rings();
}

function rings() {
  view.ring({ opened, neighbours: [], pointed: null });
}

// --- items --------------------------------------------------------------------------------------

// What is known of a point by its groups: [title, name] each.
function groupsOf(point) {
  return grouped
    .map(({ title, codes, names: by }) => [title, codes[point] === NOISE ? "noise" : by.get(codes[point])])
    .filter(([, name]) => name !== undefined);
}

function pictureOf(item) {
  const text = texts.get(item);
  return text === undefined ? thumbnailOf(item) : element("p", { className: "text" }, text);
}

function hover(point) {
  if (point < 0) {
    hideCard();
    return;
  }
  const item = view.points.ids[point];
  card.replaceChildren(
    ...[pictureOf(item), element("p", { className: "name" }, `Item ${item}`)].filter(Boolean),
    ...groupsOf(point).map(([title, name]) =>
      element("p", {}, element("span", { className: "note" }, `${title} `), name),
    ),
  );
  card.dataset.item = item;
  card.hidden = false;
  const frame = view.host.getBoundingClientRect();
  const [px, py] = view.scatter.screen(point);
  beside(frame.left + px, frame.top + py);
  for (const image of card.querySelectorAll("img")) {
    image.addEventListener("load", () => beside(frame.left + px, frame.top + py));
  }
}

// Places the card to the right of a place of the window, or to its left where there is no room.
function beside(left, top) {
  const { clientWidth, clientHeight } = document.documentElement;
  const isLeft = left + AWAY + card.offsetWidth > clientWidth;
  const x = isLeft ? left - AWAY - card.offsetWidth : left + AWAY;
  const y = Math.min(top + AWAY, clientHeight - card.offsetHeight - 8);
  card.style.left = `${Math.max(8, Math.min(x, clientWidth - card.offsetWidth - 8))}px`;
  card.style.top = `${Math.max(8, y)}px`;
}

function hideCard() {
  card.hidden = true;
}

function open(point) {
  const item = view.points.ids[point];
  opened = item;
  hideCard();
  const close = element("button", { type: "button", className: "close", ariaLabel: "Close the item" }, "\u00d7");
  close.addEventListener("click", shut);
  const picture = pictureOf(item);
  if (picture instanceof HTMLImageElement) picture.classList.add("item");
  panel.replaceChildren(
    element("header", {}, element("h2", {}, `Item ${item}`), close),
    picture ?? element("p", { className: "note" }, "This page holds no thumbnail of it."),
    element(
      "dl",
      { className: "facts" },
      ...groupsOf(point).map(([title, name]) =>
        element("div", {}, element("dt", {}, title), element("dd", { className: "long" }, name)),
      ),
    ),
  );
  panel.dataset.item = item;
  panel.hidden = false;
  aside.scrollTop = 0;
  rings();
}

function shut() {
  opened = null;
  panel.hidden = true;
  rings();
}

// --- search -------------------------------------------------------------------------------------

function matches(wanted) {
  const { ids, n } = view.points;
  const hits = new Uint8Array(n);
  for (const { codes, names: by } of grouped) {
    const meant = new Set();
    for (const [code, name] of by) if (name.toLocaleLowerCase().includes(wanted)) meant.add(code);
    if (meant.size) for (let i = 0; i < n; i++) if (meant.has(codes[i])) hits[i] = 1;
  }
  for (let i = 0; i < n; i++) {
    if (!hits[i] && texts.get(ids[i])?.toLocaleLowerCase().includes(wanted)) hits[i] = 1;
  }
  const points = [];
  for (let i = 0; i < n; i++) if (hits[i]) points.push(i);
  return points;
}

function find() {
  const wanted = search.value.trim().toLocaleLowerCase();
  const points = wanted ? matches(wanted) : null;
  shown.filter = points && Float64Array.from(points, (i) => view.points.ids[i]).sort();
  said.textContent = points ? `${points.length.toLocaleString("en")} found` : "";
  found.hidden = !points?.length;
  if (points?.length) list(points);
  refresh();
}

function list(points) {
  const some = points.slice(0, MOST_FOUND);
  found.querySelector("h2").textContent =
    some.length < points.length ? `The first ${some.length} of ${points.length.toLocaleString("en")}` : "Found";
  found.querySelector("ol").replaceChildren(
    ...some.map((point) => {
      const item = view.points.ids[point];
      const text = texts.get(item) ?? `Item ${item}`;
      const inside = texts.has(item) ? null : thumbnailOf(item);
      const button = element(
        "button",
        { type: "button", className: "thumbnail", title: `Item ${item}` },
        inside ?? element("span", { className: "text" }, text),
      );
      button.addEventListener("click", () => {
        view.cursor = point;
        open(point);
      });
      return element("li", {}, button);
    }),
  );
}

// --- keys and buttons ---------------------------------------------------------------------------

function listen() {
  choose.addEventListener("change", () => recolour(choose.value));
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(find, TYPING);
  });
  search.form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  const { scatter } = view;
  const keys = {
    "+": () => scatter.zoomBy(1.5),
    "=": () => scatter.zoomBy(1.5),
    "-": () => scatter.zoomBy(1 / 1.5),
    0: () => scatter.fit(),
    "/": () => search.focus(),
  };
  const buttons = { ".to-closer": keys["+"], ".to-farther": keys["-"], ".to-fit": keys[0] };
  for (const [selector, act] of Object.entries(buttons)) {
    document.querySelector(selector).addEventListener("click", act);
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") return escape();
    if (event.target.closest("input, select, button")) return;
    const direction = DIRECTIONS[event.key];
    if (direction) {
      const point = view.step(direction);
      rings();
      if (point >= 0) hover(point);
    } else if (event.key === "Enter" && view.cursor >= 0) open(view.cursor);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}

function escape() {
  hideCard();
  if (!panel.hidden) shut();
  else if (search.value) {
    search.value = "";
    find();
  }
}

// --- the beginning ------------------------------------------------------------------------------

function tell() {
  const { points, thumbnails: pictures, texts: read, left_out: without } = facts;
  const number = (n) => n.toLocaleString("en");
  const sentences = [];
  if (points.shown < points.all) sentences.push(`${number(points.shown)} of ${number(points.all)} points, evenly.`);
  if (pictures.all) {
    sentences.push(
      pictures.shown === pictures.all
        ? `Thumbnails of all ${number(pictures.all)} images.`
        : `Thumbnails of ${number(pictures.shown)} of ${number(pictures.all)} images.`,
    );
  }
  if (read.shown) sentences.push(`The first ${read.letters} letters of ${number(read.shown)} texts.`);
  if (without.length) sentences.push(`Left out for want of room: ${without.join(", ")}.`);
  document.getElementById("holds").textContent = `This page holds everything it shows. ${sentences.join(" ")}`;
}

async function start() {
  facts = json(await unpacked("facts"));
  held.points = await unpacked("points");
  for (const colouring of facts.colourings) {
    hold(colouring);
    choose.append(element("option", { value: colouring.key }, colouring.title));
  }
  if (!facts.colourings.length) {
    choose.parentElement.hidden = true;
    held.colours.set("plain", async () => plain(view.points));
  }
  tell();
  await view.load(askMap(view.settings));
  view.isWhole = true; // there is no server to ask for more
  view.frame.querySelector(".sampled").textContent =
    `${facts.points.shown.toLocaleString("en")} of ${facts.points.all.toLocaleString("en")} points shown, evenly`;
  listen();
  await recolour(facts.colourings[0]?.key ?? "plain");
  const packed = await unpacked("texts");
  if (packed) texts = new Map(Object.entries(json(packed)).map(([item, text]) => [Number(item), text]));
  readThumbnails();
  await readGroups();
  body.dataset.complete = "1";
}

// The answer that a server would give for one colour.
function plain({ n, points }) {
  const header = new TextEncoder().encode(JSON.stringify({ kind: "plain", n, points, columns: {} }));
  const answer = new Uint8Array(4 + header.length);
  new DataView(answer.buffer).setUint32(0, header.length, true);
  answer.set(header, 4);
  return answer.buffer;
}

async function readGroups() {
  for (const { key, title } of facts.colourings) {
    const colours = await fetchColours("colours", key, view.points);
    if (colours.kind !== "codes") continue;
    grouped.push({ title, codes: colours.codes, names: new Map(colours.legend.map((g) => [g.code, g.name])) });
  }
}

start().catch((error) => view.say(`This page cannot be shown: ${error.message}`));
