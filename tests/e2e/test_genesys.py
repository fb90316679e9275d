"""Whole Genesys calls: a strict Audio Connector client, a bridge with everything on, an agent."""

from __future__ import annotations

import time
from typing import Any

import pytest

from bridge.media.format import ULAW_8K
from bridge.media.tones import dominant_frequencies
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_scenarios import (
    CallTools,
    Close,
    EndCall,
    Say,
    Scenario,
    ToolCall,
    Wait,
    WaitForCaller,
)
from bridge.simulators.agent_scenarios import Interrupt as AgentInterrupt
from bridge.simulators.genesys_person import AnyAction, ChangeLanguage, Hold, ReportError
from bridge.simulators.twilio_line import (
    HangUp,
    Interrupt,
    LoseAudio,
    PressKey,
    Silence,
    Speak,
    WaitForAgentEnd,
    WaitForClose,
)
from tests.kit.audio import to_pcm
from tests.kit.genesys_calls import KEYS, PATIENT, SECRET, SHORT, SIGNED, assert_proper, dial, ended, record_of, told
from tests.kit.server import Start, until

pytestmark = pytest.mark.e2e

GREET = Say(duration_ms=400, speed=0)
LISTEN = Scenario(name="listen")
"""An agent that never says a word."""
GOODBYE = Scenario(name="goodbye", steps=(Say(duration_ms=1210, speed=0), EndCall(), Close()))
RESULTS: dict[str, str | int | float | bool | None] = {
    "city": "Ulm",
    "guests": 3,
    "share": 0.5,
    "is_member": True,
    "phone": None,
}


def tools_agent(*calls: ToolCall) -> Scenario:
    """An agent that greets, calls these tools one after the other, and listens."""
    return Scenario(name="tools", steps=(GREET, *(CallTools(calls=(call,)) for call in calls), Say(duration_ms=200)))


def transfer_to(number: str) -> ToolCall:
    return ToolCall(tool_name="transfer_to_number", parameters={"transfer_number": number, "reason": "wants a person"})


# --- a conversation --------------------------------------------------------------------------------------


async def test_a_conversation_with_a_barge_in_and_signed(start: Start) -> None:
    """Caller and agent take turns by what they hear, as people do."""
    steps = (
        Say(text="Hello.", duration_ms=500),
        WaitForCaller(text="Good morning."),
        Say(text="A long story.", duration_ms=15_000),
        WaitForCaller(text="Stop, please."),
        Say(text="Good-bye.", duration_ms=600),
        EndCall(),
        Close(),
    )
    at = await start(Scenario(name="turns", steps=steps), **SIGNED)
    caller = (WaitForAgentEnd(), Speak(clip="caller_thanks"), Interrupt(clip="caller_thanks"), WaitForClose())
    result = await dial(at, *caller, client_secret=SECRET)
    assert_proper(result)
    assert await ended(at) == ["success/agent_hangup"]
    assert (result.ended_by, result.unplayed_ms, len(result.barge_ins)) == ("server", 0, 1)
    assert result.barge_ins[0].dropped_ms > 200
    assert (len(result.response_ms), len(result.reaction_ms)) == (2, 1)
    assert len(result.rtt_ms) >= 2
    log = await at.agent.wait_ended()
    assert (log.violations, log.closed_by, len(log.interruptions)) == ([], "agent", 1)
    record = await record_of(at, result)
    assert (record.provider, record.agent_id, record.reason) == ("genesys", "agent_1", "agent_hangup")
    assert record.call_sid == result.conversation_id
    assert (record.stats["interruptions"], record.stats["clears"]) == (1, 1)
    assert [(turn.role, turn.interrupted) for turn in record.journal.turns] == [
        ("agent", False),
        ("user", False),
        ("agent", True),
        ("user", False),
        ("agent", False),
    ]
    assert record.conversation_id == log.conversation_id
    assert result.output_variables == {
        "conversation_id": log.conversation_id,
        "end_reason": "agent_hangup",
        "end_detail": "close 1000",
    }


