"""What the outbound calls of this process stand on, the operator's choices, and how refusals are worded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge import outcome
from bridge.calls.admission import Refused, Verdict
from bridge.calls.machine import MachineAction
from bridge.calls.outbound import RequestRules
from bridge.calls.outbound_request import RequestError
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.routing import Resolved
from bridge.calls.webhook_vendor import InitiationFailure
from bridge.events import CallInfo
from bridge.outcome import EndReason
from bridge.server.admission import Admission
from bridge.server.api.ports import Refusal
from bridge.server.call_tokens import CallTokens
from bridge.server.carrier_control import CarrierControl, ControlError, ControlFault
from bridge.server.chronicle import LiveSink, RecordSink
from bridge.server.shared_state import SharedState

FULL_RETRY_S = 5
"""``Retry-After`` when there is no slot: calls last minutes, but one of many ends every few seconds."""
BUSY_RETRY_S = 2
"""``Retry-After`` when the carrier wants a slower pace, which is one of calls per second."""


@dataclass(frozen=True, slots=True)
class OutboundOptions:
    """The operator's choices."""

    rules: RequestRules = RequestRules()
    answer_within_s: float = 10.0
    """How long a request to place a call is kept waiting: carriers take one call a second, and many may be asked for at
    once. Longer than the time-out of a carrier's interface and ``unknown_wait_s``, less than that of our own."""
    ring_margin_s: float = 15.0
    """After the ringing time, how long the carrier's word on it is waited for: Twilio rings 5 s longer than told."""
    media_wait_s: float = 20.0
    """From the answer to the media socket, which carriers open within a second or two. Less than a token's life."""
    unknown_wait_s: float = 3.0
    """How long a webhook may take to tell that a call was placed after all, when the request for it was not
    answered; the carrier's first one comes with the ringing."""
    verdict_wait_s: float = 120.0
    """How long a call is watched for who answered: the carrier listens for 30 s, and to the end of a greeting."""


class FailureEvents(Protocol):
    """Makes the webhook event of a call that did not come about: ``bridge.calls.webhooks``."""

    def on_initiation_failure(
        self, record: CallRecord, now: float, failure: InitiationFailure
    ) -> Sequence[OutboxEvent]:
        """The placed call failed before anybody could talk."""


class Lines(Protocol):
    """The calls of this process that have their media, as carriers' reports find them."""

    def line_over(self, call_sid: str) -> bool:
        """The carrier says that this line is over: end the session that has it. False = there is none here."""

    def machine_detected(self, call_id: str, verdict: str, action: MachineAction, message: str) -> bool:
        """The carrier says who answered; ``message`` is what to leave, empty = the operator's. False = no such
        session here."""

    def remark(self, call_sid: str, event: str) -> bool:
        """Write this into the call's record and log. False = no session here has this line."""


@dataclass(frozen=True, slots=True)
class OutboundParts:
    """The rest of the bridge, as far as outbound calls need it."""

    instance_id: str
    shared: SharedState
    admission: Admission
    tokens: CallTokens
    records: RecordSink
    live: LiveSink
    events: FailureEvents
    lines: Lines
    control: Callable[[str], CarrierControl | None]
    """The carrier's control client; None = it has no credentials, or places no calls."""
    route: Callable[[str, str, str], Resolved]
    """Carrier, our number, wanted agent (empty = by the number) -> agent and rules."""
    personalize: Callable[[CallInfo, Resolved, str], None]
    """Ask the personalization webhook about this call, if the route has one; returns at once."""
    count: Callable[[str, EndReason], None]
    """A call of this carrier ended without media: for the metrics."""


# --- refusals --------------------------------------------------------------------------------------------


def bad_request(error: RequestError) -> Refusal:
    """For a request that cannot be carried out as it is."""
    return Refusal(
        status=422 if error.is_json else 400,
        code="invalid_request" if error.is_json else "invalid_body",
        message=str(error),
        field=error.mistakes[0].field,
    )


NO_CONTROL = Refusal(
    status=503,
    code="carrier_not_set_up",
    message="provider: this bridge has no credentials to place calls there; set them, e.g. TWILIO_ACCOUNT_SID and "
    "TWILIO_AUTH_TOKEN.",
    field="provider",
)

CUT_SHORT = Refusal(
    status=502,
    code="call_over",
    message="The call was over before it was placed: the bridge shuts down, or somebody took it back.",
    stays=True,
)


def no_agent(problem: str) -> Refusal:
    """For a call that nobody would talk on."""
    return Refusal(status=422, code="no_agent", message=f"agent_id: {problem}; give one", field="agent_id")


def no_slot(verdict: Verdict) -> tuple[Refusal, EndReason]:
    """For a call that the limits do not let in now, and the end that is counted."""
    reason = verdict.reason if isinstance(verdict, Refused) else outcome.CAPACITY
    status = 503 if reason in (outcome.DRAINING, outcome.LIMITS_UNKNOWN) else 429
    refusal = Refusal(status=status, code=reason.reason, message=reason.advice, retry_after_s=FULL_RETRY_S)
    return refusal, reason


_FIELDS = {
    **dict.fromkeys((21211, 21214, 21215, 21216, 21217, 21219), "to_number"),
    **dict.fromkeys((21210, 21212, 21213, 21606), "from_number"),
}
"""Twilio's errors about numbers: not valid, not reachable, not permitted or blocked; not ours or not valid."""


def refused_by_carrier(error: ControlError) -> Refusal:
    """For a request that the carrier's control interface did not carry out."""
    code = f" (its error {error.code})" if error.code is not None else ""
    if error.fault is ControlFault.BUSY:
        return Refusal(
            status=429,
            code="carrier_busy",
            message=f"The carrier takes calls more slowly than this{code}; try again.",
            retry_after_s=BUSY_RETRY_S,
        )
    if error.fault is ControlFault.DOWN:
        return Refusal(
            status=502,
            code="carrier_down",
            message="The carrier did not answer, and nothing was heard of the call since. Should it have been placed "
            "all the same, it is hung up on as soon as the carrier reports it.",
            stays=True,
        )
    field = _FIELDS.get(error.code or 0, "")
    if field:
        message = f"{field}: the carrier does not take it{code}; see its page on this error."
        return Refusal(status=422, code="carrier_refused_number", message=message, field=field, stays=True)
    return Refusal(
        status=502,
        code="carrier_refused",
        message=f"The carrier refused the call{code}; check its credentials, its permissions and its own log.",
        stays=True,
    )
