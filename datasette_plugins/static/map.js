// The map of a projection: plotly draws the points, this script fetches, colours, points and opens.
"use strict";

(() => {
  const root = document.getElementById("nearsql-map");
  const settings = JSON.parse(root.dataset.settings);
  const canvas = document.getElementById("canvas");
  const card = document.getElementById("card");
  const panel = document.getElementById("panel");
  const statusLine = document.getElementById("status");
  const colourBy = document.getElementById("colour");

  const NOISE = -1; // the codes of maps.py
  const CARDS_KEPT = 500;
  const SCORE_SCALE = "Cividis"; // readable with every kind of colour vision
  const CONFIG = { displayModeBar: false, scrollZoom: true, responsive: true, doubleClick: "reset" };

  let map = null; // the columns as they came
  let order = new Int32Array(0); // which point of `map` is the n-th that plotly draws
  let hidden = new Set(); // the codes that the legend has switched off
  let opened = null; // the item in the panel
  let neighbours = [];
  let cursor = -1; // the point that the keyboard is on
  const cards = new Map();

  // --- data -----------------------------------------------------------------------------------

  async function fetchText(url) {
    const response = await fetch(url);
    const text = await response.text();
    if (!response.ok) throw new Error(problemOf(text) || `The server answered ${response.status}.`);
    return text;
  }

  function problemOf(html) {
    const found = new DOMParser().parseFromString(html, "text/html").querySelector(".problem");
    return found ? found.textContent : "";
  }

  // 4 bytes header length, JSON header, float32 x, float32 y, int32 id, int32 or float32 colour.
  async function fetchColumns(colour) {
    const response = await fetch(`${settings.columns}?colour=${encodeURIComponent(colour)}`);
    if (!response.ok) throw new Error(problemOf(await response.text()) || "The points did not come.");
    const buffer = await response.arrayBuffer();
    const length = new DataView(buffer).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const column = (number, Type) =>
      new Type(buffer, 4 + length + 4 * header.points * number, header.points);
    return {
      ...header,
      x: column(0, Float32Array),
      y: column(1, Float32Array),
      id: column(2, Int32Array),
      colour: column(3, header.is_number ? Float32Array : Int32Array),
    };
  }

  // --- drawing --------------------------------------------------------------------------------

  const style = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function palette() {
    const colours = [];
    for (let i = 0; style(`--c${i}`); i++) colours.push(style(`--c${i}`));
    return colours;
  }

  function colourOf(code, colours) {
    if (code >= 0) return colours[code % colours.length];
    return code === NOISE ? style("--noise") : style("--without");
  }

  function markerSize(n) {
    return n > 200000 ? 2 : n > 50000 ? 3 : n > 10000 ? 4 : n > 1000 ? 5 : 7;
  }

  // Points in no group first, so that they lie below the others.
  function drawnOrder() {
    const below = [];
    const above = [];
    for (let i = 0; i < map.points; i++) {
      if (hidden.has(map.colour[i])) continue;
      (map.colour[i] < 0 || Number.isNaN(map.colour[i]) ? below : above).push(i);
    }
    return Int32Array.from(below.concat(above));
  }

  function pointsTrace() {
    order = drawnOrder();
    const marker = { size: markerSize(map.points), opacity: map.points > 10000 ? 0.75 : 0.85 };
    if (map.is_number) {
      marker.color = Float32Array.from(order, (i) => map.colour[i]);
      marker.colorscale = SCORE_SCALE;
      [marker.cmin, marker.cmax] = scoreRange();
    } else {
      // Codes become places on a scale of flat steps, which plotly draws far faster than texts.
      const colours = palette();
      const steps = [style("--without"), style("--noise"), ...colours];
      const place = (code) => (code < 0 ? code + 2 : (code % colours.length) + 2);
      marker.color = Float32Array.from(order, (i) => place(map.colour[i]));
      marker.colorscale = steps.flatMap((colour, i) => [
        [i / steps.length, colour],
        [(i + 1) / steps.length, colour],
      ]);
      marker.cmin = -0.5;
      marker.cmax = steps.length - 0.5;
    }
    return {
      type: "scattergl",
      mode: "markers",
      x: Float32Array.from(order, (i) => map.x[i]),
      y: Float32Array.from(order, (i) => map.y[i]),
      hoverinfo: "none",
      marker,
    };
  }

  // Rings around the opened item, its neighbours, and the keyboard's place.
  function ringsTrace() {
    map.places ??= new Map(Array.from(map.id, (id, i) => [id, i]));
    const rings = neighbours.map((id) => ({ at: map.places.get(id), size: 11, width: 1 }));
    if (opened !== null) rings.push({ at: map.places.get(opened), size: 18, width: 3 });
    if (cursor >= 0) rings.push({ at: cursor, size: 18, width: 2 });
    const seen = rings.filter((ring) => ring.at !== undefined);
    return {
      type: "scatter",
      mode: "markers",
      x: seen.map((ring) => map.x[ring.at]),
      y: seen.map((ring) => map.y[ring.at]),
      hoverinfo: "skip",
      marker: {
        symbol: "circle-open",
        color: style("--ink"),
        size: seen.map((ring) => ring.size),
        line: { width: seen.map((ring) => ring.width) },
      },
    };
  }

  function axis(extra) {
    return { visible: false, showgrid: false, zeroline: false, ...extra };
  }

  function layout() {
    return {
      margin: { l: 0, r: 0, t: 0, b: 0 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      showlegend: false,
      dragmode: "pan",
      hovermode: "closest",
      hoverdistance: 12,
      uirevision: "keep", // the view stays where it is when colours change
      xaxis: axis({}),
      yaxis: axis({ scaleanchor: "x" }),
    };
  }

  async function draw() {
    await Plotly.react(canvas, [pointsTrace(), ringsTrace()], layout(), CONFIG);
  }

  function drawRings() {
    const rings = ringsTrace();
    return Plotly.restyle(
      canvas,
      {
        x: [rings.x],
        y: [rings.y],
        "marker.size": [rings.marker.size],
        "marker.line.width": [rings.marker.line.width],
      },
      [1],
    );
  }

  async function recolour() {
    statusLine.hidden = false;
    statusLine.textContent = "Loading the points";
    try {
      map = await fetchColumns(colourBy.value);
      hidden = new Set();
      cursor = -1;
      await draw();
      drawLegend();
      const sampled = document.getElementById("sampled");
      sampled.hidden = map.points === map.total;
      sampled.textContent =
        `An even sample: ${map.points.toLocaleString()} of ${map.total.toLocaleString()} points`;
      statusLine.hidden = map.points > 0;
      statusLine.textContent = "This map has no points.";
      root.dataset.drawn = colourBy.value;
    } catch (error) {
      statusLine.textContent = error.message;
    }
  }

  // --- legend ---------------------------------------------------------------------------------

  function scoreRange() {
    let low = Infinity;
    let high = -Infinity;
    for (const value of map.colour) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low <= high ? [low, high] : [0, 1];
  }

  function element(name, properties, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function drawLegend() {
    const legend = document.getElementById("legend");
    legend.replaceChildren();
    document.getElementById("legend-title").textContent =
      colourBy.selectedOptions[0].textContent;
    document.getElementById("legend-section").hidden = colourBy.value === "plain";
    if (map.is_number) {
      const [low, high] = scoreRange().map((value) => value.toPrecision(3));
      legend.append(
        element("div", { className: "scale" }),
        element("div", { className: "ends" }, element("span", {}, low), element("span", {}, high)),
      );
      return;
    }
    const counts = new Map();
    for (const code of map.colour) counts.set(code, (counts.get(code) || 0) + 1);
    const entries = map.legend.filter((entry) => counts.has(entry.code));
    if (colourBy.value.startsWith("cluster")) {
      entries.push({ code: NOISE, name: "noise" }); // always, also when there is none
      if (counts.has(-2)) entries.push({ code: -2, name: "not in this run" });
    } else if (counts.has(-2)) {
      entries.push({ code: -2, name: "without this label" });
    }
    const colours = palette();
    for (const entry of entries) {
      const swatch = element("i", {});
      swatch.style.background = colourOf(entry.code, colours);
      const button = element(
        "button",
        { type: "button", title: "Click to hide or show; with Shift, to see it alone" },
        swatch,
        element("span", { className: "name" }, entry.name),
        element("span", { className: "count" }, (counts.get(entry.code) || 0).toLocaleString()),
      );
      button.setAttribute("aria-pressed", "true");
      button.dataset.code = entry.code;
      button.addEventListener("click", (event) => toggle(entry.code, entries, event.shiftKey));
      legend.append(button);
    }
  }

  function toggle(code, entries, alone) {
    const others = entries.map((entry) => entry.code).filter((other) => other !== code);
    if (alone) {
      const isAlone = !hidden.has(code) && others.every((other) => hidden.has(other));
      hidden = new Set(isAlone ? [] : others);
    } else if (!hidden.delete(code)) {
      hidden.add(code);
    }
    for (const button of document.querySelectorAll("#legend button")) {
      button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.code))));
    }
    cursor = -1;
    draw();
  }

  // --- the card beside the pointer ------------------------------------------------------------

  let wanted = null;

  async function showCard(id, left, top) {
    wanted = id;
    if (!cards.has(id)) {
      const html = await fetchText(`${settings.items}/${id}/card`).catch((error) => error.message);
      if (cards.size >= CARDS_KEPT) cards.delete(cards.keys().next().value);
      cards.set(id, html);
    }
    if (wanted !== id) return; // the pointer has gone on
    card.innerHTML = cards.get(id);
    card.dataset.item = id;
    card.hidden = false;
    const frame = canvas.getBoundingClientRect();
    const place = () => {
      const x = left + 16 + card.offsetWidth > frame.width ? left - 16 - card.offsetWidth : left + 16;
      const y = Math.min(top + 16, frame.height - card.offsetHeight - 8);
      card.style.left = `${Math.max(8, x)}px`;
      card.style.top = `${Math.max(8, y)}px`;
    };
    place();
    for (const image of card.querySelectorAll("img")) image.addEventListener("load", place);
  }

  function hideCard() {
    wanted = null;
    card.hidden = true;
  }

  // --- the item beside the map ----------------------------------------------------------------

  async function open(id, space) {
    opened = id;
    hideCard();
    let html;
    try {
      html = await fetchText(
        `${settings.items}/${id}/panel?space=${encodeURIComponent(space || settings.space || "")}`,
      );
    } catch (error) {
      html = "";
      panel.replaceChildren(element("p", { className: "problem" }, error.message));
    }
    if (opened !== id) return; // another one was opened meanwhile
    if (html) panel.innerHTML = html;
    panel.hidden = false;
    panel.scrollIntoView({ block: "nearest" });
    panel.dataset.item = id;
    neighbours = [...panel.querySelectorAll(".neighbours li")].map((li) => Number(li.dataset.item));
    remember();
    drawRings();
  }

  function close() {
    opened = null;
    neighbours = [];
    panel.hidden = true;
    remember();
    drawRings();
    canvas.focus();
  }

  // The address names what is shown, so that it can be sent to somebody.
  function remember() {
    const parts = new URLSearchParams();
    if (colourBy.selectedIndex > 0) parts.set("colour", colourBy.value);
    if (opened !== null) parts.set("item", opened);
    history.replaceState(null, "", parts.size ? `#${parts}` : location.pathname + location.search);
  }

  panel.addEventListener("click", (event) => {
    if (event.target.closest(".close")) {
      close();
      return;
    }
    const item = event.target.closest(".neighbours li");
    if (item && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      open(Number(item.dataset.item), chosenSpace());
    }
  });

  panel.addEventListener("change", (event) => {
    if (event.target.id === "panel-space") open(opened, event.target.value);
  });

  function chosenSpace() {
    const select = document.getElementById("panel-space");
    return select ? select.value : null;
  }

  // --- the keyboard ---------------------------------------------------------------------------

  const DIRECTIONS = {
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
    ArrowUp: [0, 1],
    ArrowDown: [0, -1],
  };

  function view() {
    const { xaxis, yaxis } = canvas._fullLayout;
    return { x: xaxis.range.map(Number), y: yaxis.range.map(Number) };
  }

  // The nearest point that lies rather ahead than aside, or the one nearest to the middle.
  function nextPoint(direction) {
    const { x, y } = view();
    const from = cursor >= 0 ? [map.x[cursor], map.y[cursor]] : [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2];
    let best = -1;
    let shortest = Infinity;
    for (const i of order) {
      if (i === cursor) continue;
      const dx = map.x[i] - from[0];
      const dy = map.y[i] - from[1];
      if (cursor >= 0) {
        const ahead = dx * direction[0] + dy * direction[1];
        const aside = Math.abs(dx * direction[1]) + Math.abs(dy * direction[0]);
        if (ahead <= 0 || aside > ahead) continue;
      }
      const distance = dx * dx + dy * dy;
      if (distance < shortest) [best, shortest] = [i, distance];
    }
    return best;
  }

  function goTo(point) {
    cursor = point;
    drawRings();
    const { x, y } = view();
    const frame = canvas.getBoundingClientRect();
    showCard(
      map.id[point],
      (frame.width * (map.x[point] - x[0])) / (x[1] - x[0]),
      (frame.height * (y[1] - map.y[point])) / (y[1] - y[0]),
    );
  }

  function zoom(factor) {
    const { x, y } = view();
    const scaled = ([low, high]) => {
      const middle = (low + high) / 2;
      return [middle + (low - middle) * factor, middle + (high - middle) * factor];
    };
    Plotly.relayout(canvas, { "xaxis.range": scaled(x), "yaxis.range": scaled(y) });
  }

  function showAll() {
    Plotly.relayout(canvas, { "xaxis.autorange": true, "yaxis.autorange": true });
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || map === null) return;
    if (event.key in DIRECTIONS) {
      const point = nextPoint(DIRECTIONS[event.key]);
      if (point >= 0) goTo(point);
    } else if (event.key === "Enter" && cursor >= 0) {
      open(map.id[cursor], chosenSpace());
    } else if (event.key === "+" || event.key === "=") {
      zoom(0.7);
    } else if (event.key === "-") {
      zoom(1 / 0.7);
    } else if (event.key === "0") {
      showAll();
    } else {
      return;
    }
    event.preventDefault();
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hideCard();
    if (opened !== null) close();
  });

  // --- start ----------------------------------------------------------------------------------

  async function start() {
    const asked = new URLSearchParams(location.hash.slice(1));
    if ([...colourBy.options].some((option) => option.value === asked.get("colour"))) {
      colourBy.value = asked.get("colour");
    }
    await recolour();
    if (map === null) return;
    canvas.on("plotly_hover", (event) => {
      if (event.points[0].curveNumber !== 0) return;
      const frame = canvas.getBoundingClientRect();
      const id = map.id[order[event.points[0].pointNumber]];
      showCard(id, event.event.clientX - frame.left, event.event.clientY - frame.top);
    });
    canvas.on("plotly_unhover", hideCard);
    canvas.on("plotly_click", (event) => {
      if (event.points[0].curveNumber !== 0) return;
      open(map.id[order[event.points[0].pointNumber]], chosenSpace());
    });
    colourBy.addEventListener("change", async () => {
      await recolour();
      remember();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      draw();
      drawLegend();
    });
    if (asked.has("item")) open(Number(asked.get("item")), null);
  }

  start();
})();
