"""What the agent simulator does in a conversation: small steps, and the named scenarios made of them.

Data only; ``agent_protocol`` carries it out. A scenario of one's own is a JSON file with the same fields (``bridge
agent --script FILE``), each step an object whose ``step`` names its kind:

    {"name": "mine", "steps": [{"step": "say", "text": "Hello.", "clip": "agent_greeting"},
                               {"step": "wait_for_caller"}, {"step": "close", "code": 1000}]}
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from bridge.errors import ConfigError
from bridge.simulators.speech import CLIP_TEXTS, load_clip

ENDLESS_MS = -1
"""Duration of a tone that goes on until the conversation ends."""

DEFAULT_SPEED = -1.0
"""Take the speed of the simulator's options."""

SENDABLE_CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})
"""Close codes that a WebSocket endpoint may put into a close frame (RFC 6455 section 7.4, IANA registry)."""

_ABNORMAL = 1006
"""Never on the wire (RFC 6455 section 7.4.1): the connection is broken off instead."""


class Step(msgspec.Struct, frozen=True, tag_field="step", kw_only=True, forbid_unknown_fields=True):
    """Base of all steps."""


class Say(Step, frozen=True, tag="say"):
    """Begin a turn of the agent: ``agent_response`` with the text, then its audio. Done when all audio is sent."""

    text: str = ""
    clip: str = ""
    """Name of a clip or path of a WAV file; empty = a tone."""
    tone_hz: float = 440.0
    duration_ms: int = 1000
    """Of the tone; ``ENDLESS_MS`` = until the conversation ends."""
    speed: float = DEFAULT_SPEED
    """How many times faster than real time the audio is sent; 0 = all at once."""
    odd_chunks: bool = False
    """Cut the audio into prime numbers of bytes."""


class Wait(Step, frozen=True, tag="wait"):
    """Let time pass."""

    ms: int


class WaitForCaller(Step, frozen=True, tag="wait_for_caller"):
    """Wait until the caller has spoken and fallen silent (or sent a ``user_message``), then send the transcript."""

    text: str = "..."
    """What the simulated recogniser understood."""


class WaitPlayed(Step, frozen=True, tag="wait_played"):
    """Wait until the agent's own speech has been played, by the real-time estimate."""


class Interrupt(Step, frozen=True, tag="interrupt"):
    """Send an interruption now, as if the caller had spoken, and then late audio of the interrupted turn."""

    stale_ms: int = 300
    """How much audio of the interrupted turn comes after the interruption."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of a client tool."""

    tool_name: str
    parameters: dict[str, object] = {}


class CallTools(Step, frozen=True, tag="call_tools"):
    """Call client tools, all at once, and wait for all results."""

    calls: tuple[ToolCall, ...]
    timeout_ms: int = 5000
    """Go on without the results after that long, as an agent's ``response_timeout_secs`` would."""


class EndCall(Step, frozen=True, tag="end_call"):
    """Report the system tool ``end_call``: its request and its response. The close is a step of its own."""


class Ping(Step, frozen=True, tag="ping"):
    """Send one ping now; the next of the schedule follows an interval later."""


class Error(Step, frozen=True, tag="error"):
    """Send an ``error`` message."""

    code: int = 1011
    message: str = "Internal error"
    error_type: str = ""
    flat: bool = False
    """The shape without ``error_event``, seen in the field with quota errors."""


class Raw(Step, frozen=True, tag="raw"):
    """Send a text message as it is."""

    text: str


class RawBinary(Step, frozen=True, tag="raw_binary"):
    """Send a binary message."""

    hex: str


class Close(Step, frozen=True, tag="close"):
    """Close with a close frame."""

    code: int = 1000
    reason: str = ""


class Drop(Step, frozen=True, tag="drop"):
    """Break the TCP connection off without a close frame."""


class Stall(Step, frozen=True, tag="stall"):
    """Stop reading from the socket for a while; what comes piles up in the network."""

    ms: int


