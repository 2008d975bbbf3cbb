// Look, buy, see the list change. No libraries, no build: the server draws, this asks and shows what is different.

import { follow, silent } from "./live.js";

const view = document.getElementById("view");
const statusLine = document.getElementById("status");
const alertBox = document.getElementById("alert");
const drawer = document.getElementById("drawer");
const people = document.getElementById("people");
const USUAL = { strategy: "full", against: "", hide: document.body.dataset.hide }; // what an address need not say
const own = new Set(); // events of this page: their change is shown by who made them
let asked = 0; // the newest load; an older one that arrives late is dropped
let clockOffset = 0;
let hush = 0;
let opening = Promise.resolve(); // what was chosen last, until it is drawn: nothing else draws before it
let acting = 0; // acts of this page whose change is not shown yet
let missed = false; // the list changed while one was
let turns = Promise.resolve(); // one of them after the other
let sent = Promise.resolve(); // the last act on its way
let opener = null; // what the drawer was opened by

const current = () => view.querySelector(".customer");
const customerId = () => current()?.dataset.customer ?? "";

function say(text, kind = "") {
  clearTimeout(hush);
  statusLine.textContent = text;
  statusLine.className = `status ${kind}`;
  if (kind === "done") hush = setTimeout(() => (statusLine.textContent = ""), 6000);
}

function complain(text) {
  alertBox.textContent = text;
  alertBox.hidden = !text;
  if (text) alertBox.scrollIntoView({ block: "nearest" });
}

async function problem(response) {
  try {
    const body = await response.json();
    return body.detail || body.title || `HTTP ${response.status}`;
  } catch {
    return `HTTP ${response.status} ${response.statusText}`;
  }
}

async function get(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(await problem(response));
  return response;
}

function address(changes = {}) {
  const now = current()?.dataset ?? {};
  const asks = { customer: now.customer, strategy: now.strategy, against: now.against, hide: now.hide, ...changes };
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(asks)) {
    if (value && value !== USUAL[name]) query.set(name, value);
  }
  return query;
}

// ---- the list, and what changed in it

function places() {
  const found = new Map();
  for (const card of view.querySelectorAll("#recommendations .rec")) {
    found.set(card.dataset.article, { rank: Number(card.dataset.rank), box: card.getBoundingClientRect() });
  }
  return found;
}

// Cards glide from where they were; new ones and movers are marked in words too, not by motion alone.
function showChanges(before, oldHistory) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const counts = { fresh: 0, moved: 0 };
  for (const card of view.querySelectorAll("#recommendations .rec")) {
    const was = before.get(card.dataset.article);
    const change = card.querySelector(".change");
    if (!was) {
      card.classList.add("is-new");
      change.textContent = "new";
      counts.fresh += 1;
      if (!calm) card.animate([{ opacity: 0, transform: "scale(.96)" }, { opacity: 1, transform: "none" }], { duration: 380 });
      continue;
    }
    const by = was.rank - Number(card.dataset.rank);
    if (by !== 0) {
      change.textContent = by > 0 ? `▲ ${by}` : `▼ ${-by}`;
      change.title = `was number ${was.rank}`;
      counts.moved += 1;
    }
    const now = card.getBoundingClientRect();
    const [x, y] = [was.box.left - now.left, was.box.top - now.top];
    if (!calm && (Math.abs(x) > 1 || Math.abs(y) > 1)) {
      card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], {
        duration: 460,
        easing: "cubic-bezier(.2,.7,.2,1)",
      });
    }
  }
  for (const row of view.querySelectorAll("#history li")) {
    if (!oldHistory.has(row.dataset.key)) row.classList.add("is-new");
  }
  return counts;
}

function inWords({ fresh, moved }) {
  if (!fresh && !moved) return "the order stayed as it was";
  return [fresh && `${fresh} new`, moved && `${moved} moved`].filter(Boolean).join(", ");
}

async function render(query, { changes = false } = {}) {
  const turn = ++asked;
  const response = await get(`/fragments/customer?${query}`);
  const html = await response.text();
  if (turn !== asked) return null;
  const before = places();
  const history = new Set([...view.querySelectorAll("#history li")].map((row) => row.dataset.key));
  const rail = view.querySelector("#similar");
  const fresh = view.querySelector(".fresh-ms")?.textContent;
  const held = view.contains(document.activeElement) ? named(document.activeElement.closest("button")) : null;
  view.innerHTML = html;
  syncClock();
  keepRail(rail);
  if (changes && fresh) view.querySelector(".fresh-ms").textContent = fresh;
  // What was pressed keeps the keyboard, wherever its card went.
  if (held) focusAgain(held);
  const counts = changes ? showChanges(before, history) : { fresh: 0, moved: 0 };
  return { ...counts, known: response.headers.get("modiste-knows") !== "no" };
}

