"""``bridge call vonage``: one call, straight to a media socket or over the answer webhook as a real one comes.

It makes options of what the command line gives, runs the call, and sums it up for people or programs.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bridge.media.format import ULAW_8K
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.speech import write_stereo_wav
from bridge.simulators.twilio_line import DEMO_ACTIONS
from bridge.simulators.twilio_person import PersonScript
from bridge.simulators.vonage_caller import VonageCall, VonageCallOptions
from bridge.simulators.vonage_cloud import running_vonage
from bridge.simulators.vonage_cloud_options import VonageOptions
from bridge.simulators.vonage_leg import Leg
from bridge.simulators.vonage_line import check_actions
from bridge.simulators.vonage_result import intervals
from bridge.simulators.vonage_wire import Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class VonageCommand:
    """What the command line asks for: ``to`` or ``answer``, one of them."""

    to: str = ""
    """The media socket."""
    answer: str = ""
    """The answer webhook."""
    events: str = ""
    """Event webhook, with ``answer``; empty = nobody is told."""
    method: str = "GET"
    """How ``answer`` is asked."""
    rate_hz: int = 16000
    """With ``to``; otherwise the NCCO says."""
    caller: str = "+15550100"
    called: str = "+15550199"
    secret: str = field(default="", repr=False)
    """Signature secret; empty = nothing is signed."""
    application_id: str = ""
    public_url: str = ""
    """The bridge's PUBLIC_URL where it cannot be reached by that name here."""
    reach_url: str = ""
    """Where it is really reached."""
    api_port: int = 0
    """Where the simulated REST interface listens, with ``answer``; 0 = any free port."""
    people: dict[str, PersonScript] = field(default_factory=dict)
    """Who answers transfers, by number."""
    actions: tuple[AnyAction, ...] = DEMO_ACTIONS
    recording: Path | None = None
    max_duration_s: float = 120.0


@dataclass(frozen=True, slots=True)
class VonageReport:
    """What came of it."""

    succeeded: bool
    """Whether the call came about, ended in order, and broke no rule."""
    text: str
    document: dict[str, Any]

    def to_text(self) -> str:
        """For people."""
        return self.text

    def to_json(self) -> dict[str, Any]:
        """For programs: JSON values without the audio."""
        return self.document


def check(command: VonageCommand) -> None:
    """Raises ``ValueError`` that names the option that does not work."""
    if bool(command.to) == bool(command.answer):
        raise ValueError("give --to or --answer, one of them")
    if command.answer and not command.answer.startswith(("http://", "https://")):
        raise ValueError("answer must begin with http:// or https://")
    if command.method not in ("GET", "POST"):
        raise ValueError("method is GET or POST")
    check_actions(command.actions)
    if command.to:
        VonageCall(_direct(command))


async def call_vonage(command: VonageCommand) -> VonageReport:
    """Make the call, to its end. Raises ``ValueError`` as ``check`` does, ``OSError`` where it cannot listen."""
    check(command)
    if command.to:
        result = await VonageCall(_direct(command)).run()
        return VonageReport(result.succeeded, result.to_text(), result.to_json())
    return await _over_webhook(command)


def _direct(command: VonageCommand) -> VonageCallOptions:
    return VonageCallOptions(
        to=command.to,
        rate_hz=command.rate_hz,
        caller=command.caller.lstrip("+"),
        called=command.called.lstrip("+"),
        secret=command.secret,
        application_id=command.application_id,
        actions=command.actions,
        recording=command.recording,
        max_duration_s=command.max_duration_s,
    )


async def _over_webhook(command: VonageCommand) -> VonageReport:
    options = VonageOptions(
        port=command.api_port,
        signature_secret=command.secret,
        application_id=command.application_id or VonageOptions().application_id,
        event_url=command.events,
        public_url=command.public_url,
        reach_url=command.reach_url,
        people={number.lstrip("+"): script for number, script in command.people.items()},
    )
    async with running_vonage(options) as cloud:
        person = PersonScript(actions=command.actions)
        leg = cloud.incoming(
            command.caller.lstrip("+"), command.called.lstrip("+"), command.answer, person, method=command.method
        )
        with suppress(TimeoutError):  # then the cloud hangs up for all when it closes
            await cloud.wait_until(lambda: all(leg.over for leg in cloud.calls), command.max_duration_s)
    if command.recording is not None:
        await asyncio.to_thread(write_stereo_wav, command.recording, leg.said, leg.heard)
    webhooks = [f"{record.method} {record.path} {record.status}" for record in cloud.webhooks]
    requests = [f"{method} {path} {status}" for method, path, status in cloud.rest_requests]
    reached = any(leg.socket is not None for leg in cloud.calls)
    return VonageReport(
        reached and not cloud.violations,
        _text(cloud.timeline, webhooks, requests, cloud.violations),
        {
            "calls": [_leg_json(leg) for leg in cloud.calls],
            "webhooks": webhooks,
            "rest_requests": requests,
            "violations": [asdict(violation) for violation in cloud.violations],
            "timeline": [list(entry) for entry in cloud.timeline],
        },
    )


def _text(
    timeline: list[tuple[int, str, str]], webhooks: list[str], requests: list[str], violations: list[Violation]
) -> str:
    lines = [f"{at_ms / 1000:6.2f} s  {uuid[:8]}  {what}" for at_ms, uuid, what in timeline]
    lines += [f"webhook {webhook}" for webhook in webhooks]
    lines += [f"REST {request}" for request in requests]
    lines += [f"violation at {item.at_ms / 1000:.2f} s: {item.text}" for item in violations]
    return "\n".join(lines)


def _leg_json(leg: Leg) -> dict[str, Any]:
    document: dict[str, Any] = {
        "uuid": leg.uuid,
        "from": leg.caller,
        "to": leg.called,
        "direction": leg.direction,
        "status": leg.status.value,
        "ended_by": leg.ended_by,
        "actions": leg.actions,
        "words": leg.words,
        "heard_ms": ULAW_8K.duration_ms(len(leg.heard)),
        "timeline": [list(entry) for entry in leg.timeline],
    }
    if leg.socket is not None:
        playout = leg.socket.playout
        document["media"] = {
            "rate_hz": leg.socket.setup.rate_hz,
            "frames_sent": leg.socket.frames_sent,
            "frames_received": leg.socket.frames_received,
            "frame_intervals": asdict(intervals(playout.intervals_ms)),
            "gaps": [asdict(gap) for gap in playout.gaps],
            "gaps_over_40_ms": playout.long_gaps,
            "clears": len(leg.socket.clears),
            "notifies_received": leg.socket.notifies_received,
            "notifies_echoed": len(leg.socket.notified),
        }
    return document
