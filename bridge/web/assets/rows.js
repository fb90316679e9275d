// The rows of live calls on the page: as many as a page has, filled in place, keyed by call.
// Everything that comes from outside is set as text, never as markup.

import { byId, clock, isAdmin, root, setText } from "./page.js";

const SPEAKS = ["", "Caller", "Agent", "Both"];
const LABELS = ["State", "Carrier", "Caller", "Called", "Agent", "Speaking", "Answer", "Length"];

function cell(row, label, css) {
  const element = document.createElement("td");
  element.setAttribute("role", "cell");
  element.dataset.label = label;
  if (css) element.className = css;
  row.append(element);
  return element;
}

function piece(parent, tag, css) {
  const element = document.createElement(tag);
  if (css) element.className = css;
  parent.append(element);
  return element;
}

function newRow() {
  const tr = document.createElement("tr");
  tr.setAttribute("role", "row");
  const [state, carrier, caller, called, agent, speaking, answer, length] = LABELS.map((label, place) =>
    cell(tr, label, place > 5 ? "number" : place > 1 && place < 4 ? "phone" : ""));
  const row = { tr, key: 0, shown: {}, agent, caller, called, answer, length };
  row.dot = piece(state, "span", "dot");
  row.state = piece(state, "span");
  row.burst = piece(state, "span", "tag");
  row.carrier = piece(carrier, "span");
  row.direction = piece(carrier, "span", "muted small");
  row.link = piece(caller, "a");
  const talk = piece(speaking, "span", "talk");
  row.callerBar = piece(talk, "span", "level caller");
  row.agentBar = piece(talk, "span", "level agent");
  row.speaks = piece(talk, "span", "speaks");
  for (const bar of [row.callerBar, row.agentBar]) bar.setAttribute("aria-hidden", "true");
  if (isAdmin) {
    const actions = cell(tr, "", "actions");
    for (const [name, words] of [["listen", "Listen"], ["transfer", "Transfer"], ["hangup", "Hang up"]]) {
      const button = piece(actions, "button", `small ${name}`);
      button.type = "button";
      button.dataset.action = name;
      button.textContent = words;
      row[`${name}Button`] = button;
    }
  }
  return row;
}

const pool = [];

// Show these calls, in this order.
export function show(calls, nowS) {
  const tbody = byId("rows");
  while (pool.length < calls.length) pool.push(newRow());
  calls.forEach((call, place) => {
    const row = pool[place];
    if (row.tr.parentNode !== tbody) tbody.append(row.tr);
    if (row.key !== call.key || row.version !== call.version) fill(row, call);
    pulse(row, call, nowS);
  });
  for (let place = calls.length; place < pool.length; place += 1) {
    if (pool[place].tr.parentNode) pool[place].tr.remove();
  }
}

// The numbers that move each second, of the calls on the page only.
export function pulse(row, call, nowS) {
  const shown = row.shown;
  if (shown.state !== call.state) {
    shown.state = call.state;
    row.dot.dataset.state = call.state;
    setText(row.state, call.state);
  }
  if (shown.speaks !== call.speaks) {
    shown.speaks = call.speaks;
    setText(row.speaks, call.instance ? "" : SPEAKS[call.speaks]);
  }
  if (shown.callerLevel !== call.callerLevel) row.callerBar.dataset.level = shown.callerLevel = call.callerLevel;
  if (shown.agentLevel !== call.agentLevel) row.agentBar.dataset.level = shown.agentLevel = call.agentLevel;
  if (shown.responseMs !== call.responseMs) {
    shown.responseMs = call.responseMs;
    setText(row.answer, call.responseMs < 0 ? "–" : `${(call.responseMs / 1000).toFixed(2)} s`);
    row.answer.classList.toggle("slow", call.responseMs >= 2000);
  }
  setText(row.length, clock(nowS - call.startedAt));
}

function fill(row, call) {
  row.key = call.key;
  row.version = call.version;
  row.tr.dataset.call = call.id;
  const who = call.caller || "withheld";
  setText(row.link, who);
  row.link.href = `${root}calls/${encodeURIComponent(call.id)}`;
  setText(row.called, call.called || "–");
  setText(row.agent, call.agent || "–");
  row.agent.title = call.agent;
  setText(row.carrier, call.provider);
  setText(row.direction, call.direction === "outbound" ? " out" : "");
  setText(row.burst, call.burst ? "burst" : "");
  row.burst.hidden = !call.burst;
  row.tr.classList.toggle("elsewhere", Boolean(call.instance));
  row.tr.title = call.instance ? `Carried by ${call.instance}` : "";
  row.shown = {};
  for (const [name, words] of [["listen", "Listen to"], ["transfer", "Transfer"], ["hangup", "Hang up"]]) {
    const button = row[`${name}Button`];
    if (!button) continue;
    button.disabled = Boolean(call.instance);
    button.setAttribute("aria-label", `${words} the call of ${who}`);
  }
}
