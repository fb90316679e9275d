"""SIPp against a bridge that listens: our scenarios, judged by SIPp's exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import Close, EndCall, Say, Scenario
from tests.kit.server import Start, until
from tests.kit.sip import API_KEY, HUMAN, OURS, start_sip
from tests.kit.sipp import call_with_sipp, needs_recordings, needs_sipp, running_sipp

pytestmark = [pytest.mark.e2e, needs_sipp]

GOODBYE = Scenario(name="goodbye", steps=(Say(duration_ms=800, speed=0), EndCall(), Close()))
SLOW = AgentOptions(scenario="echo", upgrade_delay_s=2.0)


@pytest.mark.parametrize(
    "scenario",
    [
        "uac_basic",
        "uac_delayed_offer",
        "uac_hold_resume",
        "uac_reinvite_no_offer",
        "uac_reinvite_refused",
        "uac_options",
        "uac_options_in_call",
        "uac_require_unknown",
        "uac_no_codec",
        "uac_no_dialog",
        "uac_unknown_method",
    ],
)
@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_a_scenario(start: Start, tmp_path: Path, scenario: str, transport: str) -> None:
    bridge = await start_sip(start)
    run = await call_with_sipp(scenario, tmp_path, bridge.ports.address, transport=transport, number=OURS)
    run.assert_clean()


async def test_the_answer_is_repeated_until_it_is_acknowledged(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start)
    run = await call_with_sipp("uac_lost_ack", tmp_path, bridge.ports.address, number=OURS)
    run.assert_clean()
    assert run.messages.count("CSeq: 1 INVITE\nContact: <sip:bridge") >= 3, "at once, after 0.5 s and after 1.5 s"


@pytest.mark.parametrize("transport", ["u1", "t1"])
@pytest.mark.parametrize("scenario", ["uac_cancel_trying", "uac_cancel_ringing", "uac_prack"])
async def test_a_scenario_while_the_agent_connects(start: Start, tmp_path: Path, scenario: str, transport: str) -> None:
    bridge = await start_sip(start, options=SLOW)
    run = await call_with_sipp(scenario, tmp_path, bridge.ports.address, transport=transport, number=OURS)
    run.assert_clean()


@pytest.mark.parametrize("scenario", ["uac_wait_bye", "uac_bye_crossing"])
async def test_a_scenario_in_which_the_agent_hangs_up(start: Start, tmp_path: Path, scenario: str) -> None:
    bridge = await start_sip(start, GOODBYE)
    run = await call_with_sipp(scenario, tmp_path, bridge.ports.address, number=OURS)
    run.assert_clean()


async def test_no_room(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start, BRIDGE_MAX_CALLS="1")
    async with running_sipp("uac_basic", tmp_path / "first", remote=bridge.ports.address, number=OURS) as first:
        await until(lambda: bridge.at.active == 1)
        run = await call_with_sipp("uac_refused", tmp_path / "second", bridge.ports.address, number=OURS)
        run.assert_clean()
        (await first.finished()).assert_clean()


@needs_recordings
async def test_recorded_speech_in_packets_of_30_ms(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start)
    run = await call_with_sipp("uac_audio", tmp_path, bridge.ports.address, number=OURS)
    run.assert_clean()
    await bridge.ended()
    [record] = await bridge.at.records()
    assert [key.digit for key in record.journal.digits] == ["1"]
    log = await bridge.at.agent.wait_ended()
    assert log.received_audio_bytes > 6 * 8000, "eight seconds of speech reached the agent"


@needs_recordings
async def test_recorded_keys(start: Start, tmp_path: Path) -> None:
    bridge = await start_sip(start)
    run = await call_with_sipp("uac_dtmf", tmp_path, bridge.ports.address, number=OURS)
    run.assert_clean()
    await bridge.ended()
    [record] = await bridge.at.records()
    assert [key.digit for key in record.journal.digits] == ["1", "2", "*", "#"]


@pytest.mark.parametrize("transport", ["u1", "tn"])
async def test_fifty_calls_a_second(start: Start, tmp_path: Path, transport: str) -> None:
    bridge = await start_sip(start, rtp_ports=1000, BRIDGE_MAX_CALLS="400")
    run = await call_with_sipp(
        "uac_short",
        tmp_path,
        bridge.ports.address,
        "-r",
        "50",
        "-l",
        "300",
        "-max_socket",
        "1000",
        transport=transport,
        calls=250,
        traces=False,
        number=OURS,
    )
    run.assert_clean()
    await until(lambda: bridge.at.active == 0, "calls are left", 20.0)


# --- calls of the bridge ---------------------------------------------------------------------------------

NOT_HUNG_UP = {"uas_hang_up"}
"""Here the other side ends the call; in the others the agent does, if it is answered at all."""


@pytest.mark.parametrize(
    "scenario",
    [
        "uas_answer",
        "uas_hang_up",
        "uas_early_media",
        "uas_busy",
        "uas_unavailable",
        "uas_overloaded",
        "uas_declined",
        "uas_redirect",
        "uas_challenge",
        "uas_proxy_challenge",
        "uas_no_answer",
        "uas_reliable_ring",
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_placed_call(start: Start, tmp_path: Path, scenario: str, transport: str) -> None:
    agent = Scenario(name="listen") if scenario in NOT_HUNG_UP else GOODBYE
    async with running_sipp(scenario, tmp_path, transport="u1" if transport == "udp" else "t1") as sipp:
        bridge = await start_sip(
            start,
            agent,
            SIP_OUTBOUND_ADDRESS=sipp.address,
            SIP_OUTBOUND_TRANSPORT=transport,
            SIP_OUTBOUND_CALLER_ID=OURS,
            SIP_OUTBOUND_USERNAME="trunk",
            SIP_OUTBOUND_PASSWORD="secret",
            BRIDGE_API_KEY=f"admin:{API_KEY}",
        )
        answer = await bridge.place(HUMAN, ring_timeout_s=3)
        assert answer.status_code == 201, answer.text
        (await sipp.finished()).assert_clean()
        await until(lambda: bridge.at.active == 0, "the slot is taken for ever")