AnyStep = (
    Say
    | Wait
    | WaitForCaller
    | WaitPlayed
    | Interrupt
    | CallTools
    | EndCall
    | Ping
    | Error
    | Raw
    | RawBinary
    | Close
    | Drop
    | Stall
)


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the agent does once the conversation has begun."""

    name: str
    steps: tuple[AnyStep, ...] = ()
    """One after the other; after the last the agent only listens."""
    repeat_from: int = -1
    """Index of the step to go on with after the last; -1 = none. That part must hold a step that takes time."""
    metadata: bool = True
    """Whether the agent ever answers with ``conversation_initiation_metadata``."""
    alive: bool = True
    """Whether it pings, and gives up on a client that sends nothing."""
    echo: bool = False
    """Send the caller's audio straight back; the steps are for other things then."""
    input_format: str = ""
    """Announced ``user_input_audio_format``; empty = the options' one. May be nonsense on purpose."""
    output_format: str = ""
    refuse_status: int = 0
    """HTTP status with which the opening handshake is refused; 0 = it is accepted."""


def _clip(name: str, speed: float = DEFAULT_SPEED) -> Say:
    return Say(text=CLIP_TEXTS[name], clip=name, speed=speed)


def _tone(hz: float, duration_ms: int, speed: float = DEFAULT_SPEED, *, odd_chunks: bool = False) -> Say:
    return Say(tone_hz=hz, duration_ms=duration_ms, speed=speed, odd_chunks=odd_chunks)


_GREETING = _clip("agent_greeting")
_QUESTION = WaitForCaller(text=CLIP_TEXTS["caller_question"])
_INTERRUPTION = WaitForCaller(text=CLIP_TEXTS["caller_interruption"])
_THANKS = WaitForCaller(text=CLIP_TEXTS["caller_thanks"])
_GOODBYE = (_clip("agent_goodbye"), EndCall(), Close(code=1000))
_AT_ONCE, _REAL_TIME = 0.0, 1.0
_QUOTA_TEXT = "This request exceeds your quota limit."
"""Reason seen on the wire when a workspace is over its quota (elevenlabs/packages discussion, 2026-07)."""


def _tool(tool_name: str, **parameters: object) -> ToolCall:
    return ToolCall(tool_name=tool_name, parameters=parameters)


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="demo",
            steps=(
                _GREETING,
                _QUESTION,
                _clip("agent_answer"),
                _INTERRUPTION,
                CallTools(calls=(_tool("lookup_order", order_id="427"),)),
                _clip("agent_reply"),
                _THANKS,
                *_GOODBYE,
            ),
        ),
        Scenario(
            name="talk",
            steps=(_GREETING, _QUESTION, _clip("agent_answer"), _INTERRUPTION, _clip("agent_reply")),
            repeat_from=1,
        ),
        Scenario(name="echo", echo=True),
        Scenario(name="greet", steps=(_GREETING,)),
        Scenario(name="silent", alive=False),
        Scenario(name="mute", metadata=False, alive=False),
        Scenario(name="garbage", steps=(Raw(text="<html>not found</html>"), Wait(ms=50), RawBinary(hex="00ff10"))),
        Scenario(name="garbage_first", metadata=False, steps=(Raw(text="<html>not found</html>"),)),
        Scenario(name="unknown_format", output_format="opus_48000"),
        Scenario(
            name="error_nested",
            steps=(
                Wait(ms=50),
                Error(code=1011, error_type="unknown_websocket_crash"),
                Close(code=1011, reason="Internal error"),
            ),
        ),
        Scenario(
            name="error_flat",
            steps=(
                Wait(ms=50),
                Error(message="received 1002 (protocol error) LLM request failed", flat=True),
                Close(code=1002, reason="LLM request failed"),
            ),
        ),
        Scenario(
            name="quota",
            steps=(
                _GREETING,
                Error(message=f"received 1002 (protocol error) {_QUOTA_TEXT}", flat=True),
                Close(code=1002, reason=_QUOTA_TEXT),
            ),
        ),
        Scenario(
            name="missing_variable",
            steps=(
                Error(
                    code=1008,
                    error_type="missing_dynamic_variable",
                    message="Missing required dynamic variables in first message: {'customer_name'}",
                ),
                Close(code=1008, reason="Missing required dynamic variables in first message: {'customer_name'}"),
            ),
        ),
        Scenario(
            name="override_error",
            steps=(
                Error(
                    code=1008,
                    error_type="override_error",
                    message="Override for field 'first_message' is not allowed by config.",
                ),
                Close(code=1008, reason="Override for field 'first_message' is not allowed by config."),
            ),
        ),
        Scenario(name="burst", steps=(_tone(440.0, 30_000, _AT_ONCE),)),
        Scenario(name="odd", steps=(_tone(440.0, 3_000, odd_chunks=True),)),
        Scenario(
            name="tools",
            steps=(
                CallTools(calls=(_tool("send_dtmf", dtmf_tones="1w2#"),)),
                CallTools(calls=(_tool("send_dtmf", dtmf_tones=12),)),
                CallTools(calls=(_tool("transfer_call", destination="nobody"),)),
                CallTools(calls=(_tool("no_such_tool"),)),
                CallTools(calls=(_tool("lookup_order", order_id="1"), _tool("lookup_order", order_id="2"))),
                _clip("agent_reply"),
            ),
        ),
        Scenario(
            name="stale",
            steps=(
                _tone(400.0, 10_000, _AT_ONCE),
                Wait(ms=500),
                Interrupt(stale_ms=5_000),
                _tone(1000.0, 2_000),
            ),
        ),
        Scenario(name="endcall", steps=_GOODBYE),
    )
}
"""Every scenario that has no number in its name."""