async def test_an_interruption_leaves_nothing_of_the_old_answer(start: Start) -> None:
    steps = (
        Say(tone_hz=400.0, duration_ms=10_000, speed=0),
        Wait(ms=700),
        AgentInterrupt(stale_ms=5_000),
        Wait(ms=600),
        Say(tone_hz=1000.0, duration_ms=800),
        EndCall(),
        Close(),
    )
    at = await start(Scenario(name="stale", steps=steps), **KEYS)
    result = await dial(at)
    assert_proper(result)
    assert await ended(at) == ["success/agent_hangup"]
    assert len(result.barge_ins) == 1
    old_hz, new_hz = result.heard_tones_hz()
    assert old_hz == pytest.approx(400, abs=10)
    assert new_hz == pytest.approx(1000, abs=10)
    began = ULAW_8K.size_bytes(result.utterances_ms[1] + 100)
    for begin in range(began, began + 3 * 800, 800):
        piece = to_pcm(bytes(result.heard[begin : begin + 800]), ULAW_8K)
        assert not [peak for peak in dominant_frequencies(piece, 8000) if abs(peak.frequency_hz - 400) < 30]
    record = await record_of(at, result)
    assert record.stats["stale_audio_bytes"] == 5_000 * 8


async def test_every_millisecond_of_the_goodbye_is_heard(start: Start) -> None:
    at = await start(GOODBYE, **KEYS)
    result = await dial(at)
    assert_proper(result)
    assert await ended(at) == ["success/agent_hangup"]
    assert result.unplayed_ms == 0
    assert result.counts.audio_ms >= 1210
    assert result.playback_events == ["playback_started", "playback_completed"]


@pytest.mark.parametrize("name", ["ulaw_8000", "pcm_16000", "pcm_44100"])
async def test_agents_in_any_format(start: Start, name: str) -> None:
    steps = (Say(tone_hz=700, duration_ms=600), EndCall(), Close())
    at = await start(
        options=AgentOptions(scenario=Scenario(name="tone", steps=steps), input_format=name, output_format=name), **KEYS
    )
    result = await dial(at)
    assert_proper(result)
    assert await ended(at) == ["success/agent_hangup"]
    assert result.heard_tones_hz() == [pytest.approx(700, abs=10)]
    record = await record_of(at, result)
    assert (record.carrier_format, record.agent_output_format) == ("ulaw_8000", name)


@pytest.mark.parametrize("offer", ["external", "both", "stereo", "inverted", "internal", "l16-first"])
async def test_whatever_is_offered_the_caller_is_heard_and_hears(start: Start, offer: str) -> None:
    at = await start(Scenario(name="greet", steps=(Say(tone_hz=700, duration_ms=500),)), **KEYS)
    result = await dial(at, Silence(ms=900), HangUp(), media=offer)
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]
    log = await at.agent.wait_ended()
    assert log.violations == []
    assert result.heard_tones_hz() == [pytest.approx(700, abs=10)]
    assert 700 * 8 <= log.received_audio_bytes <= 1000 * 8, "one channel of it reaches the agent"


@pytest.mark.parametrize("offer", ["l16", "none"])
async def test_what_cannot_be_served_is_answered_with_no_media(start: Start, offer: str) -> None:
    at = await start("echo", **KEYS)
    result = await dial(at, media=offer)
    assert_proper(result, "failure")
    assert result.disconnect is not None
    assert (result.disconnect.reason, result.media) == ("error", "")
    assert told(result)["errorType"] == "unsupported_media"
    assert await ended(at) == ["client_error/unsupported_media"]
    assert at.agent.conversations == []


async def test_what_happens_on_the_way_of_a_call(start: Start) -> None:
    """Hold, lost audio, a new language, errors that change nothing: the call goes on, and the position stays right."""
    actions: tuple[AnyAction, ...] = (
        Silence(ms=300),
        ChangeLanguage(language="de-DE"),
        Hold(ms=400),
        Silence(ms=200),
        LoseAudio(ms=300),
        ReportError(),
        Silence(ms=300),
        HangUp(),
    )
    at = await start(LISTEN, **KEYS)
    result = await dial(at, *actions)
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]
    log = await at.agent.wait_ended()
    assert 700 * 8 <= log.received_audio_bytes <= 1100 * 8, "hold and lost audio never came"
    assert [step["event"] for step in at.lines if step["event"] in ("Paused", "Resumed")] == ["Paused", "Resumed"]


# --- keys ------------------------------------------------------------------------------------------------


