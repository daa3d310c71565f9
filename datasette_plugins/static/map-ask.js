// What the map asks the server: fragments, item ids, and to write.
// A refusal is an Error with a sentence.

function problemOf(html) {
  const found = new DOMParser().parseFromString(html, "text/html").querySelector(".problem");
  return found ? found.textContent.trim() : "";
}

async function answered(url, options) {
  const response = await fetch(url, options).catch(() => {
    throw new Error("The server does not answer.");
  });
  if (response.ok) return response;
  const text = await response.text();
  throw new Error(problemOf(text) || `The server answered ${response.status}.`);
}

/** A fragment of HTML from one of our own routes, which escape what a file holds. */
export async function askHtml(url) {
  return (await answered(url)).text();
}

/** Item ids in ascending order, each once; the route sends them so, as little-endian float64. */
export async function askIds(url) {
  return new Float64Array(await (await answered(url)).arrayBuffer());
}

/** Sends fields to an action; gives what it says. */
export async function post(url, fields) {
  const token = document.querySelector('meta[name="nearsql-csrf"]')?.content ?? "";
  const response = await fetch(url, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "application/json",
      "x-csrftoken": token,
    },
    body: JSON.stringify(fields),
  }).catch(() => {
    throw new Error("The server does not answer.");
  });
  const text = await response.text();
  let said;
  try {
    said = JSON.parse(text);
  } catch {
    throw new Error(problemOf(text) || `The server answered ${response.status}.`);
  }
  if (!response.ok || said.ok === false) {
    throw new Error(said.error || `The server answered ${response.status}.`);
  }
  return said;
}
