// What the page holds: compressed parts, each in an element of its own. `fetch` gives them to the
// scripts that were written for a server, and nothing else: the page asks nobody for anything.

async function unpacked(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  element.remove(); // it is needed once, and is long
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function raw(id) {
  const element = document.getElementById(id);
  if (!element) return null;
  const bytes = Uint8Array.from(atob(element.textContent), (letter) => letter.charCodeAt(0));
  element.remove();
  return bytes;
}

const held = { points: null, colours: new Map() };

async function fetch(url) {
  const key = new URL(url, location.href).searchParams.get("by");
  const body = key === null ? held.points : await held.colours.get(key)?.();
  if (!body) throw new Error("This page does not hold it.");
  return new Response(body.slice(0));
}
