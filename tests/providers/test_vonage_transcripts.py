"""Transcripts of whole streams, replayed through the leg.

Each line of ``tests/vectors/vonage/*.jsonl`` is a message ``from_vonage`` with the events that it means (``binary`` is
audio in base64, ``close`` the end of the socket), or one ``to_vonage``, which must leave the leg byte for byte as it is
written there. Texts come three ways, because JSON allows them: as recorded, keys turned round and indented, and with
fields nobody knows.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.events import Accept, Audio, Dtmf, Ended, Event, Flush, Hangup, Mark, Offered, Play, PlaybackReached
from bridge.leg import CloseSocket, LegOptions, UpgradeRequest
from bridge.outcome import CATALOGUE
from bridge.providers.vonage import State, VonageLeg

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "vectors" / "vonage").glob("*.jsonl"))
OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=60.0)
REQUEST = UpgradeRequest("/vonage/media", {})
FRAME_S = 0.02


def compact(message: Any) -> str:
    return json.dumps(message, separators=(",", ":"))


def turned_round(message: Any) -> str:
    """The same object with its keys in the opposite order, all the way down, over several lines."""

    def turn(value: Any) -> Any:
        return {key: turn(item) for key, item in reversed(value.items())} if isinstance(value, dict) else value

    return json.dumps(turn(message), indent=2)


def with_news(message: Any) -> str:
    """The same object with fields that no page of Vonage's mentions."""
    return compact({"x0": [None], **message, "x1": {"event": "websocket:disconnected"}})


def words(event: Event) -> str:
    """An event as the transcripts write it."""
    match event:
        case Offered(_, media_choices):
            return f"offered {', '.join(media.name for media in media_choices)}"
        case Audio(payload, position):
            return f"audio {len(payload)} bytes at {position}"
        case PlaybackReached(mark):
            return f"reached {mark}"
        case Dtmf(digit, duration_ms):
            return f"key {digit} for {duration_ms} ms"
        case Ended(reason, detail):
            return f"ended {reason}: {detail}"
        case _:
            raise AssertionError(f"Vonage has no {event}")


def take(leg: VonageLeg, line: Any, write: Callable[[Any], str], now: float) -> list[Event]:
    if "close" in line:
        return leg.connection_lost(line["close"], now)
    return leg.receive(base64.b64decode(line["binary"]) if "binary" in line else write(line["message"]), now)


def send(leg: VonageLeg, line: Any, now: float) -> object:
    """Give the command that must lead to this line; returns what it must be."""
    if "close" in line:
        leg.send(Hangup(CATALOGUE[line["reason"]]), now)
        return CloseSocket(line["close"], line["reason"])
    if "binary" in line:
        payload = base64.b64decode(line["binary"])
        leg.send(Play(payload), now)
        return payload
    message = line["message"]
    leg.send(Flush() if message["action"] == "clear" else Mark(message["payload"]["mark"]), now)
    return compact(message)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("write", [compact, turned_round, with_news])
def test_a_transcript(path: Path, write: Callable[[Any], str]) -> None:
    now = 100.0
    leg = VonageLeg(OPTIONS, REQUEST, now)
    out: list[object] = []
    for number, line in enumerate(map(json.loads, path.read_text("utf-8").splitlines()), start=1):
        now += FRAME_S
        where = f"{path.name}:{number}"
        if line["direction"] == "from_vonage":
            assert out == [], where
            happened = take(leg, line, write, now)
            assert [words(event) for event in happened] == line["events"], where
            if happened and isinstance(happened[0], Offered):
                leg.send(Accept(happened[0].media_choices[0]), now)
        else:
            expected = send(leg, line, now)
            out += leg.drain()
            assert out.pop(0) == expected, where
            continue
        out += leg.drain()
    assert out == []
    assert leg.state is State.OVER


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_transcript_cut_short_in_any_text_ends_the_stream(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    received = [line for line in lines if line["direction"] == "from_vonage" and "close" not in line]
    for number, line in enumerate(received):
        text = compact(line["message"]) if "message" in line else ""
        for size in {0, 1, len(text) // 2, len(text) - 1} if text else ():
            leg = VonageLeg(OPTIONS, REQUEST, 100.0)
            for earlier in received[:number]:
                take(leg, earlier, compact, 100.0)
            (ended,) = leg.receive(text[:size], 100.0)
            assert words(ended).startswith("ended client_error/bad_message: text that is no JSON object: ")
            assert isinstance(leg.drain()[-1], CloseSocket)


def test_there_are_transcripts() -> None:
    assert [path.stem for path in TRANSCRIPTS] == [
        "agent_hangup",
        "barge_in",
        "greeting_then_caller_hangup",
        "keys",
        "l16_24000",
        "l16_8000",
        "news_and_odd_sizes",
        "second_connected",
        "video_api_disconnected",
    ]
