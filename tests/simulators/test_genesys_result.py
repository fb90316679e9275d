from __future__ import annotations

import json

import pytest

from bridge.media.format import ULAW_8K
from bridge.media.g711 import pcm_to_ulaw
from bridge.media.tones import dtmf
from bridge.simulators.call_result import MAX_TIMELINE
from bridge.simulators.genesys_record import BargeIn, Disconnect
from bridge.simulators.genesys_result import Attempt, GenesysResult
from bridge.simulators.genesys_retry import backoff_s, worth_retrying
from bridge.simulators.genesys_wire import Breach
from bridge.simulators.speech import tone
from bridge.simulators.twilio_playout import Gap

COMPLETED = Disconnect("completed", "", {"city": "Ulm"}, 900.0, 0.0)
FAILED = Disconnect("error", "full", {"errorType": "capacity"}, 3.0, 0.0)
UNAUTHORIZED = Disconnect("unauthorized", "", {}, 3.0, 0.0)


@pytest.mark.parametrize(
    ("ended_by", "disconnect", "path"),
    [
        ("server", COMPLETED, "success"),
        ("server", FAILED, "failure"),
        ("server", UNAUTHORIZED, "failure"),
        ("lost", COMPLETED, "failure"),
        ("lost", None, "failure"),
        ("refused", None, "failure"),
        ("breach", None, "failure"),
        ("caller", None, "none"),
        ("caller", COMPLETED, "none"),
        ("time", None, "none"),
        ("probe", None, "none"),
    ],
)
def test_how_the_flow_goes_on(ended_by: str, disconnect: Disconnect | None, path: str) -> None:
    result = GenesysResult(ended_by=ended_by, disconnect=disconnect, opened_ms=1.0)
    assert result.architect_path == path
    assert result.output_variables == ({"city": "Ulm"} if path == "success" else {})
    assert result.succeeded is (path != "failure")


def test_a_call_that_never_opened_or_has_a_breach_is_no_success() -> None:
    assert not GenesysResult(ended_by="caller").succeeded
    breaches = [Breach(400, "x", fatal=False)]
    assert not GenesysResult(ended_by="caller", opened_ms=1.0, breaches=breaches).succeeded


@pytest.mark.parametrize(
    ("result", "again"),
    [
        (GenesysResult(ended_by="refused"), True),
        (GenesysResult(ended_by="refused", http_status=401), False),
        (GenesysResult(ended_by="refused", http_status=503), False),
        (GenesysResult(ended_by="breach", open_timed_out=True), True),
        (GenesysResult(ended_by="breach"), False),
        (GenesysResult(ended_by="lost"), True),
        (GenesysResult(ended_by="lost", opened_ms=1.0), False),
        (GenesysResult(ended_by="server", disconnect=FAILED), True),
        (GenesysResult(ended_by="server", opened_ms=1.0, disconnect=FAILED), True),
        (GenesysResult(ended_by="caller", opened_ms=1.0, disconnect=FAILED), False),
        (GenesysResult(ended_by="server", disconnect=COMPLETED), False),
        (GenesysResult(ended_by="server", disconnect=UNAUTHORIZED), False),
        (GenesysResult(ended_by="caller", opened_ms=1.0), False),
    ],
)
def test_what_is_tried_again(result: GenesysResult, again: bool) -> None:
    assert worth_retrying(result) is again


def test_the_back_off_doubles() -> None:
    assert [backoff_s(retry) for retry in range(1, 6)] == [1.0, 2.0, 4.0, 8.0, 16.0]


def test_tones_in_what_was_heard_are_found() -> None:
    result = GenesysResult(utterances_ms=[100.0, 700.0])
    pause = b"\xff" * 800
    result.heard += pause + tone(440, ULAW_8K, 600) + tone(1000, ULAW_8K, 500) + pause
    result.heard += pcm_to_ulaw(dtmf("12#", 8000)) + pause
    assert result.heard_tones_hz() == [pytest.approx(440, abs=1), pytest.approx(1000, abs=1)]
    assert result.heard_digits() == "12#"


def test_the_result_is_json() -> None:
    result = GenesysResult(
        session_id="s",
        ended_by="server",
        opened_ms=2.5,
        disconnect=COMPLETED,
        attempts=[Attempt("lost", waited_s=0.0), Attempt("server", 0, 2.5, 1.0)],
        barge_ins=[BargeIn(10.0, 20.0, 0)],
        gaps=[Gap(1.0, 2.5), Gap(5.0, 0.5)],
        breaches=[Breach(400, "pong has the unexpected field position", False, 12.0)],
        said=bytearray(80),
        heard=bytearray(b"\xff" * 160),
    )
    result.note(12.4, "opened")
    summary = json.loads(json.dumps(result.to_json()))
    assert summary["breaches"] == [
        {"code": 400, "text": "pong has the unexpected field position", "fatal": False, "at_ms": 12.0}
    ]
    assert summary["attempts"][1] == {"ended_by": "server", "http_status": 0, "opened_ms": 2.5, "waited_s": 1.0}
    assert summary["disconnect"]["reason"] == "completed"
    assert (summary["output_variables"], summary["architect_path"]) == ({"city": "Ulm"}, "success")
    assert (summary["heard_ms"], summary["gap_ms"], summary["timeline"]) == (20.0, 3.0, [[12, "opened"]])
    assert (summary["heard_digits"], summary["heard_tones_hz"]) == ("", [])
    assert "said" not in summary and "heard" not in summary


def test_the_result_for_people() -> None:
    result = GenesysResult(ended_by="server", opened_ms=2.5, disconnect=COMPLETED, duration_ms=1234.0)
    result.breaches.append(Breach(429, "Rate limit of text messages exceeded", True))
    result.note(2.5, "opened")
    assert result.to_text().splitlines() == [
        "  0.00 s  opened",
        "ended by server after 1.2 s, opened after 2.5 ms",
        "flow goes on: success; attempts: 0; gaps: 0",
        "disconnect completed",
        "output city = Ulm",
        "breach 429: Rate limit of text messages exceeded",
    ]
    refused = GenesysResult(ended_by="refused", refusal="upgrade was answered with 401")
    assert refused.to_text().splitlines()[0] == (
        "ended by refused (upgrade was answered with 401) after 0.0 s, never opened"
    )


def test_the_timeline_is_bounded() -> None:
    result = GenesysResult()
    for _ in range(MAX_TIMELINE + 5):
        result.note(0, "x")
    assert len(result.timeline) == MAX_TIMELINE
