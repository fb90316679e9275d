// Listening to a call: frames from the server, see bridge/server/console/ear.py, to an AudioWorklet. Read-only.

import { byId, clock, root, setText, toast } from "./page.js";

const FORMAT = 3;
let current = null;

export async function listen(id, who) {
  stop();
  const mine = { abort: new AbortController(), context: new AudioContext(), startedAt: Date.now() };
  current = mine;
  byId("player-who").textContent = who;
  byId("player").hidden = false;
  mine.timer = setInterval(() => setText(byId("player-time"), clock((Date.now() - mine.startedAt) / 1000)), 500);
  let words = "The call is over.";
  try {
    await mine.context.audioWorklet.addModule(`${root}assets/listen-worklet.js`);
    const node = new AudioWorkletNode(mine.context, "two-sides", { outputChannelCount: [2] });
    const gain = mine.context.createGain();
    const volume = byId("player-volume");
    gain.gain.value = Number(volume.value);
    volume.oninput = () => { gain.gain.value = Number(volume.value); };
    node.connect(gain).connect(mine.context.destination);
    node.port.onmessage = (event) => { byId("player").dataset.played = String(event.data); };
    await mine.context.resume();
    const response = await fetch(`${root}console/calls/${encodeURIComponent(id)}/listen`, { signal: mine.abort.signal });
    if (!response.ok) {
      const answer = await response.json().catch(() => ({}));
      throw new Error(answer.error?.message ?? `The bridge answered with status ${response.status}.`);
    }
    await pump(response.body.getReader(), node.port);
  } catch (error) {
    words = error.name === "AbortError" ? "" : error.message;
  }
  if (words) toast(words);
  if (current === mine) stop();
}

// Cut the stream into frames: kind, length, payload.
async function pump(reader, port) {
  let held = new Uint8Array(0);
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const bytes = new Uint8Array(held.length + value.length);
    bytes.set(held);
    bytes.set(value, held.length);
    let at = 0;
    while (bytes.length - at >= 3) {
      const size = bytes[at + 1] * 256 + bytes[at + 2];
      if (bytes.length - at < 3 + size) break;
      const payload = bytes.slice(at + 3, at + 3 + size);
      if (bytes[at] === FORMAT) port.postMessage({ format: new TextDecoder().decode(payload) });
      else port.postMessage({ kind: bytes[at], payload }, [payload.buffer]);
      at += 3 + size;
    }
    held = bytes.slice(at);
  }
}

export function stop() {
  if (!current) return;
  current.abort.abort();
  clearInterval(current.timer);
  current.context.close();
  current = null;
  byId("player").hidden = true;
}
