// The page of a call: its recording, picture and transcript follow each other.

import { act, bindActions } from "./actions.js";
import { byId } from "./page.js";

const call = byId("call");
const audio = byId("audio");
const stage = byId("stage");
const head = byId("playhead");
const audioAtS = Number(call.dataset.audioAt);
const turns = [...document.querySelectorAll("#turns > li")];
let current = null;

function follow() {
  const atS = audio.currentTime + audioAtS;
  const lengthS = Number(stage.dataset.length) || audio.duration + audioAtS;
  const [left, right] = [Number(stage.dataset.left), Number(stage.dataset.right)];
  head.hidden = !Number.isFinite(lengthS);
  head.style.left = `${100 * (left + (right - left) * Math.min(1, atS / lengthS))}%`;
  const turn = turns.findLast((each) => Number(each.dataset.at) <= atS + 0.05) ?? null;
  if (turn === current) return;
  current?.removeAttribute("aria-current");
  current = turn;
  if (!turn) return;
  turn.setAttribute("aria-current", "true");
  const list = byId("turns");
  if (!audio.paused) list.scrollTop = turn.offsetTop - list.offsetTop - list.clientHeight / 3;
}

function seek(atS) {
  audio.currentTime = Math.max(0, atS - audioAtS);
  audio.play().catch(() => {});
}

if (audio) {
  for (const event of ["timeupdate", "seeked", "loadedmetadata"]) audio.addEventListener(event, follow);
  byId("turns")?.addEventListener("click", (event) => {
    const turn = event.target.closest("li[data-at]");
    if (turn && !event.target.closest("details") && !String(getSelection())) seek(Number(turn.dataset.at));
  });
  stage.addEventListener("click", (event) => {
    const box = stage.getBoundingClientRect();
    const [left, right] = [Number(stage.dataset.left), Number(stage.dataset.right)];
    const share = ((event.clientX - box.left) / box.width - left) / (right - left);
    const lengthS = Number(stage.dataset.length) || audio.duration + audioAtS;
    if (share >= 0 && share <= 1 && Number.isFinite(lengthS)) seek(share * lengthS);
  });
}

// Not every call has SIP messages, nor does every version keep them.
byId("ladder-image")?.addEventListener("error", () => { byId("ladder-card").hidden = true; });

const { call: id, caller, called, provider } = call.dataset;
bindActions((wanted) => (wanted === id ? { id, caller, called, provider } : undefined));
export { act };
