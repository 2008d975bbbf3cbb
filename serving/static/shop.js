// Buy, wait until the answer knows of it, show what changed. One file, no libraries.
"use strict";

const POLL_MS = 120;
const GIVE_UP_MS = 5000;
const TICKER_MS = 2000;

const view = document.getElementById("view");
const statusLine = document.getElementById("status");
const alertBox = document.getElementById("alert");
const own = new Set(); // purchases made here: the ticker need not announce them
let asked = 0; // the newest load; an older one that arrives late is dropped
let clockOffset = 0;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const customerId = () => view.querySelector(".customer")?.dataset.customer ?? "";

function say(text, kind = "") {
  statusLine.textContent = text;
  statusLine.className = `status ${kind}`;
}

function complain(text) {
  alertBox.textContent = text;
  alertBox.hidden = !text;
}

async function getJson(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(await problem(response));
  return response.json();
}

async function problem(response) {
  try {
    const body = await response.json();
    return body.detail || body.title || `HTTP ${response.status}`;
  } catch {
    return `HTTP ${response.status} ${response.statusText}`;
  }
}

function positions() {
  const places = new Map();
  for (const row of view.querySelectorAll(".rec")) {
    places.set(row.dataset.article, { rank: Number(row.dataset.rank), top: row.getBoundingClientRect().top });
  }
  return places;
}

// Rows slide from where they were; new ones and movers are marked in words too, not by colour alone.
function showChanges(before, oldHistory) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const counts = { fresh: 0, moved: 0 };
  for (const row of view.querySelectorAll(".rec")) {
    const was = before.get(row.dataset.article);
    const change = row.querySelector(".change");
    if (!was) {
      row.classList.add("is-new");
      change.textContent = "new";
      counts.fresh += 1;
    } else if (was.rank !== Number(row.dataset.rank)) {
      const by = was.rank - Number(row.dataset.rank);
      row.classList.add(by > 0 ? "is-up" : "is-down");
      change.textContent = by > 0 ? `▲ ${by}` : `▼ ${-by}`;
      change.title = `was number ${was.rank}`;
      counts.moved += 1;
    }
    if (!calm && was) {
      const shift = was.top - row.getBoundingClientRect().top;
      if (Math.abs(shift) > 1) {
        row.animate([{ transform: `translateY(${shift}px)` }, { transform: "none" }], {
          duration: 420,
          easing: "cubic-bezier(.2,.7,.2,1)",
        });
      }
    }
  }
  for (const row of view.querySelectorAll("#history li")) {
    if (!oldHistory.has(row.dataset.key)) row.classList.add("is-new");
  }
  return counts;
}

async function render(id, { changes = false } = {}) {
  const turn = ++asked;
  const response = await fetch(`/fragments/customer?customer=${encodeURIComponent(id)}`);
  if (!response.ok) throw new Error(await problem(response));
  const html = await response.text();
  if (turn !== asked) return null;
  const before = positions();
  const history = new Set([...view.querySelectorAll("#history li")].map((row) => row.dataset.key));
  const focused = document.activeElement?.dataset?.article;
  view.innerHTML = html;
  syncClock();
  // The button that was pressed keeps the keyboard, wherever its row went.
  if (focused) {
    const again = view.querySelector(`.buy[data-article="${CSS.escape(focused)}"]`) ?? view.querySelector(".buy");
    again?.focus({ preventScroll: true });
  }
  return changes ? showChanges(before, history) : { fresh: 0, moved: 0 };
}

async function open(id, push = true) {
  complain("");
  say(`Loading customer ${id} …`);
  try {
    if ((await render(id)) === null) return;
    document.title = `Customer ${id} · Modiste`;
    if (push) history.pushState({}, "", `/?customer=${encodeURIComponent(id)}`);
    const pick = document.getElementById("pick");
    if (pick) {
      if (![...pick.options].some((option) => option.value === id)) pick.add(new Option(id, id), 0);
      pick.value = id;
    }
    say("");
  } catch (error) {
    say("");
    complain(`Customer ${id} cannot be shown: ${error.message}`);
  }
}

