// The keys of every page: / searches, ? lists the keys, g and a letter goes to a page, arrows walk a sheet.
//
// A page lists its own keys in <dl data-keys hidden>, a <div><dt>key</dt><dd>what it does</dd></div> each.
// What / goes to is the field with data-slash, else the page's search box, else the page Search.

// What readers of the screen ask first, and Datasette's page does not say: its language, where it begins.
document.documentElement.lang ||= "en";
document.querySelector("section.content")?.setAttribute("role", "main");

const GO = {
  o: "Overview",
  m: "Map",
  s: "Search",
  c: "Clusters",
  e: "Evaluation",
  f: "Findings",
  l: "Selections",
  r: "Runs",
  t: "Tables",
};
const GO_WITHIN = 1500; // milliseconds between g and its letter

/** Whether a key goes into a field, and so is no command. */
export function isTyping(event) {
  const field = event.composedPath()[0];
  if (!(field instanceof Element)) return false;
  if (field.closest("textarea, select, [contenteditable]:not([contenteditable=false])")) return true;
  return field.matches("input:not([type=checkbox], [type=radio], [type=button], [type=submit])");
}

function tab(name) {
  return [...document.querySelectorAll("nav.tabs a")].find(
    (link) => link.textContent.trim() === name,
  );
}

// --- / ------------------------------------------------------------------------------------------

function goToSearch() {
  const field =
    document.querySelector("[data-slash]") ?? document.querySelector(".content input[type=search]");
  if (field) {
    field.closest("details")?.setAttribute("open", "");
    field.focus();
    field.select?.();
  } else {
    tab("Search")?.click();
  }
}

// --- ? ------------------------------------------------------------------------------------------

function element(name, text, ...children) {
  const made = document.createElement(name);
  made.append(...(text ? [text] : []), ...children);
  return made;
}

function row(keys, what) {
  const names = keys.split(" ").map((key) => element("kbd", key));
  return element("div", "", element("dt", "", ...names), element("dd", what));
}

function makeHelp() {
  const style = element("link", "");
  style.rel = "stylesheet";
  style.href = new URL("./keys.css", import.meta.url);
  document.head.append(style);
  const dialog = element("dialog", "");
  dialog.id = "keys-help";
  dialog.setAttribute("aria-labelledby", "keys-title");
  const title = element("h2", "Keys");
  title.id = "keys-title";
  const close = element("button", "Close");
  close.type = "button";
  close.addEventListener("click", () => dialog.close());
  const own = document.querySelector("dl[data-keys]");
  const lists = [];
  if (own) {
    const copy = own.cloneNode(true);
    copy.hidden = false;
    copy.removeAttribute("data-keys");
    lists.push(element("h3", "On this page"), copy);
  }
  const everywhere = element("dl", "");
  everywhere.append(
    row("/", "Search"),
    row("?", "This list"),
    row("Esc", "Close what is open, leave a field"),
  );
  for (const [key, name] of Object.entries(GO)) if (tab(name)) everywhere.append(row(`g ${key}`, name));
  lists.push(element("h3", "On every page"), everywhere);
  dialog.append(title, ...lists, close);
  // A click on what is around it.
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.querySelector(".content").append(dialog);
  return dialog;
}

let help = null;

function showHelp() {
  help ??= makeHelp();
  if (help.open) help.close();
  else help.showModal();
}

// --- arrows within a sheet ----------------------------------------------------------------------

/** The thumbnail that lies that way of this one: beside it, or nearest in the row above or below. */
function beside(link, key) {
  const all = [...link.closest(".sheet, .neighbours").querySelectorAll("a.thumbnail")];
  const at = all.indexOf(link);
  if (key === "ArrowLeft") return all[at - 1];
  if (key === "ArrowRight") return all[at + 1];
  const from = link.getBoundingClientRect();
  const sign = key === "ArrowDown" ? 1 : -1;
  let best;
  let shortest = Infinity;
  for (const other of all) {
    const place = other.getBoundingClientRect();
    const down = sign * (place.top - from.top);
    if (down < from.height / 2) continue;
    const distance = down * 1000 + Math.abs(place.left - from.left);
    if (distance < shortest) [best, shortest] = [other, distance];
  }
  return best;
}

function walk(event) {
  const link = event.target.closest?.(".sheet a.thumbnail, .neighbours a.thumbnail");
  const next = link && beside(link, event.key);
  if (!next) return false;
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

// --- all of them --------------------------------------------------------------------------------

let goSince = -Infinity;

function command(event) {
  const isGoing = event.timeStamp - goSince < GO_WITHIN;
  goSince = -Infinity;
  if (isGoing && GO[event.key]) {
    tab(GO[event.key])?.click();
  } else if (event.key === "/") {
    goToSearch();
  } else if (event.key === "?") {
    showHelp();
  } else if (event.key === "g") {
    goSince = event.timeStamp;
  } else if (event.key.startsWith("Arrow") && !event.shiftKey) {
    return walk(event);
  } else {
    return false;
  }
  return true;
}

// Before others: Datasette 1.0 has a menu of its own on the key /.
document.addEventListener(
  "keydown",
  (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isTyping(event)) {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
        event.composedPath()[0].blur();
      }
      return;
    }
    if (document.querySelector("dialog[open]") && event.key !== "?") return;
    if (command(event)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  },
  { capture: true },
);
