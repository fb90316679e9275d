// The page of health: while the doctor looks, ask now and then, and show what it has found.

import { byId, root } from "./page.js";

const EVERY_MS = 1500;

async function ask() {
  const answer = await fetch(`${root}console/doctor`, { credentials: "same-origin" }).catch(() => null);
  const state = answer?.ok ? await answer.json() : { running: true };
  if (state.running) setTimeout(ask, EVERY_MS);
  else location.replace(location.pathname);
}

if (byId("running")) setTimeout(ask, EVERY_MS);