async def test_keys_are_counted_written_down_and_told_to_the_agent(start: Start) -> None:
    at = await start(LISTEN, **KEYS)
    keys = [action for digit in "42#" for action in (PressKey(digit=digit), Silence(ms=100))]
    result = await dial(at, Silence(ms=600), *keys, Silence(ms=200), HangUp())
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]
    record = await record_of(at, result)
    assert record.stats["dtmf"] == 3
    assert "".join(key.digit for key in record.journal.digits) == "42#"
    log = await at.agent.wait_ended()
    assert [fields["text"] for _, kind, fields in log.messages if kind == "user_message"] == [
        "I pressed 42 on the keypad."
    ]
    assert not [line for line in at.lines if "42" in str(line.get("detail", ""))]


# --- variables -------------------------------------------------------------------------------------------


async def test_what_the_flow_passes_reaches_the_agent(start: Start) -> None:
    at = await start("greet", **KEYS)
    result = await dial(
        at,
        *SHORT,
        agent="agent_7",
        caller="+15550142",
        caller_name="Jo Doe",
        called="+15550143",
        input_variables={"tier": "gold", "order": "427"},
    )
    assert_proper(result, "none")
    log = await at.agent.wait_ended()
    assert log.agent_id == "agent_7"
    assert log.initiation is not None
    variables: dict[str, Any] = log.initiation["dynamic_variables"]
    for name in ("genesys_organization_id", "genesys_participant_id"):
        assert len(variables.pop(name)) == 36
    assert variables == {
        "tier": "gold",
        "order": "427",
        "caller_id": "+15550142",
        "called_number": "+15550143",
        "call_sid": result.conversation_id,
        "genesys_session_id": result.session_id,
        "genesys_conversation_id": result.conversation_id,
        "genesys_ani_name": "Jo Doe",
        "genesys_language": "en-US",
    }
    record = await record_of(at, result)
    assert (record.caller, record.called) == ("+15550142", "+15550143")
    assert record.variables["tier"] == "gold"


async def test_a_reserved_variable_is_refused_with_its_name(start: Start) -> None:
    at = await start("greet", **KEYS)
    result = await dial(at, input_variables={"system__caller_id": "x", "tier": "gold"})
    assert_proper(result, "failure")
    assert told(result)["errorType"] == "bad_variables"
    assert told(result)["errorMessage"] == (
        "input variable 'system__caller_id': names that begin with system__ belong to the agent's vendor; "
        "rename it in the flow"
    )
    assert await ended(at) == ["client_error/bad_variables"]
    assert at.agent.conversations == []


@pytest.mark.parametrize("kind", ["greet", "goodbye"])
async def test_results_come_back_as_texts(start: Start, kind: str) -> None:
    """They are the flow's when the agent ends the call, and the record's alone when the caller does."""
    scenario = GOODBYE if kind == "goodbye" else kind
    at = await start(options=AgentOptions(scenario=scenario, data_collection=RESULTS, analysis_delay_s=0.3), **KEYS)
    result = await dial(at, *(PATIENT if kind == "goodbye" else SHORT))
    assert_proper(result, "success" if kind == "goodbye" else "none", gaps=1)
    await ended(at)
    log = await at.agent.wait_ended()
    texts = {"city": "Ulm", "guests": "3", "share": "0.5", "is_member": "true"}
    if kind == "goodbye":
        assert result.output_variables == {
            **texts,
            "conversation_id": log.conversation_id,
            "end_reason": "agent_hangup",
            "end_detail": "close 1000",
        }
    else:
        assert result.output_variables == {}
    record = await record_of(at, result)
    assert record.outputs == {**texts, "conversation_id": log.conversation_id}


@pytest.mark.parametrize("analysis_delay_s", [1.6, 60.0])
async def test_results_that_come_late_or_never(start: Start, analysis_delay_s: float) -> None:
    """The caller hears a tone meanwhile, and no longer than set; pings are answered."""
    options = AgentOptions(scenario=GOODBYE, data_collection=RESULTS, analysis_delay_s=analysis_delay_s)
    at = await start(options=options, **KEYS, GENESYS_OUTPUT_WAIT_S="2.5")
    began_s = time.monotonic()
    result = await dial(at)
    took_s = time.monotonic() - began_s
    assert_proper(result, gaps=1)
    assert await ended(at) == ["success/agent_hangup"]
    came = analysis_delay_s < 2
    assert ("city" in result.output_variables) == came
    assert result.output_variables["end_reason"] == "agent_hangup"
    assert took_s < 5.0
    assert result.counts.audio_ms > 1210 + 200, "hold audio"
    assert bool(at.logged("no_results")) == (not came)