// A button by what it does and with what: the list may be drawn anew under it.
function named(button) {
  const article = button?.closest("[data-article]")?.dataset.article;
  return article ? { kind: button.classList[0], article } : null;
}

function focusAgain({ kind, article }) {
  const of = `[data-article="${CSS.escape(article)}"]`;
  const again = view.querySelector(`button.${kind}${of}, ${of} button.${kind}`);
  (again ?? view.querySelector(`button.${kind}`))?.focus({ preventScroll: true });
}

// The rail of similar articles comes after the list: the list must not wait for it.
function keepRail(old) {
  const rail = view.querySelector("#similar");
  if (!rail) return;
  if (old && old.dataset.article === rail.dataset.article) {
    rail.replaceWith(old);
    return;
  }
  get(`/fragments/similar?article=${encodeURIComponent(rail.dataset.article)}`)
    .then((response) => response.text())
    .then((html) => (rail.querySelector(".rail-body").innerHTML = html))
    .catch(() => rail.remove());
}

async function open(changes, push = true) {
  complain("");
  const query = address(changes);
  const id = query.get("customer");
  const another = id !== customerId();
  if (another) say(`Loading ${short(id)} …`);
  try {
    const drawn = render(query);
    opening = drawn.catch(() => null);
    if ((await drawn) === null) return;
    document.title = `${short(id)} · Modiste`;
    document.getElementById("chosen").textContent = short(id);
    if (push) history.pushState({}, "", `/?${query}`);
    if (another) {
      listen();
      scrollTo({ top: 0 });
    }
    say("");
  } catch (error) {
    say("");
    complain(`${id} cannot be shown: ${error.message}`);
  }
}

const short = (id) => (id.length <= 18 ? id : `${id.slice(0, 6)}…${id.slice(-4)}`);

// ---- acts

