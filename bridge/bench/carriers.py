"""What the bench must know of a carrier: its habits, its callers, and the far end that the floor needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs

from picows import WSListener

from bridge.bench import genesys_caller, vonage_caller
from bridge.bench.agent import TwilioWire, Wire
from bridge.bench.call import FRAME_MS, Call
from bridge.bench.caller import Caller
from bridge.bench.genesys_caller import GenesysCaller
from bridge.bench.genesys_far_end import GenesysWire
from bridge.bench.sip_caller import SipBenchCaller
from bridge.bench.vonage_caller import VonageCaller
from bridge.bench.vonage_far_end import VonageWire
from bridge.media.format import ULAW_8K, Encoding, MediaFormat

ATTEND_MS = 20
"""How often a caller that sends more rarely looks at its player."""


OPENS_PER_S = 50.0
"""Genesys sessions opened a second: the rate at which ``opened`` is measured."""


class CarrierEnd(Protocol):
    """The carrier's end of one call, besides being a ``WSListener``."""

    def tick(self, now_ns: int) -> None:
        """Send the next message of audio."""

    def attend(self, now_ns: int) -> None:
        """Look at the player; called every ``ATTEND_MS`` where frames are longer than that."""

    def hang_up(self) -> None:
        """End the call as the carrier does."""

    async def wait_closed(self) -> None:
        """Wait until the socket is gone."""

    def drop(self) -> None:
        """Let go of the socket whatever the server does."""


@dataclass(frozen=True, slots=True)
class Mode:
    """What is spoken on both sides."""

    agent: str
    """The agent's audio format."""
    carrier: MediaFormat

    @property
    def is_converting(self) -> bool:
        """Whether the formats differ."""
        return self.agent != self.carrier.name


@dataclass(frozen=True, slots=True)
class Carrier:
    """A carrier as the load plays it."""

    name: str
    modes: Mapping[str, Mode]
    frame_ms: int
    """Caller audio in one message."""
    is_raw: bool
    """Whether audio goes as bytes, not as base64 in a text."""
    head_start: int
    """Agent messages of 100 ms that go ahead of the clock at the beginning of each turn."""
    grace_s: float
    """How long after the last frame audio may still arrive before it counts as lost."""
    flush: str
    """The carrier's word for "drop what is queued"."""
    default_calls: int
    ramp_s: Callable[[int], float]
    """Seconds over which so many calls are placed, unless somebody says otherwise."""
    names_calls: bool
    """Whether the agent connection tells which call it belongs to; otherwise calls are placed one at a time."""
    path: Callable[[int], str]
    """Path of the media socket of this call."""
    headers: Callable[[int], dict[str, str]]
    """Headers of its upgrade request."""
    new_caller: Callable[[Call, bool], tuple[CarrierEnd, WSListener]]
    """One object, as the load and as picows know it; whether it holds the server to the carrier's rate limits."""
    new_far_end: Callable[[MediaFormat], Wire]
    """How the far end behind the floor speaks."""
    dial: Callable[[CarrierEnd, str], Awaitable[None]] | None = None
    """How a caller places its call at an address; None = it is a WebSocket's listener."""
    files_per_call: int = 2
    """Sockets that either end has open for a call."""


def _twilio_caller(call: Call, has_limits: bool) -> tuple[CarrierEnd, WSListener]:
    caller = Caller(call)
    return caller, caller


def _genesys_caller(call: Call, has_limits: bool) -> tuple[CarrierEnd, WSListener]:
    caller = GenesysCaller(call, has_limits=has_limits)
    return caller, caller


def _vonage_caller(call: Call, has_limits: bool) -> tuple[CarrierEnd, WSListener]:
    caller = VonageCaller(call)
    return caller, caller


def _sip_caller(call: Call, has_limits: bool) -> tuple[CarrierEnd, WSListener]:
    return SipBenchCaller(call, call.logs.rtp), WSListener()


async def _sip_dial(caller: CarrierEnd, url: str) -> None:
    assert isinstance(caller, SipBenchCaller)
    await caller.dial(url)


_ULAW_MODES = {"passthrough": Mode("ulaw_8000", ULAW_8K), "convert": Mode("pcm_16000", ULAW_8K)}
_VONAGE_MODES = {
    name: Mode("pcm_16000", MediaFormat(Encoding.L16, rate_hz))
    for name, rate_hz in (("passthrough", 16000), ("convert", 8000), ("convert-24k", 24000))
}


def call_name(index: int) -> str:
    """The agent id under which a Genesys call is placed, so that its agent connection names it."""
    return f"bench-{index}"


def called_name(target: str) -> str:
    """The agent id in the request target of a far end's socket: its ``agent_id``, or the path's last segment."""
    path, _, query = target.partition("?")
    return parse_qs(query).get("agent_id", [path.rpartition("/")[2]])[0]


TWILIO = Carrier(
    name="twilio",
    modes=_ULAW_MODES,
    frame_ms=FRAME_MS,
    is_raw=False,
    head_start=0,
    grace_s=1.0,
    flush="clear",
    default_calls=400,
    ramp_s=lambda calls: 4.0,
    names_calls=False,
    path=lambda index: "/twilio/media",
    headers=lambda index: {},
    new_caller=_twilio_caller,
    new_far_end=lambda media: TwilioWire(),
)

GENESYS = Carrier(
    name="genesys",
    modes=_ULAW_MODES,
    frame_ms=genesys_caller.FRAME_MS,
    is_raw=True,
    # Genesys takes few messages, so audio is gathered on the way. Agents speak faster than real time; the head start
    # is what they are ahead, and with it the caller must not hear a gap.
    head_start=5,
    grace_s=2.5,
    flush="barge_in",
    default_calls=200,
    ramp_s=lambda calls: calls / OPENS_PER_S,
    names_calls=True,
    path=lambda index: f"/genesys/{call_name(index)}",
    headers=genesys_caller.headers,
    new_caller=_genesys_caller,
    new_far_end=lambda media: GenesysWire(),
)

VONAGE = Carrier(
    name="vonage",
    modes=_VONAGE_MODES,
    frame_ms=FRAME_MS,
    is_raw=True,
    head_start=0,
    grace_s=1.0,
    flush="clear",
    default_calls=100,
    ramp_s=lambda calls: 4.0,
    names_calls=False,
    path=lambda index: f"/vonage/media?uuid={vonage_caller.call_uuid(index)}",
    headers=lambda index: {},
    new_caller=_vonage_caller,
    new_far_end=VonageWire,
)

SIP = Carrier(
    name="sip",
    modes={"passthrough": _ULAW_MODES["passthrough"]},
    frame_ms=FRAME_MS,
    is_raw=True,
    # Agents speak faster than real time, and a paced line needs something to pace.
    head_start=1,
    grace_s=1.0,
    flush="new audio",
    default_calls=150,
    ramp_s=lambda calls: 4.0,
    names_calls=False,
    path=lambda index: "",
    headers=lambda index: {},
    new_caller=_sip_caller,
    new_far_end=VonageWire,
    dial=_sip_dial,
    files_per_call=4,  # RTP, RTCP, the agent's connection; signalling in the load
)

CARRIERS = {carrier.name: carrier for carrier in (TWILIO, GENESYS, VONAGE, SIP)}
