// What all pages share: where they are, asking the server, saying what happened. No page has a script of its own inside.

const body = document.body;
export const root = body.dataset.root;
export const isAdmin = body.dataset.admin === "yes";

export const byId = (id) => document.getElementById(id);

export function setText(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export function span(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [minutes, hours, days] = [Math.floor(whole / 60), Math.floor(whole / 3600), Math.floor(whole / 86400)];
  if (days) return `${days} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

// One banner for what is wrong at the moment; said once when it changes, not each second.
const wrong = new Map();
export function banner(about, words) {
  if (words) wrong.set(about, words);
  else wrong.delete(about);
  const element = byId("banner");
  setText(element, [...wrong.values()].join(" "));
  element.hidden = wrong.size === 0;
}

let toastTimer = 0;
export function toast(words) {
  const element = byId("toast");
  if (!element) return;
  element.hidden = false;
  element.textContent = words;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { element.hidden = true; }, 8000);
}

// A change. Answers what the server says; throws its words where it refuses.
export async function order(path, what = {}) {
  const headers = { "Content-Type": "application/json" };
  if (body.dataset.csrf) headers["X-CSRF-Token"] = body.dataset.csrf;
  let response;
  try {
    response = await fetch(root + path, { method: "POST", headers, body: JSON.stringify(what), credentials: "same-origin" });
  } catch {
    throw new Error("The bridge does not answer.");
  }
  let answer = {};
  try { answer = await response.json(); } catch { /* an answer without words */ }
  if (response.ok) return answer;
  if (response.status === 401) { location.reload(); }
  throw new Error(answer.error?.message ?? `The bridge answered with status ${response.status}.`);
}