async function tell(type, article, price) {
  const event = { event_id: crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}`, type, customer_id: customerId(), article_id: article };
  if (price) event.price = Number(price);
  if (current()?.dataset.request) event.request_id = current().dataset.request;
  own.add(event.event_id);
  // One after the other: the shop dates an act when it comes, and who looked and then bought did it in this order.
  const told = sent.then(() => get("/v1/events", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(event) }));
  sent = told.catch(() => null);
  await told;
  return event;
}

// The change that an event makes to the list of a customer; null where another was chosen meanwhile.
async function showAct(id, event) {
  for (;;) {
    await opening;
    if (customerId() !== id) return null;
    const counts = await render(new URLSearchParams([...address(), ["knows", event.event_id]]), { changes: true });
    if (counts) return counts;
  }
}

async function act(type, article, price) {
  const clicked = performance.now();
  const id = customerId();
  let counts;
  acting += 1;
  try {
    const event = await tell(type, article, price);
    const shown = turns.then(() => showAct(id, event));
    turns = shown.catch(() => null);
    counts = await shown;
  } finally {
    acting -= 1;
    if (!acting && missed) showElsewhere();
  }
  if (!counts) {
    say("");
    return;
  }
  if (!counts.known) {
    throw new Error("The event was accepted, but it is not in the customer's history yet. Does the worker run?");
  }
  const took = Math.round(performance.now() - clicked);
  showFresh(took);
  note(type === "purchase" ? "Your purchase" : "Your look", counts, took);
  statusLine.dataset.tookMs = String(took);
  say(`${type === "purchase" ? "Bought" : "Seen"}. ${took} ms from click to change: ${inWords(counts)}.`, "done");
}

async function buy(button) {
  button.setAttribute("aria-disabled", "true");
  button.textContent = "…";
  complain("");
  say("Buying …");
  if (drawer.open) drawer.close();
  try {
    await act("purchase", button.dataset.article, button.dataset.price);
  } catch (error) {
    say("");
    complain(error.message);
  } finally {
    button.removeAttribute("aria-disabled");
    button.textContent = "Buy";
  }
}

async function look(button) {
  const article = button.dataset.article;
  try {
    const response = await get(`/fragments/article?article=${encodeURIComponent(article)}`);
    showDrawer(await response.text(), button);
    if (customerId()) await act("view", article);
  } catch (error) {
    complain(error.message);
  }
}

function explain(button) {
  const because = button.closest(".rec").querySelector(".because");
  showDrawer("", button);
  drawer.querySelector(".drawer-body").replaceChildren(because.content.cloneNode(true));
}

function showDrawer(html, button) {
  if (!drawer.open) opener = named(button);
  drawer.querySelector(".drawer-body").innerHTML = html;
  drawer.scrollTop = 0;
  if (drawer.open) return;
  drawer.showModal();
  drawer.append(statusLine); // what is outside of it is silent now
}

drawer.addEventListener("close", () => {
  document.body.append(statusLine);
  // The browser gives the keyboard back to what opened it, unless that was drawn anew.
  const on = document.activeElement;
  if (opener && (on === document.body || drawer.contains(on))) focusAgain(opener);
  opener = null;
});

async function choose() {
  people.showModal();
  try {
    const response = await get("/fragments/people");
    people.querySelector(".people-body").innerHTML = await response.text();
  } catch (error) {
    people.querySelector(".people-body").textContent = `Customers cannot be listed just now: ${error.message}`;
  }
}

// ---- search, by words or by a photo

const found = document.getElementById("found");
const dropZone = document.getElementById("drop");
let searched = 0;

async function search(url, { query = "", preview = "", ...options } = {}) {
  const turn = ++searched;
  complain("");
  say("Searching …");
  try {
    const asked = new URLSearchParams({ k: 24, ...(customerId() && { customer_id: customerId() }), ...(query && { q: query }) });
    const answer = await (await get(`${url}?${asked}`, options)).json();
    const drawn = await get("/fragments/found", { method: "POST", body: JSON.stringify({ ...answer, query }) });
    const html = await drawn.text();
    if (turn !== searched) return;
    found.innerHTML = html;
    found.hidden = false;
    if (preview) {
      const yours = Object.assign(document.createElement("img"), { src: preview, alt: "Your photo", className: "yours" });
      found.querySelector(".head").prepend(yours);
    }
    found.querySelector("h2").focus({ preventScroll: true });
    scrollTo({ top: 0 });
    say("");
  } catch (error) {
    say("");
    complain(`The search failed: ${error.message}`);
  }
}

const PHOTO = /^image\/(jpeg|png|webp)$/;

function searchPhoto(file) {
  const type = file.type || "application/octet-stream";
  const send = (preview) => search("/v1/search/image", { method: "POST", headers: { "content-type": type }, body: file, preview });
  if (!PHOTO.test(type)) {
    send(""); // the shop says what it can read
    return;
  }
  const reader = new FileReader();
  reader.onload = () => send(reader.result);
  reader.onerror = () => complain("The photo cannot be read.");
  reader.readAsDataURL(file);
}

function endSearch() {
  searched += 1;
  found.hidden = true;
  found.replaceChildren();
  const field = document.getElementById("q");
  if (field) field.value = "";
  (field ?? document.getElementById("main")).focus({ preventScroll: true });
}

const carriesFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
if (dropZone) {
  document.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    dropZone.hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dropZone.hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    dropZone.hidden = true;
    if (event.dataTransfer.files[0]) searchPhoto(event.dataTransfer.files[0]);
  });
}

// ---- times

function syncClock() {
  const shown = current()?.dataset.now;
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
  if (silent()) listen();
}

// ---- what happens in the shop

const ticker = document.getElementById("ticker");
const TICKER_ROWS = 14;
const COMING_ROWS = 6;
const ROW_MS = 350; // one row at a time, so that it can be read
let coming = []; // acts that are not in the ticker yet
let paused = false;
const beats = []; // [time, count]: events a minute over the last of them

function showFresh(ms) {
  const place = view.querySelector(".fresh-ms");
  if (place) place.innerHTML = `${Math.round(ms)} <small>ms</small>`;
}

function note(who, counts, ms) {
  const row = document.createElement("li");
  row.className = "is-feed is-fresh";
  const line = document.createElement("p");
  line.textContent = `${who} changed the list: ${inWords(counts)}, ${Math.round(ms)} ms after.`;
  row.append(line);
  push([row]);
}

function push(rows) {
  ticker.prepend(...rows);
  while (ticker.children.length > TICKER_ROWS) ticker.lastChild.remove();
  document.getElementById("ticker-empty").hidden = ticker.children.length > 0;
}

function pushNext() {
  if (!paused && coming.length) push([tickerRow(coming.shift())]);
}

function pause(button) {
  paused = !paused;
  button.setAttribute("aria-pressed", String(paused));
}

const DONE = { purchase: "bought", view: "looked at", cart: "put in the cart" };

function tickerRow(act) {
  const row = document.createElement("li");
  row.dataset.event = act.event_id;
  row.className = "is-fresh";
  const thumb = document.createElement(act.picture ? "img" : "span");
  thumb.className = `thumb tone-${act.tone}`;
  if (act.picture) Object.assign(thumb, { src: act.picture, alt: "" });
  else thumb.textContent = act.initial;
  thumb.ariaHidden = "true";
  const line = document.createElement("p");
  const who = document.createElement("a");
  who.href = `/?customer=${encodeURIComponent(act.customer_id)}`;
  who.dataset.customer = act.customer_id;
  who.textContent = act.name;
  const what = document.createElement("b");
  what.textContent = act.title;
  line.append(who, ` ${DONE[act.type] ?? act.type} `, what);
  row.append(thumb, line);
  return row;
}

function showRate(count) {
  const now = Date.now();
  if (beats.length && count < beats.at(-1)[1]) beats.length = 0; // the shop began to count anew
  beats.push([now, count]);
  while (beats.length > 1 && now - beats[0][0] > 60000) beats.shift();
  const [first, before] = beats[0];
  const seconds = (now - first) / 1000;
  if (seconds > 3) document.getElementById("rate").textContent = Math.round(((count - before) / seconds) * 60).toLocaleString("en");
  const steps = beats.slice(1).map(([at, seen], i) => (seen - beats[i][1]) / Math.max(0.2, (at - beats[i][0]) / 1000));
  const most = Math.max(1, ...steps);
  const points = steps.map((step, i) => `${((i / Math.max(1, steps.length - 1)) * 120).toFixed(1)},${(23 - (step / most) * 21).toFixed(1)}`);
  document.querySelector("#spark polyline").setAttribute("points", points.join(" "));
}

const told = {
  line(state) {
    const line = document.getElementById("line");
    line.className = `line is-${state}`;
    line.textContent = state === "on" ? "live" : "reconnecting";
  },
  beat(data) {
    showRate(data.count);
  },
  acts(data) {
    showRate(data.count);
    const known = new Set([...ticker.children].map((row) => row.dataset.event));
    const rows = data.rows.filter((act) => !known.has(act.event_id));
    if (known.size || paused) coming = [...coming, ...rows.reverse()].slice(-COMING_ROWS); // of a burst the newest
    else push(rows.map(tickerRow));
  },
  async feed(data) {
    if (own.has(data.event_id)) return;
    showFresh(data.ms);
    if (acting) missed = true;
    else await showElsewhere(data.ms);
  },
};

// What the page's customer did at another till, or on another page.
async function showElsewhere(ms) {
  missed = false;
  await opening;
  try {
    const counts = await render(address(), { changes: true });
    if (counts && ms !== undefined) note(`Something ${short(customerId())} did elsewhere`, counts, ms);
  } catch {
    // The next event tries again; who acts on the page is told of what is wrong.
  }
}

function listen() {
  beats.length = 0;
  follow(customerId(), () => current()?.dataset.drawn ?? 0, told);
}

// ---- hands

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  const button = on(".buy, .view, .why, .close, #choose, #clear, #pause");
  if (button?.matches(".buy")) {
    if (button.getAttribute("aria-disabled") !== "true") buy(button);
  } else if (button?.matches(".view")) look(button);
  else if (button?.matches(".why")) explain(button);
  else if (button?.matches(".close")) button.closest("dialog").close();
  else if (button?.matches("#choose")) {
    event.preventDefault();
    choose();
  } else if (button?.matches("#clear")) endSearch();
  else if (button?.matches("#pause")) pause(button);
  else if (event.target instanceof HTMLDialogElement) event.target.close(); // beside it, on the shade
  const link = on("a[data-customer]");
  if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    if (people.open) people.close();
    open({ customer: link.dataset.customer });
  }
});
document.addEventListener("change", (event) => {
  const form = event.target.closest(".strategies");
  if (!form) return;
  const hide = form.querySelector("[type=checkbox]").checked ? "yes" : "no";
  open({ strategy: form.strategy.value, against: form.against.value, hide });
});
document.getElementById("photo")?.addEventListener("change", (event) => {
  const [file] = event.target.files;
  event.target.value = ""; // the same photo may be chosen again
  if (file) searchPhoto(file);
});
document.addEventListener("submit", (event) => {
  if (event.target.id === "search") {
    event.preventDefault();
    const words = event.target.q?.value.trim();
    if (words) search("/v1/search/text", { query: words });
    return;
  }
  if (event.target.id !== "by-id") return;
  event.preventDefault();
  const id = event.target.customer.value.trim();
  if (!id) return;
  people.close();
  open({ customer: id });
});
addEventListener("popstate", () => {
  const query = Object.fromEntries(new URLSearchParams(location.search));
  if (query.customer) open({ ...USUAL, ...query }, false);
});

syncClock();
keepRail(null);
setInterval(refreshTimes, 10000);
setInterval(pushNext, ROW_MS);
listen();
