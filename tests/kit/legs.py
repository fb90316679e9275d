"""A carrier that does what a test says, and what every real carrier's test must know of its wire."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.events import Audio, CallInfo, Command, Ended, Event, Hangup, Offered
from bridge.leg import CarrierSpec, LegOptions, Outgoing, UpgradeRequest
from bridge.media.format import ULAW_8K, MediaFormat
from tests.kit import genesys, twilio, vonage

OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=30.0)

REQUEST = UpgradeRequest("/fake/media", {})
"""The upgrade of a leg to which it does not matter."""


@dataclass
class FakeLeg:
    """A leg that keeps the contract and nothing else: it reports what it is told to, and writes down commands."""

    commands: list[Command] = field(default_factory=list)
    coming: list[Event] = field(default_factory=list)
    """What the next message means."""
    over: bool = False

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        happened, self.coming = ([] if self.over else self.coming), []
        self.over = self.over or any(isinstance(event, Ended) for event in happened)
        return happened

    relayed = 0
    last_payload = b""

    def set_relay(self, head: str, tail: str, sizes: range) -> None:
        self.relay_sizes = sizes

    def relay(self, message: str | bytes, now: float) -> str | None:
        return None

    def read_audio(self, message: str | bytes, now: float) -> bytes | None:
        return None

    def audio_message(self, payload: bytes) -> str | bytes | None:
        return None

    def connection_lost(self, code: int, now: float) -> list[Event]:
        return self.receive("", now)

    def send(self, command: Command, now: float) -> None:
        if not self.over:
            self.commands.append(command)
        self.over = self.over or isinstance(command, Hangup)

    def drain(self) -> list[Outgoing]:
        return []

    def next_timer(self) -> float:
        return math.inf

    def lingering(self) -> bool:
        return False

    def handle_timer(self, now: float) -> list[Event]:
        return self.receive("", now)


FAKE_SPEC = CarrierSpec(
    name="fake",
    media_paths=("/fake/media",),
    new_leg=lambda options, request, now: FakeLeg(),
    authenticate_upgrade=lambda request, context: "",
    needs_token=False,
    lead_ms=400,
    chunk_ms=100,
    max_message_bytes=1000,
)


def offer(media: MediaFormat = ULAW_8K) -> Offered:
    """The offer of a fake carrier."""
    return Offered(CallInfo(provider="fake", call_sid="F1"), (media,))


def caller_audio(payload: bytes) -> Audio:
    """Caller audio of a fake carrier."""
    return Audio(payload, 0)


@dataclass(frozen=True)
class Dialect:
    """How one carrier says the few things that every carrier says: what the conformance suite needs of it."""

    request: UpgradeRequest
    """The upgrade that opens the socket; its path is one of the carrier's."""
    opening: tuple[str | bytes, ...]
    """The messages up to and including the offer; the last one makes it."""
    audio: Callable[[bytes], str | bytes]
    """Caller audio, once offered."""
    ends: tuple[str | bytes, ...]
    """Messages with which the carrier or the caller ends a running call."""
    broken: tuple[str | bytes, ...]
    """Messages that break the carrier's protocol, once offered."""
    watches_silence: bool = True
    """Whether the leg itself ends a call of which it hears nothing."""


SIP_INVITE = (
    '{"event":"invite","call_sid":"a84b4c76e66710@pc33","trunk":"default","caller":"+15550001111",'
    '"called":"+15550002222","answers_at_once":true}'
)

DIALECTS: dict[str, Dialect] = {
    "twilio": Dialect(
        request=UpgradeRequest("/twilio/media", {}),
        opening=(twilio.CONNECTED, twilio.start({"token": "t1"})),
        audio=lambda payload: twilio.media(payload, 20),
        ends=(twilio.STOP,),
        broken=("", "{", b"\x00\x01", "[]", '{"event":"media"}', twilio.start(), twilio.dtmf("x")),
    ),
    "genesys": Dialect(
        request=genesys.REQUEST,
        opening=(genesys.opening(),),
        audio=lambda payload: payload,
        ends=(genesys.message("close", {"reason": "end"}), genesys.message("close")),
        broken=("", "{", "[]", '{"type":"ping"}', genesys.opening(), genesys.message("ping", id=genesys.ZERO_ID)),
    ),
    "vonage": Dialect(
        request=UpgradeRequest("/vonage/media?participant=pstn", {}),
        opening=(vonage.connected(),),
        audio=lambda payload: payload,
        ends=('{"event":"websocket:disconnected"}', '{"event":"websocket:hangup","reason":"normal"}'),
        broken=("", "{", "[]", "null", "1", '"websocket:connected"', vonage.connected()),
    ),
    "sip": Dialect(
        request=UpgradeRequest("", {}),
        opening=(SIP_INVITE,),
        audio=lambda payload: payload,
        ends=('{"event":"over","how":"bye"}', '{"event":"over","how":"cancelled"}'),
        broken=("", "{", "[]", "null", '{"event":"invite"}', '{"event":"dtmf"}', '{"order":"ring"}', SIP_INVITE),
        watches_silence=False,  # holds suspend it, and the media stream knows of them
    ),
}
"""One entry per carrier of the registry; the suite fails while one is missing."""
