// A worklist of findings by the keyboard, decided without leaving the page. Without this script the
// buttons are forms, and do the same.

import { isTyping } from "./keys.js";

const list = document.getElementById("worklist");
const said = document.getElementById("said");
const progress = document.querySelector("#progress progress");
const words = document.querySelector("#progress span");
const token = document.querySelector('meta[name="nearsql-csrf"]')?.content;
const undone = []; // what was decided here and what it was before, to be undone
let current = null;
let queue = Promise.resolve(); // one after the other, so that the last word is the last

const findings = () => (list ? [...list.querySelectorAll(".finding")] : []);

function choose(finding, { scroll = true } = {}) {
  if (!finding) return;
  current?.classList.remove("current");
  current = finding;
  current.classList.add("current");
  current.focus({ preventScroll: true });
  if (scroll) {
    current.scrollIntoView({ block: "nearest" });
    current.nextElementSibling?.scrollIntoView({ block: "nearest" }); // what comes is in sight as well
    current.scrollIntoView({ block: "nearest" });
  }
}

function step(by) {
  const all = findings();
  if (!all.length) return;
  const place = all.indexOf(current);
  const next = place < 0 ? (by > 0 ? 0 : all.length - 1) : place + by;
  if (next < all.length) choose(all[Math.max(0, next)]);
  else document.querySelector('.turn a[rel="next"]')?.focus();
}

function mark(finding, decision) {
  finding.dataset.decision = decision;
  finding.classList.toggle("keep", decision === "keep");
  finding.classList.toggle("dismiss", decision === "dismiss");
  for (const button of finding.querySelectorAll("button[name=decision]")) {
    if (button.value) button.setAttribute("aria-pressed", String(button.value === decision));
    else button.hidden = !decision;
  }
  // The time on it is that of the decision before.
  finding.querySelector(".decision time")?.parentElement.remove();
}

function count(kinds) {
  const kind = kinds.find((each) => each.kind === list.dataset.kind);
  if (!kind) return;
  const number = (n) => n.toLocaleString("en-US");
  const decided = kind.findings - kind.undecided;
  progress.value = decided;
  words.textContent =
    `${number(decided)} of ${number(kind.findings)} decided: ` +
    `${number(kind.kept)} kept, ${number(kind.dismissed)} dismissed`;
}

async function send(form, finding, decision) {
  const response = await fetch(form.action, {
    method: "POST",
    headers: {
      accept: "application/json",
      "content-type": "application/json",
      ...(token ? { "x-csrftoken": token } : {}),
    },
    body: JSON.stringify({ finding: Number(finding.dataset.finding), decision }),
  });
  const answer = await response.json().catch(() => null);
  if (!response.ok || !answer?.ok) {
    throw new Error(answer?.error ?? `The server answered ${response.status}.`);
  }
  count(answer.kinds);
}

function decide(finding, decision, { remember = true } = {}) {
  const form = finding?.querySelector("form");
  if (!form) return;
  const before = finding.dataset.decision;
  if (before === decision) return;
  mark(finding, decision);
  queue = queue.then(async () => {
    try {
      await send(form, finding, decision);
      said.hidden = true;
      if (remember) undone.push({ finding, before });
    } catch (error) {
      mark(finding, before);
      said.textContent = `Not stored: ${error.message}`;
      said.hidden = false;
    }
  });
}

function undo() {
  queue = queue.then(() => {
    const last = undone.pop();
    if (!last) return;
    choose(last.finding);
    decide(last.finding, last.before, { remember: false });
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (isTyping(event) || document.querySelector("dialog[open]")) return;
  const actions = {
    j: () => step(1),
    k: () => step(-1),
    y: () => current && (decide(current, "keep"), step(1)),
    n: () => current && (decide(current, "dismiss"), step(1)),
    u: undo,
  };
  const action = actions[event.key];
  if (action) {
    event.preventDefault();
    action();
  } else if (event.key === "Enter" && event.target === current) {
    current.querySelector(".pictures a")?.click();
  }
});

list?.addEventListener("submit", (event) => {
  const decision = event.submitter?.value;
  const finding = event.target.closest(".finding");
  if (decision === undefined || !finding) return;
  event.preventDefault();
  choose(finding, { scroll: false });
  decide(finding, decision);
});
list?.addEventListener("click", (event) => {
  const finding = event.target.closest(".finding");
  if (finding && !event.target.closest("a, button")) choose(finding, { scroll: false });
});

const first = findings().find((f) => !f.dataset.decision) ?? findings()[0];
choose(document.querySelector(".finding:target") ?? first, {
  scroll: Boolean(location.hash),
});
