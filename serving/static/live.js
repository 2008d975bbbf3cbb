// The line to the shop: what happens comes as server-sent events; a lost line comes back by itself.

const QUIET_MS = 25000; // the shop says something every ten seconds, if only that it is there
const AGAIN_MS = 5000;

let source = null;
let heard = 0;
let waiting = 0;

/** Follow the shop for `customer`, whose list was drawn at the count `drawn()` of events. `told` has the functions
 * acts(data), feed(data), beat(data) and line(state). */
export function follow(customer, drawn, told) {
  source?.close();
  clearTimeout(waiting);
  const line = new EventSource(`/live?${new URLSearchParams({ customer, drawn: drawn() })}`);
  source = line;
  heard = Date.now();
  const listen = (name, act) =>
    line.addEventListener(name, (message) => {
      if (line !== source) return;
      heard = Date.now();
      told.line("on");
      act(JSON.parse(message.data));
    });
  listen("beat", (data) => told.beat(data));
  listen("acts", (data) => told.acts(data));
  listen("feed", (data) => told.feed(data));
  line.onerror = () => {
    if (line !== source) return;
    told.line("off");
    // A browser tries again after a break, but gives up when it was refused.
    if (line.readyState === EventSource.CLOSED) waiting = setTimeout(() => follow(customer, drawn, told), AGAIN_MS);
  };
}

/** True where nothing came for so long that the line must be dead, whatever the browser thinks. */
export function silent() {
  return source !== null && Date.now() - heard > QUIET_MS;
}
