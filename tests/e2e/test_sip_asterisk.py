"""Asterisk, an exchange that others made, against a bridge that listens: calls both ways, keys, hold, transfers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.calls.record import CallRecord
from bridge.media.tones import dominant_frequencies
from bridge.simulators.agent_scenarios import CallTools, Close, EndCall, Say, Scenario, ToolCall, Wait
from bridge.simulators.genesys_person import Hold
from bridge.simulators.sip_phone import SipPhoneOptions, call_sip
from bridge.simulators.twilio_line import HangUp, Silence, Speak
from tests.e2e.test_sip_calls import share_heard
from tests.kit.asterisk import (
    BUSY,
    EARLY,
    LISTENER,
    PASSWORD,
    PERSON,
    SILENT,
    USERNAME,
    needs_asterisk,
    running_asterisk,
    tls_files,
)
from tests.kit.server import Start
from tests.kit.sip import CALLER, OURS, SipBridge, start_sip

pytestmark = [pytest.mark.e2e, needs_asterisk]

LISTEN = Scenario(name="listen")
TONE = Scenario(name="tone", steps=(Say(tone_hz=1000.0, duration_ms=2000, speed=0), EndCall(), Close()))


def loudest(heard: bytes, from_ms: int, to_ms: int) -> float:
    """The loudest tone of a piece of what was recorded, in Hz; 0 = silence."""
    peaks = dominant_frequencies(heard[16 * from_ms : 16 * to_ms], 8000)
    return peaks[0].frequency_hz if peaks else 0.0


def asks_for(tool_name: str, *then: Any, **parameters: str) -> Scenario:
    """An agent that greets, calls a tool, waits for it no longer than four seconds, and says good-bye."""
    call = CallTools(calls=(ToolCall(tool_name=tool_name, parameters=dict(parameters)),), timeout_ms=4000)
    good_bye = (Say(tone_hz=1500.0, duration_ms=500, speed=0), EndCall(), Close())
    return Scenario(name="tool", steps=(Say(duration_ms=400, speed=0), call, *then, *good_bye))


async def only_record(bridge: SipBridge) -> CallRecord:
    """The record of the only call."""
    [record] = await bridge.at.records()
    return record


# --- calls to the bridge ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transport", "endpoint"),
    [("udp", "bridge-udp"), ("tcp", "bridge-tcp"), ("tls", "bridge-tls"), ("udp", "bridge-alaw")],
)
async def test_a_tone_comes_back_from_an_echo(start: Start, tmp_path: Path, transport: str, endpoint: str) -> None:
    authority, tls = tls_files(tmp_path)
    bridge = await start_sip(start, **tls)
    async with running_asterisk(tmp_path, authority=authority) as asterisk:
        port = tls["SIP_TLS_PORT"] if transport == "tls" else bridge.ports.signalling
        await asterisk.call(f"sip:{OURS}@127.0.0.1:{port};transport={transport}", "tone", endpoint)
        assert await bridge.ended() == ["success/caller_hangup"]
        await asterisk.idle()
        assert loudest(asterisk.heard("tone"), 1500, 2300) == pytest.approx(1000, abs=5)
    record = await only_record(bridge)
    assert record.carrier_format == ("alaw_8000" if endpoint == "bridge-alaw" else "ulaw_8000")
    assert record.media["packets_refused"] == record.media["packets_malformed"] == 0


@pytest.mark.parametrize("endpoint", ["bridge-udp", "bridge-info"])
async def test_keys_reach_the_record(start: Start, tmp_path: Path, endpoint: str) -> None:
    bridge = await start_sip(start, LISTEN)
    async with running_asterisk(tmp_path) as asterisk:
        await asterisk.call(bridge.ports.uri(), "keys", endpoint)
        assert await bridge.ended() == ["success/caller_hangup"]
    assert [key.digit for key in (await only_record(bridge)).journal.digits] == ["4", "2", "*", "#"]


async def test_keys_of_the_agent_reach_it(start: Start, tmp_path: Path) -> None:
    agent = asks_for("play_keypad_touch_tone", Wait(ms=2500), dtmf_tones="42w#", reason="menu")
    bridge = await start_sip(start, agent)
    async with running_asterisk(tmp_path) as asterisk:
        await asterisk.call(bridge.ports.uri(), "listener")
        assert await bridge.ended() == ["success/agent_hangup"]
        await asterisk.idle()
        assert [key["Digit"] for key in asterisk.happened("DTMFEnd", Direction="Received")] == ["4", "2", "#"]


@pytest.mark.parametrize("number", [OURS, OURS[1:]], ids=["through", "direct_media"])
async def test_a_caller_behind_it_holds_and_resumes(start: Start, tmp_path: Path, number: str) -> None:
    bridge = await start_sip(start, SIP_RTP_TIMEOUT_S="1")
    async with running_asterisk(tmp_path, bridge=bridge.ports.address) as asterisk:
        actions = (Silence(ms=500), Hold(ms=2000), Silence(ms=300), Speak(clip="caller_thanks"), Silence(ms=2500))
        result = await call_sip(
            SipPhoneOptions(to=asterisk.uri(number), caller=CALLER, actions=(*actions, HangUp()), max_duration_s=30.0)
        )
        assert (result.status, result.ended_by, result.holds) == (200, "caller", 1), result.to_text()
        assert share_heard("caller_thanks", bytes(result.heard)) > 0.8, "both directions are open again"
        assert await bridge.ended() == ["success/caller_hangup"], "no audio is no fault while on hold"
        await asterisk.idle()
    offers = asterisk.log().count("INVITE sip:bridge@")
    assert offers >= (5 if number == OURS[1:] else 2), "re-INVITEs: hold, resume, and where audio goes directly"


async def test_it_knows_the_password_and_probes(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start, LISTEN, BRIDGE_AUTH="on", SIP_USERNAME=USERNAME, SIP_PASSWORD=PASSWORD)
    async with running_asterisk(tmp_path, bridge=bridge.ports.address) as asterisk:
        await asterisk.wait("ContactStatus", ContactStatus="Reachable")
        await asterisk.call(bridge.ports.uri(), "keys")
        assert await bridge.ended() == ["success/caller_hangup"]
    assert bridge.at.logged("sip_request_refused") == []


async def test_a_wrong_password_is_tried_once(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start, LISTEN, BRIDGE_AUTH="on", SIP_USERNAME=USERNAME, SIP_PASSWORD="another")
    async with running_asterisk(tmp_path) as asterisk:
        await asterisk.call(bridge.ports.uri(), "keys")
        await asterisk.wait("OriginateResponse", Response="Failure")
    assert [line["reason"] for line in bridge.at.logged("sip_request_refused")] == ["wrong_credentials"]
    assert bridge.at.logged("sip_source_banned") == []


# --- calls of the bridge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_it_takes_a_call_of_the_bridge(start: Start, tmp_path: Path, transport: str) -> None:
    authority, tls = tls_files(tmp_path)
    async with running_asterisk(tmp_path, asks_password=True, authority=authority) as asterisk:
        bridge = await start_sip(start, TONE, **tls, **asterisk.placing(transport))
        answer = await bridge.place(LISTENER)
        assert answer.status_code == 201, answer.text
        assert await bridge.ended() == ["success/agent_hangup"]
        await asterisk.idle()
        assert loudest(asterisk.heard("listener"), 300, 1500) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize(
    ("number", "end", "steps"),
    [
        (BUSY, "client_error/line_busy", ["carrier_busy"]),
        (SILENT, "client_error/no_answer", ["carrier_ringing", "carrier_no-answer"]),
        (EARLY, "success/agent_hangup", []),
    ],
    ids=["busy", "nobody", "early_media"],
)
async def test_how_calls_to_it_go(start: Start, tmp_path: Path, number: str, end: str, steps: list[str]) -> None:
    async with running_asterisk(tmp_path) as asterisk:
        bridge = await start_sip(start, TONE, **asterisk.placing())
        answer = await bridge.place(number, ring_timeout_s=4)
        assert answer.status_code == 201, answer.text
        assert await bridge.ended() == [end]
        await asterisk.idle()
        if number == EARLY:
            heard = asterisk.heard("listener")
            assert len(heard) / 16 == pytest.approx(2000, abs=100), "the greeting waited for the answer"
    record = await only_record(bridge)
    assert not steps or [step.event for step in record.journal.steps] == steps


# --- transfers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [PERSON, BUSY, SILENT], ids=["answers", "busy", "rings"])
async def test_a_transfer_by_refer(start: Start, tmp_path: Path, number: str) -> None:
    agent = asks_for("transfer_to_number", transfer_number=number, transfer_type="sip_refer", reason="a person")
    bridge = await start_sip(start, agent, TRANSFER_ALLOW="+4930*", SIP_RTP_TIMEOUT_S="1")
    async with running_asterisk(tmp_path, bridge=bridge.ports.address) as asterisk:
        await asterisk.originate("Local/listener@people/n", "exchange", OURS)
        end = "success/transferred" if number == PERSON else "success/agent_hangup"
        assert await bridge.ended() == [end]
        if number == PERSON:
            await asyncio.sleep(1.5)
            await asterisk.action("Hangup", Channel="/^Local/")
            await asterisk.idle()
            assert loudest(asterisk.heard("person"), 300, 1000) == pytest.approx(300, abs=5), "who was the caller"
            assert loudest(asterisk.heard("listener")[-16_000:], 0, 700) == pytest.approx(700, abs=5)
    record = await only_record(bridge)
    [tool] = record.journal.tools
    assert tool.is_error == (number == BUSY)
    if number == SILENT:
        assert (record.ended_at or 0) - record.created_at > 3.5, "silence is no fault while it rings"
        assert "answered" not in tool.result
