// What an admin does to a call: hang up, transfer, listen. Each asks first what cannot be undone.

import { listen, stop } from "./listen.js";
import { byId, order, toast } from "./page.js";

// Open a dialog; true when it was left with yes.
function ask(dialog) {
  return new Promise((resolve) => {
    dialog.returnValue = "";
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    dialog.showModal();
  });
}

const nameOf = (call) => `${call.caller || "withheld"} → ${call.called || "?"} (${call.provider})`;

async function hangUp(call) {
  byId("hangup-what").textContent = nameOf(call);
  if (!(await ask(byId("hangup")))) return;
  await order(`console/calls/${encodeURIComponent(call.id)}/hangup`);
  toast("The call was ended.");
}

async function transfer(call) {
  byId("transfer-what").textContent = nameOf(call);
  if (!(await ask(byId("transfer")))) return;
  const wish = { to: byId("transfer-to").value.trim(), kind: byId("transfer-kind").value };
  await order(`console/calls/${encodeURIComponent(call.id)}/transfer`, wish);
  toast("The transfer is under way; when nobody answers, the agent still has the caller.");
}

const ACTIONS = { hangup: hangUp, transfer, listen: (call) => listen(call.id, call.caller || call.id) };

export async function act(name, call) {
  try {
    await ACTIONS[name](call);
  } catch (error) {
    toast(error.message);
  }
}

// Buttons with data-action, in rows or elsewhere; find gives the call of an id.
export function bindActions(find) {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-action]");
    if (!button) return;
    const call = find(button.closest("[data-call]")?.dataset.call);
    if (call) act(button.dataset.action, call);
  });
  byId("player-stop")?.addEventListener("click", stop);
}
