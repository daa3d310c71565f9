// The search page: an image dropped, pasted or chosen is searched for at once; results by the keyboard.
import { isTyping } from "./keys.js";

const LARGEST_KEPT = 96; // pixels of the picture that the next page shows
const search = document.getElementById("search");
const box = document.getElementById("q");
const form = document.getElementById("image-search");

// --- the address stays short: what is empty is left out -----------------------------------------

search.addEventListener("submit", () => {
  const empty = [...search.elements].filter(
    (field) => field.name && field.name !== "space" && field.tagName !== "BUTTON" && !field.value,
  );
  for (const field of empty) field.disabled = true;
  // The page may come back from the browser's memory.
  addEventListener("pageshow", () => empty.forEach((field) => (field.disabled = false)), { once: true });
});

// --- by an image --------------------------------------------------------------------------------

/** The picture, small, as the address of an image: only this browser keeps it, and only in this tab. */
async function small(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LARGEST_KEPT / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/png");
}

/** By the end of its vector, which is in the address. */
function keptAs(address) {
  return `nearsql-image-${(address.searchParams.get("image") ?? "").slice(-64)}`;
}

async function searchBy(file) {
  const hint = document.getElementById("image-hint");
  hint.textContent = "Comparing; the first image of a space loads its model.";
  hint.classList.remove("error");
  const fields = new URLSearchParams();
  for (const [name, value] of new FormData(form)) {
    if (typeof value === "string" && name !== "csrftoken") fields.set(name, value);
  }
  for (const name of ["like", "unlike", "k"]) {
    if (search.elements[name]?.value) fields.set(name, search.elements[name].value);
  }
  try {
    const answer = await fetch(`${form.action}?${fields}`, {
      method: "POST",
      body: file,
      headers: {
        accept: "application/json",
        "content-type": "application/octet-stream",
        "x-csrftoken": form.elements.csrftoken.value,
      },
    });
    const found = await answer.json();
    if (!found.ok) throw new Error(found.error);
    const address = new URL(found.url, location.href);
    const picture = await small(file).catch(() => null); // of a kind that only the server can read
    if (picture) sessionStorage.setItem(keptAs(address), picture);
    location.assign(address);
  } catch (error) {
    hint.textContent = error.message;
    hint.classList.add("error");
  }
}

function imageOf(data) {
  return [...(data?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

if (form) {
  form.querySelector("button").hidden = true; // choosing is enough
  document.getElementById("image-hint").textContent =
    "Or drop one here, or paste it. It is compared and forgotten, not stored.";
  form.elements.file.addEventListener("change", () => {
    if (form.elements.file.files[0]) searchBy(form.elements.file.files[0]);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (form.elements.file.files[0]) searchBy(form.elements.file.files[0]);
  });
  document.addEventListener("dragover", (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    form.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) form.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    form.classList.remove("over");
    const file = imageOf(event.dataTransfer);
    if (!file) return;
    event.preventDefault();
    searchBy(file);
  });
  document.addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    searchBy(file);
  });
}

const sent = document.getElementById("sent-image");
const picture = sent && sessionStorage.getItem(keptAs(new URL(location.href)));
if (picture) {
  const image = document.createElement("img");
  image.alt = "The image that was sent";
  image.src = picture;
  sent.append(image);
} else if (sent) {
  sent.hidden = true;
}

// --- the keyboard -------------------------------------------------------------------------------

const results = [...document.querySelectorAll(".results li > a.thumbnail")];

box.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" || results.length === 0) return;
  event.preventDefault();
  results[0].focus();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
  const result = event.target.closest?.(".results li");
  const name = { "+": "plus", "=": "plus", "-": "minus" }[event.key];
  if (!result || !name) return;
  event.preventDefault();
  result.querySelector(`button[name=${name}]`)?.click();
});
