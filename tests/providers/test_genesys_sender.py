"""What goes out in a session: the order, the budget of texts, and when audio may not."""

from __future__ import annotations

import math

import pytest

from bridge.leg import CloseSocket
from bridge.providers.genesys_media import Channels
from bridge.providers.genesys_sender import MAX_OWED, Sender
from tests.kit.genesys import said, spoken

NOW = 100.0
MONO = Channels(1, 0)


def sender(channels: Channels = MONO) -> Sender:
    sender = Sender("s", NOW)
    sender.begin_audio(channels, NOW)
    return sender


def empty_budget(out: Sender, left: int = 0) -> None:
    for _ in range(20 - left):
        out.say("updated", "{}", NOW)
    out.drain()


def test_messages_are_numbered_as_they_leave() -> None:
    out = Sender("", NOW)
    out.name_session("s")
    out.client_seq = 3
    out.say("opened", "{}", NOW)
    out.pong(NOW)
    out.close("done")
    assert out.drain() == [
        '{"version":"2","id":"s","type":"opened","seq":1,"clientseq":3,"parameters":{}}',
        '{"version":"2","id":"s","type":"pong","seq":2,"clientseq":3,"parameters":{}}',
        CloseSocket(1000, "done"),
    ]
    assert out.drain() == []


def test_a_text_beyond_the_budget_waits_in_order_with_the_number_it_answers() -> None:
    out = sender()
    empty_budget(out)
    out.client_seq = 7
    out.pong(NOW)
    out.client_seq = 8
    out.say("closed", "{}", NOW)
    assert out.drain() == []
    assert out.next_timer() == NOW + 0.25
    assert out.handle_timer(NOW + 0.25) == []
    assert out.handle_timer(NOW + 0.5) == []
    assert out.drain() == [
        '{"version":"2","id":"s","type":"pong","seq":21,"clientseq":7,"parameters":{}}',
        '{"version":"2","id":"s","type":"closed","seq":22,"clientseq":8,"parameters":{}}',
    ]


def test_a_flood_of_pings_cannot_fill_the_memory() -> None:
    out = sender()
    empty_budget(out)
    for _ in range(1000):
        out.pong(NOW)
    out.handle_timer(NOW + 1000)
    assert len(out.drain()) == 20
    out.handle_timer(NOW + 2000)
    assert len(out.drain()) == MAX_OWED - 20


def test_updated_is_sent_from_a_rich_budget_only() -> None:
    out = sender()
    empty_budget(out, left=9)
    out.updated(NOW)
    out.updated(NOW)
    assert said(out.drain()) == [("updated", {})]
    out.pong(NOW)
    assert said(out.drain()) == [("pong", {})]


def test_no_audio_before_the_session_is_open_and_none_after_its_end() -> None:
    out = Sender("s", NOW)
    out.play(b"\x55" * 1600, NOW)
    assert out.drain() == []
    assert out.next_timer() == math.inf
    out.begin_audio(MONO, NOW)
    out.play(b"\x55" * 1600, NOW)
    assert spoken(out.drain()) == [b"\x55" * 1600]
    out.play(b"\x55" * 160, NOW)
    out.mark("m", NOW)
    out.flush(NOW)
    out.end_audio(NOW)
    out.play(b"\x55" * 1600, NOW)
    assert out.handle_timer(NOW + 10) == []
    assert spoken(out.drain()) == []
    assert out.next_timer() == math.inf


def test_audio_goes_out_in_the_channels_that_were_agreed_on() -> None:
    out = sender(Channels(2, 1))
    out.play(bytes(range(200)) * 8, NOW)
    [message] = spoken(out.drain())
    assert message == bytes(value for value in range(200) for _ in "ab") * 8
    for _ in range(14):  # a scarce budget makes the longest messages
        out.flush(NOW)
        out.play(b"\x55" * 1600, NOW)
    out.flush(NOW)
    out.drain()
    out.play(b"\x55" * 60_000, NOW)
    assert {len(message) for message in spoken(out.drain())} == {64_000, 56_000}


def test_a_pause_of_genesys_holds_audio() -> None:
    out = sender()
    out.paused = True
    out.play(b"\x55" * 1600, NOW)
    assert out.drain() == []
    assert out.next_timer() == math.inf
    out.resume(NOW + 5)
    assert spoken(out.drain()) == [b"\x55" * 1600]


def test_told_to_wait_audio_waits() -> None:
    out = sender()
    out.back_off(3.0, NOW)
    out.play(b"\x55" * 1600, NOW)
    assert out.drain() == []
    assert out.next_timer() == NOW + 3
    out.handle_timer(NOW + 3)
    assert spoken(out.drain()) == [b"\x55" * 1600]


def test_an_interruption_empties_both_sides_and_gives_marks_back() -> None:
    out = sender()
    out.play(b"\x55" * 16_000, NOW)
    out.mark("g0:1", NOW)
    out.drain()
    out.flush(NOW + 0.1)
    assert said(out.drain()) == [("event", {"entities": [{"type": "barge_in", "data": {}}]})]
    assert out.next_timer() == NOW + 0.1
    assert out.handle_timer(NOW + 0.1) == ["g0:1"]
    assert out.next_timer() == math.inf
    out.flush(NOW + 0.2)
    assert out.drain() == [], "there is nothing left to throw away"


def test_no_new_answer_overtakes_a_barge_in_that_waits_for_the_budget() -> None:
    out = sender()
    out.play(b"\x55" * 16_000, NOW)
    empty_budget(out, left=4)
    out.flush(NOW)
    out.flush(NOW)
    out.play(b"\xaa" * 1600, NOW)
    assert out.drain() == []
    assert out.next_timer() == NOW + 0.25
    out.handle_timer(NOW + 0.25)
    barge_in, audio = out.drain()
    assert '"barge_in"' in str(barge_in)
    assert audio == b"\xaa" * 1600
    out.pong(NOW + 0.25)
    assert said(out.drain()) == [("pong", {})], "pongs have room left"


def test_an_end_forgets_a_barge_in() -> None:
    out = sender()
    out.play(b"\x55" * 16_000, NOW)
    empty_budget(out)
    out.flush(NOW)
    out.end_audio(NOW)
    out.handle_timer(NOW + 60)
    assert out.drain() == []


def test_playback_reaches_marks() -> None:
    out = sender()
    out.play(b"\x55" * 8000, NOW)
    out.mark("g0:1", NOW)
    out.playback_started(NOW + 0.1)
    assert out.next_timer() == pytest.approx(NOW + 1 + 0.1 + 0.5)
    assert out.playback_completed(NOW + 1.1) == ["g0:1"]
