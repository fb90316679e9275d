"""Listening to a call: what goes out, what must not be heard, and that slow listeners cost nothing."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bridge.media.format import ULAW_8K
from bridge.media.g711 import pcm_to_ulaw, ulaw_to_pcm
from bridge.server.api.errors import ApiError
from bridge.server.console import desk as desk_module
from bridge.server.console.desk import Desk
from bridge.server.console.ear import AGENT, CALLER, FLUSH, FORMAT, MAX_BEHIND_S, Ear, ListenStream
from bridge.server.operator_api import access_of
from tests.kit import convai, twilio
from tests.kit.audio import make_tone
from tests.kit.console import Browser
from tests.kit.offline import offline_bridge
from tests.kit.server import until
from tests.kit.sessions import Table

FRAME = bytes(range(1, 161))


def frames(stream: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(stream):
        size = int.from_bytes(stream[at + 1 : at + 3], "big")
        found.append((stream[at], stream[at + 3 : at + 3 + size]))
        at += 3 + size
    return found


def ear(*, silenced: bool = False, hide_keys: bool = False) -> Ear:
    return Ear(ULAW_8K, is_silenced=lambda: silenced, hide_keys=hide_keys)


def test_both_sides_come_as_they_are_with_the_format_first() -> None:
    listener = ear()
    listener.caller(FRAME, 0.0)
    listener.agent(FRAME[::-1], 0.0)
    listener.flush(0.0)
    taken = frames(listener.take())
    assert taken == [(FORMAT, b"ulaw_8000"), (CALLER, FRAME), (AGENT, FRAME[::-1]), (FLUSH, b"")]
    assert listener.take() == b""


def test_a_long_payload_is_cut_into_frames() -> None:
    listener = Ear(ULAW_8K, is_silenced=lambda: False, hide_keys=False)
    listener._max_bytes = 1 << 20
    listener.take()
    listener.agent(bytes(100_000), 0.0)
    assert [len(payload) for _, payload in frames(listener.take())] == [65_534, 34_466]


def test_what_must_not_be_recorded_is_not_heard_either() -> None:
    listener = ear(silenced=True)
    listener.caller(FRAME, 0.0)
    listener.agent(FRAME, 0.0)
    assert frames(listener.take())[1:] == [(CALLER, b"\xff" * 160), (AGENT, b"\xff" * 160)]


def test_tones_of_keys_are_cut_out_where_keys_are_redacted() -> None:
    listener = ear(hide_keys=True)
    row, column = ulaw_to_pcm(make_tone(770, 200, ULAW_8K)), ulaw_to_pcm(make_tone(1336, 200, ULAW_8K))
    mixed = np.frombuffer(row, "<i2") // 2 + np.frombuffer(column, "<i2") // 2
    tone = pcm_to_ulaw(mixed.astype("<i2").tobytes())
    said = make_tone(300, 400, ULAW_8K) + tone + make_tone(300, 1200, ULAW_8K)
    heard = b""
    for number in range(0, len(said), 160):
        listener.caller(said[number : number + 160], 100.0 + number / 8000)
    for kind, payload in frames(listener.take()):
        heard += payload if kind == CALLER else b""
    assert heard[:2800] == said[:2800], "what was said before is heard"
    inside = heard[3360 : 3200 + 1600 - 160]
    assert set(inside) == {0xFF}, "the tone is not"
    assert heard[8000:9600] == said[8000:9600]


def test_a_slow_listener_hears_gaps_and_fills_no_memory() -> None:
    listener = ear()
    for _ in range(1000):
        listener.agent(FRAME, 0.0)
    assert listener.dropped_bytes > 0
    assert len(listener.take()) < MAX_BEHIND_S * 8000 * 1.1
    listener.agent(FRAME, 0.0)
    assert frames(listener.take()) == [(AGENT, FRAME)]


async def test_a_listener_hears_the_call_until_it_ends_and_is_written_down() -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off")).activate()
    session, browser, overs = table.session, Browser(), []
    stream = ListenStream(session, "c9736463", still_in=lambda: True, on_over=lambda: overs.append(1))
    task = asyncio.create_task(stream({"type": "http"}, browser.receive, browser.send))
    await until(lambda: browser.said)
    session.on_message(twilio.media(FRAME))
    session.from_agent(convai.audio(FRAME, 1))
    await until(lambda: len(frames(browser.said)) >= 3)
    table.hang_up()
    async with asyncio.timeout(5.0):
        await task
    assert frames(browser.said)[:3] == [(FORMAT, b"ulaw_8000"), (CALLER, FRAME), (AGENT, FRAME)]
    assert (browser.is_over, overs, session.facts.taps) == (True, [1], ())
    assert "operator_listens" in [step.event for step in session.call.journal.steps]
    await table.settled()


async def test_the_relay_is_straight_again_when_the_listener_has_gone() -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off")).activate()
    session, browser = table.session, Browser()
    stream = ListenStream(session, "", still_in=lambda: True, on_over=lambda: None)
    task = asyncio.create_task(stream({"type": "http"}, browser.receive, browser.send))
    await until(lambda: browser.said)
    downlink = session.call.downlink
    assert downlink is not None and isinstance(downlink.tap, Ear)
    browser.is_gone.set()
    await task
    assert session.facts.taps == ()
    relayed = session.call.leg.relayed
    session.on_message(twilio.media(FRAME))
    assert session.call.leg.relayed == relayed + 1
    table.hang_up()


async def test_who_may_not_stay_is_cut_off() -> None:
    table = await Table(offline_bridge(BRIDGE_AUTH="off")).activate()
    browser = Browser()
    stream = ListenStream(table.session, "", still_in=lambda: False, on_over=lambda: None)
    await stream({"type": "http"}, browser.receive, browser.send)
    assert browser.is_over
    table.hang_up()


async def test_only_calls_of_this_process_and_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "MAX_LISTENERS", 1)
    bridge = offline_bridge(BRIDGE_AUTH="off")
    table = await Table(bridge).activate()
    desk = Desk(bridge, access_of(bridge))
    with pytest.raises(ApiError) as refused:
        desk.begin_listening("none")
    assert refused.value.info.code == "not_here"
    assert desk.begin_listening(table.session.call_id) is table.session
    with pytest.raises(ApiError) as full:
        desk.begin_listening(table.session.call_id)
    assert full.value.status == 503
    desk.listening_over()
    assert desk.begin_listening(table.session.call_id) is table.session
    table.hang_up()
