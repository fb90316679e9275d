// The page of live calls: follows the event stream, keeps all calls, shows a page of those that are asked for.

import { bindActions } from "./actions.js";
import { banner, byId, root, setText, span } from "./page.js";
import { show } from "./rows.js";

const PER_PAGE = 50;
const SILENT_MS = 5000; // the stream says something each second while anything happens, and at least every ten
const QUIET_MS = 16000;
const HIDDEN_MS = 30000; // a page that nobody sees lets go of its connection

const calls = new Map();
const view = { page: 0, order: "new", q: "", provider: "", state: "" };
let offsetS = 0; // the server's clock against ours
let gauges = {};
let source = null;
let heardAt = 0;
let versions = 0;

const nowS = () => Date.now() / 1000 + offsetS;

function setPulse(call, [, state, speaks, callerLevel, agentLevel, responseMs]) {
  Object.assign(call, { state, speaks, callerLevel, agentLevel, responseMs });
}

function take(message) {
  offsetS = message.now - Date.now() / 1000;
  if (message.whole) calls.clear();
  for (const row of message.rows ?? []) {
    const [key, , , , , , id, provider, direction, caller, called, agent, burst, startedAt, instance] = row;
    const call = { key, id, provider, direction, caller, called, agent, burst, startedAt, instance };
    call.version = versions += 1;
    call.words = `${caller} ${called} ${agent} ${id} ${caller}${called}`.toLowerCase();
    setPulse(call, row);
    calls.set(key, call);
  }
  for (const pulse of message.pulses ?? []) {
    const call = calls.get(pulse[0]);
    if (call) setPulse(call, pulse);
  }
  for (const key of message.gone ?? []) calls.delete(key);
  if (message.gauges) gauges = { ...gauges, ...message.gauges };
}

const ORDERS = {
  new: (one, other) => other.startedAt - one.startedAt || other.key - one.key,
  old: (one, other) => one.startedAt - other.startedAt || one.key - other.key,
  slow: (one, other) => other.responseMs - one.responseMs || one.key - other.key,
};

function wanted() {
  const found = [];
  for (const call of calls.values()) {
    if (view.provider && call.provider !== view.provider) continue;
    if (view.state && call.state !== view.state) continue;
    if (view.q && !call.words.includes(view.q)) continue;
    found.push(call);
  }
  return found.sort(ORDERS[view.order]);
}

function choices(select, values) {
  const known = new Set([...select.options].map((option) => option.value));
  for (const value of [...values].sort()) {
    if (known.has(value)) continue;
    const option = document.createElement("option");
    option.value = option.textContent = value;
    select.append(option);
  }
}

function draw() {
  const found = wanted();
  const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
  view.page = Math.min(view.page, pages - 1);
  const first = view.page * PER_PAGE;
  const page = found.slice(first, first + PER_PAGE);
  show(page, nowS());
  const filtered = view.q || view.provider || view.state;
  const total = calls.size + (gauges.hidden ?? 0);
  setText(byId("count"), filtered ? `${found.length} of ${total}` : `${total}`);
  byId("empty").hidden = found.length > 0;
  setText(byId("empty"), calls.size ? "No call matches." : "No calls at the moment.");
  byId("pager").hidden = pages < 2;
  setText(byId("place"), `${first + 1}–${first + page.length} of ${found.length}`);
  byId("previous").disabled = view.page === 0;
  byId("following").disabled = view.page >= pages - 1;
}

function gauge(name, value, limit, note = "") {
  setText(byId(`g-${name}`), String(value));
  setText(byId(`g-${name}-of`), limit ? `of ${limit}` : "");
  setText(byId(`g-${name}-note`), note);
  const bar = byId(`g-${name}-bar`);
  bar.hidden = !limit;
  if (limit) { bar.max = limit; bar.high = limit * 0.9; bar.value = Math.min(value, limit); }
}

function drawGauges() {
  const most = Math.max(1, gauges.max_calls);
  setText(byId("g-active"), String(gauges.active));
  setText(byId("g-max"), String(gauges.max_calls));
  const bar = byId("g-active-bar");
  if (bar.max !== most) { bar.max = most; bar.high = most * 0.9; }
  bar.value = Math.min(gauges.active, most);
  gauge("workspace", gauges.calls, gauges.limit, gauges.limit ? "" : "no limit set");
  gauge("burst", gauges.burst, gauges.burst_cap, gauges.burst_minutes ? `${gauges.burst_minutes} min today` : "");
  gauge("waiting", gauges.waiting, 0);
  setText(byId("g-instances"), gauges.instances > 1 ? `${gauges.instances} processes` : "");
  const ready = byId("ready");
  setText(ready, gauges.draining ? "Draining" : gauges.ready ? "Ready" : "Not ready");
  ready.className = `pill ${gauges.ready ? "good" : "bad"}`;
  banner("redis", gauges.store === "redis_down" ? "Redis does not answer: only the calls of this process are shown." : "");
  banner("database", ["ok", "none"].includes(gauges.database) ? "" : "The database does not answer: records wait until it is back.");
}

const startedAt = Date.now() / 1000 - Number(byId("g-uptime").dataset.seconds ?? 0);

function hear(event) {
  heardAt = Date.now();
  take(JSON.parse(event.data));
  banner("stream", "");
  drawGauges();
  choices(byId("provider"), new Set([...calls.values()].map((call) => call.provider)));
  choices(byId("state"), new Set([...calls.values()].map((call) => call.state)));
  draw();
}

function connect() {
  if (source) return;
  heardAt = Date.now();
  source = new EventSource(`${root}console/events`);
  source.onmessage = hear;
  source.addEventListener("beat", () => { heardAt = Date.now(); });
  source.addEventListener("over", () => location.reload());
  source.onerror = async () => {
    if (source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    disconnect();
    const answer = await fetch(`${root}console/events`, { method: "HEAD" }).catch(() => null);
    if (answer?.status === 401 || answer?.status === 403) { location.reload(); return; }
    banner("stream", answer?.status === 503 ? "Too many consoles are open; this one tries again." : "The bridge does not answer; trying again.");
    setTimeout(connect, 3000);
  };
}

function disconnect() {
  source?.close();
  source = null;
}

let hiddenTimer = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(disconnect, HIDDEN_MS);
  else connect();
});

setInterval(() => {
  const silentMs = Date.now() - heardAt;
  if (source && silentMs > SILENT_MS && source.readyState !== EventSource.OPEN) {
    banner("stream", "The bridge does not answer; trying again.");
  } else if (source && silentMs > QUIET_MS) {
    banner("stream", "The bridge does not answer; trying again.");
    disconnect();
    connect();
  }
  setText(byId("g-uptime"), span(Date.now() / 1000 - startedAt));
  draw();
}, 1000);

function bindFilter() {
  const change = () => { view.page = 0; draw(); };
  byId("q").addEventListener("input", (event) => { view.q = event.target.value.trim().toLowerCase(); change(); });
  for (const name of ["provider", "state", "order"]) {
    byId(name).addEventListener("change", (event) => { view[name] = event.target.value; change(); });
  }
  byId("filter").addEventListener("submit", (event) => event.preventDefault());
  byId("previous").addEventListener("click", () => { view.page -= 1; draw(); });
  byId("following").addEventListener("click", () => { view.page += 1; draw(); });
}

bindFilter();
bindActions((id) => [...calls.values()].find((call) => call.id === id));
connect();
