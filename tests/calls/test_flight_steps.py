"""Decisions as a table: what is written down of each, once, and how it is read again."""

from __future__ import annotations

import inspect

import msgspec
import pytest

from bridge import outcome
from bridge.calls.call import Call
from bridge.calls.flight_steps import (
    STEPS,
    Deaf,
    RecordedCall,
    plain,
    plain_options,
    read_options,
    step_arguments,
    takes_now,
)
from bridge.calls.hold import HoldAudio
from bridge.calls.http_tools import HttpTool
from bridge.calls.keypad import KeypadMode, KeypadOptions, KeySource
from bridge.calls.options import CallOptions
from bridge.calls.tools import Abilities, ToolOptions
from bridge.convai.messages import InitiationData
from bridge.leg import LegOptions, ToneWay, TransferKind
from bridge.media.format import PCM_16K
from tests.kit import convai, twilio
from tests.kit.calls import OPTIONS
from tests.kit.flights import RecordedLine

OUTSIDE = {"carrier_message", "agent_message", "relay_to_agent", "relay_to_caller", "handle_timer", "release_audio"}
"""What a driver tells a call without deciding anything; recorded as messages and timers."""
QUESTIONS = {"drain", "next_timer", "playout_timer", "audio_timer", "current_stats"}


def public(kind: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in ("conversation_id",)
    }


def test_every_decision_is_in_the_table() -> None:
    assert public(Call) - OUTSIDE - QUESTIONS == set(STEPS)


def steps_of(line: RecordedLine) -> list[tuple[str, dict[str, object]]]:
    return [(entry.name, entry.args) for entry in line.log().entries if entry.k == "step"]


def test_decisions_are_written_down_with_their_arguments() -> None:
    line = RecordedLine()
    line.activate()
    line.carrier_writable(False)
    line.agent_writable(False)
    line.call.give_speech(b"123", line.clock.now)
    line.call.listen(Deaf())
    line.call.listen(None)
    line.call.key_pressed("1", 0, KeySource.INBAND, line.clock.now)
    line.fail(outcome.OPERATOR_HANGUP, "x")
    assert steps_of(line) == [
        ("admit", {}),
        ("agent_connected", {"data": {}}),
        ("set_carrier_writable", {"writable": False}),
        ("set_agent_writable", {"writable": False}),
        ("give_speech", {"payload": 3}),
        ("listen", {"tap": True}),
        ("listen", {"tap": None}),
        ("key_pressed", {"digit": "1", "duration_ms": 0, "source": KeySource.INBAND.value}),
        ("fail", {"reason": "operator_hangup", "detail": "x"}),
    ]


def test_what_a_call_decides_by_itself_is_not_written_down() -> None:
    line = RecordedLine()
    line.activate()
    line.carrier(twilio.dtmf("1"))
    line.agent(convai.ping(1))
    line.agent_lost(1011)
    assert [name for name, _ in steps_of(line)] == ["admit", "agent_connected", "agent_lost"]


def test_a_decision_that_raises_does_not_silence_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("boom")

    line = RecordedLine()
    line.offer()
    with monkeypatch.context() as broken:
        broken.setattr("bridge.calls.hands.Hands.configure", fail)
        with pytest.raises(RuntimeError):
            line.call.configure(OPTIONS)
    line.admit()
    assert [name for name, _ in steps_of(line)] == ["configure", "admit"]


def test_reasons_formats_and_speech_come_back() -> None:
    assert step_arguments("fail", {"reason": "bug", "detail": "x"}) == {"reason": outcome.BUG, "detail": "x"}
    assert step_arguments("fail", {"reason": "bug", "detail": "x"})["reason"] is outcome.BUG
    assert step_arguments("give_speech", {"payload": 3}) == {"payload": b"\0\0\0"}
    assert step_arguments("give_speech", {"payload": None}) == {"payload": None}
    assert isinstance(step_arguments("listen", {"tap": True})["tap"], Deaf)
    assert step_arguments("listen", {"tap": None}) == {"tap": None}
    data = InitiationData(dynamic_variables={"a": 1}, user_id="u")
    assert step_arguments("agent_connected", {"data": plain(data)}) == {"data": data}
    assert plain(PCM_16K) == "pcm_16000"
    assert plain(TransferKind.WARM) == "conference"
    (taken,) = {step_arguments("take_leg", {"media": "pcm_16000"})["media"]}
    assert taken == PCM_16K


def test_whether_a_decision_is_told_the_time() -> None:
    assert takes_now("fail")
    assert not takes_now("set_agent_writable")


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("drain", {}, LookupError),
        ("fail", {"reason": "boredom"}, LookupError),
        ("fail", {"colour": 1}, LookupError),
        ("hold", {"position": "first"}, msgspec.ValidationError),
        ("take_leg", {"media": "opus"}, ValueError),
    ],
)
def test_decisions_that_cannot_be_read(name: str, args: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        step_arguments(name, args)


def test_options_come_back_without_audio_and_ways_into_other_systems() -> None:
    tool = HttpTool("lookup", "Looks up.", "https://crm.example.com/?key=secret", headers={"X-Key": "secret"})
    options = CallOptions(
        100,
        200,
        keypad=KeypadOptions(mode=KeypadMode.EACH, redact=True),
        hold_audio=HoldAudio(b"\0\0", 8000),
        tools=ToolOptions(names={"hold": ""}, http_tools={"lookup": tool}, default_kind=TransferKind.BLIND),
        abilities=Abilities(frozenset({TransferKind.WARM}), ToneWay.CONTROL),
    )
    kept = plain_options(options)
    assert "secret" not in str(kept)
    assert "hold_audio" not in kept
    back = read_options(CallOptions, kept)
    assert (back.caller_buffer_ms, back.playout_queue_ms, back.hold_audio) == (100, 200, None)
    assert (back.keypad, back.abilities) == (options.keypad, options.abilities)
    assert back.tools.http_tools["lookup"].name == "lookup"
    assert back.tools.default_kind is TransferKind.BLIND
    assert step_arguments("configure", {"options": kept})["options"] == back


def test_options_of_another_version() -> None:
    assert read_options(LegOptions, {"start_timeout_s": 1, "silence_timeout_s": 2, "wings": 2}) == LegOptions(1.0, 2.0)
    with pytest.raises(TypeError):
        read_options(LegOptions, {"start_timeout_s": 1})


def test_a_deaf_listener() -> None:
    deaf = Deaf()
    deaf.caller(b"", 0.0)
    deaf.agent(b"", 0.0)
    deaf.flush(0.0)


def test_it_is_a_call() -> None:
    assert issubclass(RecordedCall, Call)
