"""Transcripts of whole sessions, replayed through the leg.

Each line of ``tests/vectors/genesys/*.jsonl`` is what comes ``from_genesys`` with the events that it means, a command
of the ``call``, ``time`` that passes, or what must then leave ``to_genesys``, in that order and nothing else. Three
ways, because a server may write its JSON in any of them: as recorded (and then our words must be right to the byte),
keys turned round and indented, and with fields that nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.events import (
    Accept,
    Audio,
    Dtmf,
    Ended,
    Event,
    Flush,
    Hangup,
    Mark,
    Offered,
    Paused,
    Play,
    PlaybackReached,
    Reject,
    Resumed,
)
from bridge.leg import LegOptions, Outgoing
from bridge.media.format import ULAW_8K
from bridge.outcome import CATALOGUE
from bridge.providers.genesys import GenesysLeg
from bridge.providers.genesys_state import State
from tests.kit.genesys import REQUEST

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "vectors" / "genesys").glob("*.jsonl"))
OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=60.0)


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def turned_round(message: Any) -> str:
    """The same object with its keys in the opposite order, all the way down, over several lines."""

    def turn(value: Any) -> Any:
        if isinstance(value, list):
            return [turn(item) for item in value]
        return {key: turn(item) for key, item in reversed(value.items())} if isinstance(value, dict) else value

    return json.dumps(turn(message), indent=2)


def with_news(message: Any) -> str:
    """The same object with fields that no page of Genesys' mentions."""

    def add(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = [name for name in value if name != "inputVariables"]  # whose names are the operator's own
        return {"x0": [None], **value, **{name: add(value[name]) for name in names}, "x1": {"type": "close"}}

    return compact(add(message))


def words(event: Event) -> str:
    """An event as the transcripts write it."""
    match event:
        case Offered(_, media_choices):
            return f"offered {', '.join(media.name for media in media_choices)}"
        case Audio(payload, position):
            return f"audio {len(payload)} bytes at {position}"
        case PlaybackReached(mark):
            return f"reached {mark}"
        case Dtmf(digit):
            return f"key {digit}"
        case Paused():
            return "paused"
        case Resumed():
            return "resumed"
        case Ended(reason, detail):
            return f"ended {reason}: {detail}"
        case _:
            raise AssertionError(f"Genesys has no {event}")


def command(line: Any) -> Any:
    """The command of a line of the call's."""
    match line["command"]:
        case "accept":
            return Accept(ULAW_8K)
        case "play":
            return Play(b"\x55" * line["audio_bytes"])
        case "mark":
            return Mark(line["name"])
        case "flush":
            return Flush()
        case "reject":
            return Reject(CATALOGUE[line["reason"]], line["detail"])
        case _:
            return Hangup(CATALOGUE[line["reason"]], line.get("detail", ""), line["outputs"])


class Replay:
    """A leg, and what it said that no line has asked for yet."""

    def __init__(self, write: Callable[[Any], str]) -> None:
        self.now = 100.0
        self.leg = GenesysLeg(OPTIONS, REQUEST, self.now)
        self.write = write
        self.out: list[Outgoing] = []

    def step(self, line: Any) -> None:
        direction = line["direction"]
        if direction == "to_genesys":
            self.expect(line)
            return
        assert self.out == []
        if direction == "call":
            self.leg.send(command(line), self.now)
        else:
            happened = self.pass_time(line["wait_s"]) if direction == "time" else self.feed(line)
            assert [words(event) for event in happened] == line["events"]
        self.out += self.leg.drain()

    def feed(self, line: Any) -> list[Event]:
        if "audio_bytes" in line:
            return self.leg.receive(b"\x01" * line["audio_bytes"], self.now)
        if "socket_closed" in line:
            return self.leg.connection_lost(line["socket_closed"], self.now)
        return self.leg.receive(self.write(line["message"]), self.now)

    def pass_time(self, seconds: float) -> list[Event]:
        happened: list[Event] = []
        end = self.now + seconds
        while (at := self.leg.next_timer()) <= end:
            self.now = max(self.now, at)
            happened += self.leg.handle_timer(self.now)
        self.now = end
        return happened

    def expect(self, line: Any) -> None:
        item = self.out.pop(0)
        if "audio_bytes" in line:
            assert isinstance(item, bytes)
            assert item == b"\x55" * line["audio_bytes"]
            return
        assert isinstance(item, str)
        if self.write is compact:
            assert item == compact(line["message"])
        else:
            assert json.loads(item) == line["message"]


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("write", [compact, turned_round, with_news])
def test_a_transcript(path: Path, write: Callable[[Any], str]) -> None:
    replay = Replay(write)
    for number, line in enumerate(map(json.loads, path.read_text("utf-8").splitlines()), start=1):
        try:
            replay.step(line)
        except AssertionError as error:
            raise AssertionError(f"{path.name}:{number}") from error
    assert replay.out == []
    assert replay.leg.state is State.OVER
    oddities = replay.leg.oddities
    assert (oddities.unknown_messages, oddities.malformed_messages, oddities.seq_gaps) == (0, 0, 0)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_cut_short_in_any_message_ends_the_session(path: Path) -> None:
    lines = list(map(json.loads, path.read_text("utf-8").splitlines()))
    for number, line in enumerate(lines):
        if "message" not in line or line["direction"] != "from_genesys":
            continue
        text = compact(line["message"])
        for size in {0, 1, len(text) // 2, len(text) - 1}:
            replay = Replay(compact)
            for earlier in lines[:number]:
                replay.step(earlier)
            over = replay.leg.lingering()
            happened = replay.leg.receive(text[:size], replay.now)
            assert [words(event).startswith("ended client_error/bad_message: ") for event in happened] == [True] * (
                not over
            )


def test_there_are_transcripts() -> None:
    assert [path.stem for path in TRANSCRIPTS] == [
        "agent_hangup",
        "agent_refuses",
        "barge_in",
        "caller_hangup",
        "full",
        "hold_lost_audio_and_429",
        "probe",
        "two_channels",
    ]
