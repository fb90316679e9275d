"""Calls that the bridge places: what may be asked for, what is kept of it while it rings, how it can fail. Pure.

What it is not: the parser of requests (``outbound_request``) and the placing itself (``bridge.server.outbound``).

Sources: Twilio "Calls resource" (statuses, AnsweredBy), ElevenLabs docs "Call initiation failure webhooks" and
"Handle an outbound call via Twilio" (read 2026-11-21).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from bridge import outcome
from bridge.calls.machine import MachineAction
from bridge.calls.webhook_vendor import FailureReason, sip_failure_reason
from bridge.convai.messages import InitiationData
from bridge.outcome import EndReason

VERDICTS = ("human", "fax", "unknown", "machine_start", "machine_end_beep", "machine_end_silence", "machine_end_other")
"""What a carrier may say of who answered: Twilio's AnsweredBy, the vendor's names too."""
MACHINE = "machine"
"""In rules: stands for all verdicts that begin with ``machine_``."""

_SAME = {MACHINE: "machine_start", "beep_start": "machine_end_beep"}
"""Vonage's words for it."""

DetectionMode = Literal["off", "enable", "detect_message_end"]
"""Whether the carrier listens for machines; with the last it also waits for the end of the greeting."""
Action = Literal["continue", "hang_up", "leave_message"]


class MachineDetection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done about answering machines and fax."""

    mode: DetectionMode = "enable"
    """`off`; `enable`: the carrier says who answered; `detect_message_end`: it waits for the end of a machine's
    greeting, which a message needs to be recorded whole."""
    rules: dict[str, Action] = {}
    """From the verdict (`human`, `fax`, `unknown`, `machine_start`, `machine_end_beep`, `machine_end_silence`,
    `machine_end_other`, or `machine` for all four) to what follows: `continue`, `hang_up` or `leave_message`."""
    message: str = ""
    """What is left on a machine; empty = VOICEMAIL_MESSAGE."""


class OutboundRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call to place."""

    to_number: str
    """Who is called: E.164, such as `+49301234567`."""
    from_number: str = ""
    """Which number of yours calls; left out = the first of those that are set."""
    agent_id: str = ""
    """The agent; left out = the one that takes calls to `from_number`."""
    provider: str = "twilio"
    """The carrier."""
    conversation_initiation_client_data: InitiationData | None = None
    """What the agent is told before it begins; given, it takes the place of the personalization webhook."""
    ring_timeout_s: int = 0
    """How long it may ring, 1 to 600 seconds; left out = OUTBOUND_RING_S."""
    send_digits: str = ""
    """Keys to press once the other side has answered: `0-9 A-D # *`, `w` = 0.5 s and `W` = 1 s pause, up to 32."""
    machine_detection: MachineDetection | None = None
    """What is done about answering machines; left out = as set."""
    max_duration_s: int = 0
    """The carrier ends the call after so many seconds; left out = its own limit."""


@dataclass(frozen=True, slots=True)
class RequestRules:
    """The operator's choices that requests are held against."""

    providers: frozenset[str] = frozenset({"twilio"})
    """Carriers that can place calls."""
    owned_numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Our numbers by carrier, in E.164, the first of each is its default. None for a carrier = that decides which may
    be used, and requests must name one."""
    ring_s: int = 60
    detection: DetectionMode = "off"
    machine_action: MachineAction = MachineAction.CONTINUE
    """For machines without a rule in the request."""
    existing_only: bool = False
    """Whether numbers must exist by the tables of the package phonenumbers, or only have a possible length. The
    tables lag behind, and numbers for trials are in none: the carrier knows better."""


class OutboundCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A placed call as all processes know it: its webhooks may meet another than the one that placed it."""

    call_id: str
    provider: str
    to_number: str
    from_number: str
    agent_id: str
    created_at: float
    """Unix seconds."""
    ring_s: int
    initiation: InitiationData | None = None
    """As the request gave it; None = ask the personalization webhook, where there is one."""
    route: str = ""
    environment: str = ""
    branch: str = ""
    admission: str = "granted"
    is_burst: bool = False
    detection: DetectionMode = "off"
    actions: dict[str, Action] = {}
    """What follows from each verdict."""
    message: str = ""


def actions_for(detection: MachineDetection | None, rules: RequestRules) -> dict[str, Action]:
    """What follows from each verdict: the request's rules, then the operator's.

    Without a rule a person and an unknown voice are talked to, and a fax machine is hung up on unless machines are
    talked to as well: nobody is there to be left a message.
    """
    own = detection.rules if detection is not None else {}
    default: Action = rules.machine_action.value
    found: dict[str, Action] = {"human": "continue", "unknown": "continue"}
    found["fax"] = "continue" if default == "continue" else "hang_up"
    for verdict in VERDICTS:
        if verdict.startswith(f"{MACHINE}_"):
            found[verdict] = own.get(MACHINE, default)
        if verdict in own:
            found[verdict] = own[verdict]
    return found


def action_for(call: OutboundCall, verdict: str) -> MachineAction:
    """What follows from who answered; a verdict that is not known is ``unknown``."""
    known = _SAME.get(verdict, verdict)
    known = known if known in VERDICTS else "unknown"
    return MachineAction(call.actions.get(known, "continue"))


def request_digest(request: OutboundRequest) -> str:
    """The same for requests that ask for the same, however they were written."""
    return hashlib.sha256(msgspec.json.encode(request, order="deterministic")).hexdigest()


def encode_call(call: OutboundCall) -> bytes:
    """As processes share it."""
    return msgspec.json.encode(call)


_decoder = msgspec.json.Decoder(OutboundCall)


def decode_call(text: bytes) -> OutboundCall:
    """Raises ``msgspec.ValidationError`` for what is none, e.g. of another version of this program."""
    return _decoder.decode(text)


# --- status reports --------------------------------------------------------------------------------------

FINAL = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
"""Statuses that nothing follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """What a carrier's status callback says of a call."""

    call_sid: str
    status: str
    """Twilio's CallStatus."""
    sequence: int = -1
    """Order of the reports of one call as the carrier made them, from 0; -1 = not said. They arrive in any order."""
    sip_code: int = 0
    account_id: str = ""
    fields: Mapping[str, object] = field(default_factory=dict, repr=False)
    """The report whole, as the failure webhook passes it on."""

    @property
    def is_final(self) -> bool:
        """Whether the line is over."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a placed call did not come about."""

    end: EndReason
    reason: FailureReason
    """The vendor's word for it."""


_BY_STATUS = {
    "busy": Failure(outcome.LINE_BUSY, "busy"),
    "no-answer": Failure(outcome.NO_ANSWER, "no-answer"),
    "canceled": Failure(outcome.CALL_CANCELED, "unknown"),
    "completed": Failure(outcome.NO_MEDIA, "unknown"),
}
_BY_SIP_REASON: dict[FailureReason, Failure] = {
    "busy": _BY_STATUS["busy"],
    "no-answer": _BY_STATUS["no-answer"],
    "unknown": Failure(outcome.LINE_FAILED, "unknown"),
}


def failure_of(report: StatusReport) -> Failure:
    """What a final report means for a call whose media never came.

    The status goes before the SIP code (Twilio reports a declined call as ``busy`` with 487), which only tells apart
    what Twilio calls ``failed``.
    """
    return _BY_STATUS.get(report.status) or _BY_SIP_REASON[sip_failure_reason(report.sip_code)]