async def test_no_wait_for_results_where_none_is_wanted(start: Start) -> None:
    options = AgentOptions(scenario=GOODBYE, data_collection=RESULTS, analysis_delay_s=0.1)
    at = await start(options=options, **KEYS, GENESYS_OUTPUT_WAIT_S="0")
    result = await dial(at)
    assert_proper(result)
    assert set(result.output_variables) == {"conversation_id", "end_reason", "end_detail"}
    await ended(at)
    assert (await record_of(at, result)).outputs["city"] == "Ulm", "the record gets them all the same"


# --- transfer --------------------------------------------------------------------------------------------


async def test_a_transfer_is_an_output_of_the_call(start: Start) -> None:
    scenario = tools_agent(transfer_to("+49 731 555-01"))
    at = await start(
        options=AgentOptions(scenario=scenario, data_collection={"city": "Ulm"}),
        **KEYS,
        TRANSFER_ALLOW="+4973155*",
    )
    result = await dial(at)
    assert_proper(result, gaps=1)
    assert await ended(at) == ["success/transferred"]
    log = await at.agent.wait_ended()
    assert result.output_variables == {
        "transfer_to": "+4973155501",
        "transfer_reason": "wants a person",
        "city": "Ulm",
        "conversation_id": log.conversation_id,
        "end_reason": "transferred",
    }
    assert result.duration_ms >= 400, "what the agent said before was heard"
    [outcome] = log.tool_results
    assert (outcome.result, outcome.is_error) == ("The caller is being transferred now. Say nothing more.", False)
    record = await record_of(at, result)
    assert [tool.name for tool in record.journal.tools] == ["transfer_to_number"]


async def test_a_transfer_that_is_not_allowed_leaves_the_caller_with_the_agent(start: Start) -> None:
    at = await start(
        tools_agent(transfer_to("+1900555"), ToolCall(tool_name="lookup_order")), **KEYS, TRANSFER_ALLOW="+49*"
    )
    result = await dial(at, WaitForAgentEnd(quiet_ms=500), HangUp())
    assert_proper(result, "none", gaps=1)
    assert await ended(at) == ["success/caller_hangup"]
    log = await at.agent.wait_ended()
    assert [outcome.is_error for outcome in log.tool_results] == [True, True]
    assert log.tool_results[0].result.startswith("The transfer was not made: this destination is not allowed.")
    assert log.tool_results[1].result.startswith("The tool 'lookup_order' is not available")
    assert "transfer_to" not in (await record_of(at, result)).outputs


# --- the agent fails -------------------------------------------------------------------------------------


async def test_a_missing_variable_is_named_to_the_flow(start: Start) -> None:
    at = await start("missing_variable", **KEYS)
    result = await dial(at)
    assert_proper(result, "failure")
    assert await ended(at) == ["upstream_error/agent_config"]
    assert result.disconnect is not None
    assert result.disconnect.reason == "error"
    assert "customer_name" in result.disconnect.info
    assert told(result)["errorType"] == "agent_config"
    assert "customer_name" in told(result)["errorMessage"]


@pytest.mark.parametrize(
    ("scenario", "settings", "reason"),
    [
        ("refuse_403", {}, "agent_refused"),
        ("greet", {"ELEVENLABS_BASE_URL": "http://127.0.0.1:9"}, "agent_unreachable"),
        ("close_1011_200", {}, "agent_crashed"),
        ("drop_200", {}, "agent_lost"),
        ("mute", {"AGENT_READY_TIMEOUT_S": "0.3"}, "agent_not_ready"),
    ],
)
async def test_an_agent_that_fails_ends_the_flow_with_words(
    start: Start, scenario: str, settings: Any, reason: str
) -> None:
    at = await start(scenario, **KEYS, **settings)
    result = await dial(at)
    assert_proper(result, "failure")
    assert result.disconnect is not None
    assert (result.disconnect.reason, result.opened_ms is not None) == ("error", True)
    [end] = await ended(at)
    assert end.startswith("upstream_error/")
    assert told(result)["errorType"] == end.partition("/")[2]
    assert told(result)["errorMessage"]
    if scenario != "refuse_403":
        assert end == f"upstream_error/{reason}"


async def test_the_caller_goes_while_the_agent_connects(start: Start) -> None:
    at = await start("mute", **KEYS)
    result = await dial(at, Silence(ms=200), HangUp())
    assert_proper(result, "none")
    assert await ended(at) == ["success/caller_hangup"]
    await until(lambda: at.agent.conversations and at.agent.conversations[0].closed_by, "the agent is left alone")
