"""Transcripts of whole streams, replayed through the leg.

Each line of ``tests/vectors/twilio/*.jsonl`` is a message ``from_twilio`` with the events that it means, or one
``to_twilio``, which must leave the leg byte for byte as it is written there. Three ways, because JSON allows
them and a server may use them any day: as recorded, keys turned round and indented, and with fields nobody knows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, assert_never

import pytest

from bridge.errors import LocalError
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
    Resumed,
    TransferResult,
)
from bridge.leg import CloseSocket, LegOptions
from bridge.outcome import CATALOGUE
from bridge.providers.twilio import State, TwilioLeg
from tests.kit.legs import REQUEST

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "vectors" / "twilio").glob("*.jsonl"))
OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=60.0)
FRAME_S = 0.02


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def turned_round(message: Any) -> str:
    """The same object with its keys in the opposite order, all the way down, over several lines."""

    def turn(value: Any) -> Any:
        return {key: turn(item) for key, item in reversed(value.items())} if isinstance(value, dict) else value

    return json.dumps(turn(message), indent=2)


def with_news(message: Any) -> str:
    """The same object with fields that no page of Twilio's mentions."""

    def add(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {"x0": [None], **{key: add(item) for key, item in value.items()}, "x1": {"event": "stop"}}

    changed = add(message)
    if "start" in changed:  # the one object whose values are the operator's own
        changed["start"]["customParameters"] = message["start"]["customParameters"]
    return compact(changed)


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
        case Ended(reason, detail):
            return f"ended {reason}: {detail}"
        case Paused() | Resumed() | TransferResult():
            raise AssertionError(f"Twilio has no {event}")
        case _:
            assert_never(event)


def send(leg: TwilioLeg, line: Any, now: float) -> None:
    """Give the command that must lead to this line; what the leg said of its own accord is there already."""
    message = line.get("message")
    if message is None:
        leg.send(Hangup(CATALOGUE[line["reason"]]), now)
    elif message["event"] == "media":
        leg.send(Play(base64.b64decode(message["media"]["payload"])), now)
    elif message["event"] == "mark":
        leg.send(Mark(message["mark"]["name"]), now)
    else:
        leg.send(Flush(), now)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("write", [compact, turned_round, with_news])
def test_a_transcript(path: Path, write: Callable[[Any], str]) -> None:
    now = 100.0
    leg = TwilioLeg(OPTIONS, REQUEST, now)
    out: list[object] = []
    for number, line in enumerate(map(json.loads, path.read_text("utf-8").splitlines()), start=1):
        now += FRAME_S
        where = f"{path.name}:{number}"
        if line["direction"] == "from_twilio":
            assert out == [], where
            happened = leg.receive(write(line["message"]), now)
            assert [words(event) for event in happened] == line["events"], where
            if happened and isinstance(happened[0], Offered):
                leg.send(Accept(happened[0].media_choices[0]), now)
            out += leg.drain()
        else:
            send(leg, line, now)
            out += leg.drain()
            expected = compact(line["message"]) if "message" in line else CloseSocket(line["close"], line["reason"])
            assert out.pop(0) == expected, where
    assert out == []
    assert leg.state is State.OVER


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_cut_short_in_any_message_ends_the_stream(path: Path) -> None:
    received = [
        line["message"]
        for line in map(json.loads, path.read_text("utf-8").splitlines())
        if line["direction"] == "from_twilio"
    ]
    for number, message in enumerate(received):
        text = compact(message)
        for size in {0, 1, len(text) // 2, len(text) - 1}:
            leg = TwilioLeg(OPTIONS, REQUEST, 100.0)
            for earlier in received[:number]:
                leg.receive(compact(earlier), 100.0)
            (ended,) = leg.receive(text[:size], 100.0)
            assert words(ended).startswith("ended client_error/bad_message: ")
            assert isinstance(leg.drain()[-1], CloseSocket)


def test_there_are_transcripts() -> None:
    assert [path.stem for path in TRANSCRIPTS] == [
        "agent_hangup",
        "barge_in",
        "greeting_then_caller_hangup",
        "keys_and_lost_audio",
        "l16_16000",
        "news_and_odd_sizes",
        "wrong_stream_sid",
    ]


def test_nothing_of_a_transcript_may_be_sent_before_the_offer_was_taken() -> None:
    leg = TwilioLeg(OPTIONS, REQUEST, 100.0)
    with pytest.raises(LocalError, match="^Flush in state waiting; Accept comes first$"):
        leg.send(Flush(), 100.0)
