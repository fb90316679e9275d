"""What happens in a call besides talking: the agent's tools, keys, hold, answering machines, errands of the carrier's.

Sans-I/O. An order that takes a while (a transfer, tones, the operator's HTTP tool) leaves as an effect and comes back
as ``answer_tool``; what can be done here and now is done.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, assert_never

from bridge import events, outcome
from bridge.calls import tools
from bridge.calls.base import CallLife
from bridge.calls.effects import BeginTransfer, PlayTones, RunTool, Speak, TransferPlanned, Words
from bridge.calls.hands import OPERATOR
from bridge.calls.keypad import KeySource
from bridge.calls.machine import Decision, MachineAction, MachineKind
from bridge.calls.orders import (
    EndOrder,
    HoldOrder,
    HttpOrder,
    Order,
    Refused,
    TonesOrder,
    TransferOrder,
    VoicemailOrder,
)
from bridge.calls.redact import MASK
from bridge.calls.state import Input, State
from bridge.convai.events import ToolCalled
from bridge.leg import ToneWay, TransferKind


class CallRequests(CallLife):
    """The second layer of ``bridge.calls.call.Call``."""

    __slots__ = ()

    # --- what others ask for, and what orders came to ---

    def answer_tool(self, tool_call_id: str, words: str, now: float, *, is_error: bool) -> None:
        """What a tool came to. Told to a later conversation as news, where the one that asked is gone."""
        if tool_call_id == OPERATOR:
            self._note("operator_transfer_failed" if is_error else "operator_transfer_done", words, now)
        self._tools_closed(self._hands.answer(tool_call_id, words, now - self._offered_s, is_error=is_error), now)

    def machine_verdict(self, verdict: str, now: float) -> None:
        """The carrier's machine detection has spoken."""
        if self.state is not State.ENDED:
            self._note("machine_detection", verdict[:64], now)
            self._act_on_machine(self._hands.judge.carrier(verdict, now), now)

    def key_pressed(self, digit: str, duration_ms: int, source: KeySource, now: float) -> None:
        """The caller pressed a key, says the carrier, or a listener in the audio."""
        if self.state in (State.WAITING, State.ADMITTING):  # the rules of the call's route are not known yet
            self._hands.key_unread(duration_ms, now - self._offered_s)
        elif self.state is not State.ENDED:
            self._hands.key_pressed(digit, duration_ms, now - self._offered_s, now, source)
            self._tell_digits()

    def put_on_hold(self, on: bool, now: float) -> bool:
        """Put the caller on hold, or take them back; False = not now."""
        if self.state is not State.ACTIVE or self.downlink is None:
            return False
        if on != self.downlink.holding:
            self._uplink.mute(on)
            if on:
                self.downlink.hold(self._options.hold_audio, now)
            else:
                self.downlink.resume(now)
            self._note("hold" if on else "unhold", "", now)
        return True

    def hand_on(self, parameters: Mapping[str, Any], now: float) -> str:
        """The operator hands the caller on, with the parameters and by the rules of the agents' own tool.

        Empty = it is under way, and a step of the record will say what it came to; else why not.
        """
        if self.state is not State.ACTIVE or self._errands.may_leave:
            return tools.transfer_failed(tools.ToolFailure.NOT_NOW)
        order = self._hands.read_operators(parameters)
        if not isinstance(order, TransferOrder):
            return order.words if isinstance(order, Refused) else tools.transfer_failed(tools.ToolFailure.NOT_NOW)
        self._note("operator_transfer", order.kind.value, now)
        self._carry_out(order, OPERATOR, now)
        return ""

    def handed_over(self, detail: str, now: float) -> None:
        """The caller is with somebody else: this call is done."""
        self._end(Input.FAILED, outcome.TRANSFERRED, detail, now)

    # --- errands of the carrier's ---

    def let_leave(self, return_s: float) -> None:
        """The carrier is about to end its stream for an errand of ours; another one must come by then."""
        self._errands.let_leave(return_s)

    def stayed(self, now: float) -> None:
        """The errand came to nothing. If the stream has gone all the same, then because the caller has."""
        if self._errands.is_away:
            self._end(Input.LEG_ENDED, outcome.CALLER_HANGUP, "during an errand of the carrier's", now)
        self._errands.back()

    # --- what the agent asks for ---

    def _on_tool(self, called: ToolCalled, at_s: float, now: float) -> None:
        order = self._hands.read(called, at_s, now, talking=self.state is State.ACTIVE and not self._errands.may_leave)
        if order is None:
            return
        self.turns.tool_open(at_s)
        self._note("tool_refused" if isinstance(order, Refused) else "tool_accepted", called.name[:64], now)
        self._carry_out(order, called.call_id, now)

    def _carry_out(self, order: Order, tool_call_id: str, now: float) -> None:
        match order:
            case Refused(words):
                self.answer_tool(tool_call_id, words, now, is_error=True)
            case TransferOrder(kind=TransferKind.FLOW):
                self.answer_tool(tool_call_id, tools.TRANSFERRING, now, is_error=False)
                self.outputs |= {"transfer_to": order.target, "transfer_reason": order.reason}
                self._effects.append(TransferPlanned(order.target))
                self._wind_up(Input.AGENT_DONE, outcome.TRANSFERRED, "", now)
            case TransferOrder():
                if order.kind is TransferKind.WARM and order.client_message:
                    self._effects.append(Speak(Words.GIVEN, order.client_message))
                self._effects.append(BeginTransfer(order, tool_call_id))
            case TonesOrder(digits):
                self._press(digits, tool_call_id, now)
            case EndOrder(reason, message):
                self.answer_tool(tool_call_id, tools.ENDING, now, is_error=False)
                speech = Speak(Words.GIVEN, message) if message else None
                self._wind_up(Input.AGENT_DONE, outcome.AGENT_HANGUP, _NUMBER.sub(MASK, reason), now, speech)
            case VoicemailOrder(reason):
                decision = self._hands.judge.agent(reason, now)
                self.answer_tool(tool_call_id, tools.NOTED, now, is_error=False)
                self._act_on_machine(decision, now)
            case HoldOrder(on):
                words = _HOLD_WORDS[on, self.downlink is not None and self.downlink.holding]
                self.answer_tool(tool_call_id, words, now, is_error=False)
                self.put_on_hold(on, now)
            case HttpOrder():
                self._effects.append(RunTool(order, tool_call_id))
            case _:
                assert_never(order)

    def _press(self, digits: str, tool_call_id: str, now: float) -> None:
        """Keypad tones, by the carrier's way."""
        if self._options.abilities.tones is ToneWay.LEG:
            self.leg.send(events.SendDtmf(digits), now)
            self.answer_tool(tool_call_id, tools.PRESSED, now, is_error=False)
        else:
            self._effects.append(PlayTones(digits, tool_call_id))

    def _act_on_machine(self, decision: Decision | None, now: float) -> None:
        """Act on what is known of who has answered."""
        if decision is None or self.state in (State.DRAINING, State.ENDED):
            return
        if decision.action is MachineAction.LEAVE_MESSAGE and self.state in _NO_WAY_YET:
            self._machine = decision
            return
        sources = " and ".join(source.value for source in decision.sources)
        self._note("answered_by", f"{decision.kind.value}, says the {sources}: {decision.action.value}", now)
        reason = outcome.FAX if decision.kind is MachineKind.FAX else outcome.VOICEMAIL
        if decision.action is MachineAction.HANG_UP:
            self._end(Input.FAILED, reason, "", now)
        elif decision.action is MachineAction.LEAVE_MESSAGE:
            self._cut(now)  # whatever the agent was saying is not for a machine
            step = Input.AGENT_DONE if self.state is State.ACTIVE else Input.GAVE_UP
            self._wind_up(step, reason, "", now, Speak(Words.VOICEMAIL, self._options.machine.message))


_NUMBER = re.compile(r"\d(?:[ ().-]{0,2}\d){3,}")
"""What an agent gives as its reason goes into the log and to the carrier, where no numbers belong."""

_HOLD_WORDS = {
    (True, False): tools.ON_HOLD,
    (True, True): tools.ALREADY_ON_HOLD,
    (False, True): tools.OFF_HOLD,
    (False, False): tools.NOT_ON_HOLD,
}
"""The answer by what is asked for, and whether the caller is on hold."""

_NO_WAY_YET = (State.WAITING, State.ADMITTING, State.QUEUED)
"""States in which nothing can be said to whoever has answered."""