PATTERNS = ("close_<code>_<ms>", "drop_<ms>", "stall_<ms>", "refuse_<http status>", "tone_<hz>")
"""Scenarios with numbers in their names."""

_NUMBERED = re.compile(r"(close|drop|stall|refuse|tone)_(\d{1,7})(?:_(\d{1,7}))?")


def scenario_for(name: str) -> Scenario:
    """The scenario of this name, e.g. ``demo`` or ``close_1011_2000``. Raises ``ConfigError`` for any other name."""
    if name in SCENARIOS:
        return SCENARIOS[name]
    match = _NUMBERED.fullmatch(name)
    scenario = _numbered(name, match[1], int(match[2]), match[3]) if match else None
    if scenario is None:
        known = ", ".join((*SCENARIOS, *PATTERNS))
        raise ConfigError(f"scenario {name[:60]!r} is not known; known are {known}")
    return scenario


def _numbered(name: str, kind: str, number: int, second: str | None) -> Scenario | None:
    """A scenario with numbers in its name, or None if the numbers make no sense."""
    if (second is not None) != (kind == "close"):
        return None
    if kind == "close":
        pause = Wait(ms=int(second or 0))
        if number == _ABNORMAL:
            return Scenario(name=name, steps=(pause, Drop()))
        if number in SENDABLE_CLOSE_CODES or 3000 <= number <= 4999:
            return Scenario(name=name, steps=(pause, Close(code=number, reason="as told by the scenario")))
        return None
    if kind == "drop":
        return Scenario(name=name, steps=(Wait(ms=number), Drop()))
    if kind == "stall":
        return Scenario(name=name, steps=(Stall(ms=number), _clip("agent_reply")))
    if kind == "refuse":
        return Scenario(name=name, refuse_status=number) if 400 <= number <= 599 else None
    return Scenario(name=name, steps=(_tone(number, ENDLESS_MS, _REAL_TIME),)) if number else None


def scenario_for_agent(agent_id: str, default: Scenario) -> Scenario:
    """The scenario that an agent id asks for (``sim_<name>``), otherwise the default. Raises as ``scenario_for``."""
    name = agent_id.removeprefix("sim_")
    return default if name == agent_id else scenario_for(name)


def load_script(path: Path) -> Scenario:
    """Read a scenario from a JSON file. Raises ``ConfigError`` that names the file and the mistake."""
    try:
        scenario = msgspec.json.decode(path.read_bytes(), type=Scenario)
        _check(scenario)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # of msgspec, or of a check
        raise ConfigError(f"{path}: {error}") from error
    return scenario


def _check(scenario: Scenario) -> None:
    """Raise ``ValueError`` for what would fail only in the midst of a conversation."""
    if scenario.repeat_from >= len(scenario.steps):
        raise ValueError(f"repeat_from is {scenario.repeat_from}; there are {len(scenario.steps)} steps")
    for step in scenario.steps:
        if isinstance(step, Say) and step.clip:
            load_clip(step.clip)
        elif isinstance(step, RawBinary):
            try:
                bytes.fromhex(step.hex)
            except ValueError as error:
                raise ValueError(f"hex is {step.hex[:60]!r}, which is no hexadecimal text") from error