async function buy(button) {
  const id = customerId();
  const article = button.dataset.article;
  const event = { type: "purchase", customer_id: id, article_id: article };
  if (button.dataset.price) event.price = Number(button.dataset.price);
  event.request_id = view.querySelector(".customer").dataset.request;
  const clicked = performance.now();
  button.setAttribute("aria-disabled", "true");
  button.textContent = "…";
  complain("");
  try {
    const accepted = await getJson("/v1/events", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(event),
    });
    const moment = Date.parse(accepted.occurred_at);
    own.add(`${article}@${moment}`);
    say("Bought. Waiting for the list to hear of it …");
    await untilKnown(id, article, moment, clicked);
    if (customerId() !== id) return;
    const counts = await render(id, { changes: true });
    if (!counts) return;
    const took = Math.round(performance.now() - clicked);
    statusLine.dataset.tookMs = String(took);
    say(`${took} ms from click to change: ${inWords(counts)}.`, "done");
  } catch (error) {
    say("");
    complain(error.message);
    button.removeAttribute("aria-disabled");
    button.textContent = "Buy";
  }
}

function inWords({ fresh, moved }) {
  if (!fresh && !moved) return "the order stayed as it was";
  const parts = [];
  if (fresh) parts.push(`${fresh} new`);
  if (moved) parts.push(`${moved} moved`);
  return parts.join(", ");
}

async function untilKnown(id, article, moment, since) {
  while (performance.now() - since < GIVE_UP_MS) {
    const known = await getJson(`/v1/customers/${encodeURIComponent(id)}?limit=20`);
    const there = (row) => row.article_id === article && Date.parse(row.occurred_at) === moment;
    if (known.history.some(there)) return;
    await pause(POLL_MS);
  }
  throw new Error(
    `The purchase was accepted, but after ${GIVE_UP_MS / 1000} s it is not in the customer's history. Does the worker run?`,
  );
}

function syncClock() {
  const shown = view.querySelector(".customer")?.dataset.now;
  if (shown) clockOffset = Date.parse(shown) - Date.now();
}

function ago(moment) {
  const seconds = (Date.now() + clockOffset - moment) / 1000;
  for (const [size, unit] of [[31536000, "year"], [2592000, "month"], [86400, "day"], [3600, "hour"], [60, "minute"]]) {
    const count = Math.floor(seconds / size);
    if (count >= 1) return `${count} ${unit}${count === 1 ? "" : "s"} ago`;
  }
  return "just now";
}

function refreshTimes() {
  for (const time of document.querySelectorAll("time")) time.textContent = ago(Date.parse(time.dateTime));
}

let tickerSeen = 0;

async function tick() {
  const { count, recent } = await getJson("/v1/activity?limit=10");
  if (count === tickerSeen) return;
  const first = tickerSeen === 0;
  const news = recent.filter((row) => row.number > tickerSeen);
  tickerSeen = count;
  document.getElementById("ticker-empty").hidden = recent.length > 0;
  document.getElementById("ticker-count").textContent = count;
  document.getElementById("ticker").replaceChildren(...recent.map((row) => tickerRow(row, !first && news.includes(row))));
  const elsewhere = news.some(
    (row) => row.customer_id === customerId() && !own.has(`${row.article_id}@${Date.parse(row.occurred_at)}`),
  );
  if (!first && elsewhere) {
    await pause(300); // the worker reads the same topic; let it fold first
    await render(customerId(), { changes: true });
    say("This customer bought something elsewhere.");
  }
}

function tickerRow(row, isNew) {
  const line = document.createElement("li");
  if (isNew) line.className = "is-new";
  const link = document.createElement("a");
  link.href = `/?customer=${encodeURIComponent(row.customer_id)}`;
  link.dataset.customer = row.customer_id;
  link.textContent = row.customer_id;
  const what = document.createElement("span");
  const title = row.title ?? `article ${row.article_id}`;
  const calm = title === title.toUpperCase() ? title.charAt(0) + title.slice(1).toLowerCase() : title;
  what.textContent = ` ${row.type === "purchase" ? "bought" : row.type} ${calm}`;
  line.append(link, what);
  return line;
}

async function follow() {
  for (;;) {
    if (!document.hidden) {
      try {
        await tick();
      } catch {
        // The ticker is an extra; the page says what matters when someone acts.
      }
    }
    await pause(TICKER_MS);
  }
}

document.addEventListener("click", (event) => {
  const button = event.target.closest(".buy");
  if (button && button.getAttribute("aria-disabled") !== "true") buy(button);
  const link = event.target.closest("a[data-customer]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    open(link.dataset.customer);
  }
});
document.getElementById("pick")?.addEventListener("change", (event) => open(event.target.value));
document.getElementById("by-id").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = document.getElementById("customer-id");
  if (field.value.trim()) open(field.value.trim());
});
addEventListener("popstate", () => {
  const id = new URLSearchParams(location.search).get("customer") ?? document.getElementById("pick")?.value;
  if (id) open(id, false);
});

syncClock();
setInterval(refreshTimes, 15000);
follow();
