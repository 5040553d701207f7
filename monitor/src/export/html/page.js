// Filters, and a refresh without a reload. The page is whole without this.
"use strict";

const EVERY_MS = 5000;
const form = document.getElementById("filter");
form.hidden = false;

function apply() {
  const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("tbody tr")) {
    const isAlarm = ["proven", "leaking", "growing"].includes(row.dataset.verdict);
    const isQuiet = !isAlarm
      && ((form.external.checked === false && row.dataset.class === "external")
        || (form.stable.checked === false && row.dataset.verdict === "stable"));
    const text = row.textContent.toLowerCase();
    row.hidden = isQuiet || !words.every((word) => text.includes(word));
    shown += row.hidden ? 0 : 1;
  }
  document.getElementById("shown").textContent = `${shown} groups shown`;
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const key = (row) => row.dataset.key;
    const rows = [...document.querySelectorAll("tbody tr")];
    const open = new Set(rows.filter((row) => row.querySelector("details[open]")).map(key));
    const focused = document.activeElement?.closest?.("tbody tr");
    const focus = focused ? key(focused) : null;
    document.getElementById("groups").replaceWith(fresh.getElementById("groups"));
    for (const row of document.querySelectorAll("tbody tr")) {
      if (open.has(key(row))) row.querySelector("details").open = true;
      if (focus === key(row)) row.querySelector("summary").focus();
    }
    state.textContent = "";
    apply();
  } catch (error) {
    state.textContent = `taskleak does not answer (${error.message}): what is shown is old.`;
  }
}

form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
apply();
setInterval(refresh, EVERY_MS);
