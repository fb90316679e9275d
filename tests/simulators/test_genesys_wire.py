"""Every field that a server may send, and what is wrong with the others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.simulators.genesys_wire import check, duration, seconds

ID = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
MEDIA = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}


def message(kind: str, parameters: Any, **changes: Any) -> dict[str, Any]:
    body = {"version": "2", "id": ID, "type": kind, "seq": 1, "clientseq": 1, "parameters": parameters, **changes}
    return body


def flaws(kind: str, parameters: Any, **changes: Any) -> list[tuple[str, bool]]:
    return [(flaw.text, flaw.fatal) for flaw in check(message(kind, parameters, **changes), ID)]


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("opened", {"media": [MEDIA]}),
        ("opened", {"media": [], "startPaused": True, "discardTo": "PT.5S", "supportedLanguages": ["en-US"]}),
        ("closed", {}),
        ("pong", {}),
        ("pause", {}),
        ("resume", {}),
        ("updated", {}),
        ("event", {"entities": [{"type": "barge_in", "data": {}}]}),
        ("event", {"entities": [{"type": "bot_turn_response", "data": {"disposition": "no_input"}}]}),
        (
            "event",
            {
                "entities": [
                    {"type": "bot_turn_response", "data": {"disposition": "match", "text": "Yes", "confidence": 1}},
                    {"type": "barge_in", "data": {}},
                ]
            },
        ),
        ("disconnect", {"reason": "completed"}),
        ("disconnect", {"reason": "error", "info": "full", "outputVariables": {"a": "1", "b": ""}}),
        ("reconnect", {}),
    ],
)
def test_right_messages(kind: str, parameters: dict[str, Any]) -> None:
    assert flaws(kind, parameters) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"parameters": ...}, "Message not an AudioHook server message: parameters is missing"),
        ({"clientseq": ...}, "Message not an AudioHook server message: clientseq is missing"),
        ({"version": "1"}, "version is '1', not '2'"),
        ({"version": 2}, "version is 2, not '2'"),
        ({"id": "x"}, "id is 'x', not this session's"),
        ({"seq": 0.5}, "pong.seq is 0.5, not an integer from 0"),
        ({"seq": True}, "pong.seq is True, not an integer from 0"),
        ({"clientseq": -1}, "pong.clientseq is -1, not an integer from 0"),
        ({"parameters": []}, "pong.parameters is [], not an object"),
    ],
)
def test_the_envelope(changes: dict[str, Any], text: str) -> None:
    body = {**message("pong", {}), **changes}
    found = check({name: value for name, value in body.items() if value is not ...}, ID)
    assert [(flaw.text, flaw.fatal) for flaw in found] == [(text, True)]


@pytest.mark.parametrize("kind", ["error", "ping", 7, None, [], {}])
def test_other_types(kind: Any) -> None:
    [(text, fatal)] = flaws(kind, {})
    assert fatal
    assert text.startswith(f"type is {kind!r}; a server sends opened, closed, pong, ")


@pytest.mark.parametrize("body", [None, 1, "x", [], [{}]])
def test_what_is_no_object(body: object) -> None:
    [flaw] = check(body, ID)
    assert (flaw.code, flaw.fatal) == (400, True)
    assert flaw.text == "Message not an AudioHook server message: not a JSON object"


@pytest.mark.parametrize(
    ("kind", "parameters", "text"),
    [
        ("opened", {}, "opened.parameters.media is missing"),
        ("opened", {"media": {}}, "opened.parameters.media is {}, not a list"),
        ("opened", {"media": ["PCMU"]}, "opened.parameters.media holds 'PCMU', not an object"),
        ("opened", {"media": [MEDIA, MEDIA]}, "More than one media selected"),
        ("opened", {"media": [{**MEDIA, "codec": "PCMU"}]}, "Unrecognized field codec in Media model"),
        ("opened", {"media": [{**MEDIA, "format": 1}]}, "opened.parameters.media.format is 1, not a string"),
        ("opened", {"media": [{**MEDIA, "rate": "8000"}]}, "opened.parameters.media.rate is '8000', not an integer"),
        (
            "opened",
            {"media": [{**MEDIA, "channels": "external"}]},
            "opened.parameters.media.channels is 'external', not a list of strings",
        ),
        ("opened", {"media": [{"type": "audio"}]}, "opened.parameters.media lacks format"),
        ("opened", {"media": [], "startPaused": 1}, "opened.parameters.startPaused is 1, not a boolean"),
        (
            "opened",
            {"media": [], "discardTo": "PT1M"},
            "opened.parameters.discardTo is 'PT1M', not a duration like PT1.5S",
        ),
        ("opened", {"media": [], "discardTo": 1}, "opened.parameters.discardTo is 1, not a duration like PT1.5S"),
        (
            "opened",
            {"media": [], "supportedLanguages": [1]},
            "opened.parameters.supportedLanguages is [1], not a list of strings",
        ),
        ("event", {}, "event.parameters.entities is missing"),
        ("event", {"entities": []}, "event.parameters.entities is empty, at least one entity belongs there"),
        ("event", {"entities": ["barge_in"]}, "event.parameters.entities holds 'barge_in', not an object"),
        ("event", {"entities": [{"type": "barge_in"}]}, "event.parameters.entities holds an entity without data"),
        (
            "event",
            {"entities": [{"type": "barge_in", "data": None}]},
            "event.parameters.entities: the data of barge_in is None, not an object",
        ),
        (
            "event",
            {"entities": [{"type": "bot_turn_response", "data": {}}]},
            "event.parameters.entities.bot_turn_response.data.disposition is missing",
        ),
        (
            "event",
            {"entities": [{"type": "bot_turn_response", "data": {"disposition": "match", "confidence": 2}}]},
            "event.parameters.entities.bot_turn_response.data.confidence is 2, not a number from 0 to 1",
        ),
        ("disconnect", {}, "disconnect.parameters.reason is missing"),
        (
            "disconnect",
            {"reason": "transfer"},
            "disconnect.parameters.reason is 'transfer', not one of completed, unauthorized, error",
        ),
        ("disconnect", {"reason": "error", "info": None}, "disconnect.parameters.info is None, not a string"),
        (
            "disconnect",
            {"reason": "completed", "outputVariables": {"count": 1}},
            "disconnect.parameters.outputVariables.count is int, not a string",
        ),
        (
            "disconnect",
            {"reason": "completed", "outputVariables": []},
            "disconnect.parameters.outputVariables is [], not an object",
        ),
    ],
)
def test_wrong_parameters_end_the_session(kind: str, parameters: dict[str, Any], text: str) -> None:
    assert flaws(kind, parameters) == [(text, True)]


@pytest.mark.parametrize(
    ("kind", "parameters", "changes", "text"),
    [
        ("pong", {}, {"position": "PT0S"}, "pong has the unexpected field position"),
        ("closed", {"reason": "end"}, {}, "closed.parameters has the unexpected field reason"),
        (
            "opened",
            {"media": [], "selectedLanguage": "en"},
            {},
            "opened.parameters has the unexpected field selectedLanguage",
        ),
        (
            "event",
            {"entities": [{"type": "barge_in", "data": {"x": 1}}]},
            {},
            "event.parameters.entities.barge_in.data has the unexpected field x",
        ),
        (
            "event",
            {"entities": [{"type": "barge_in", "data": {}, "id": 1}]},
            {},
            "event.parameters.entities has the unexpected field id",
        ),
        (
            "event",
            {"entities": [{"type": "transcript", "data": {}}]},
            {},
            "event.parameters.entities holds an entity of type 'transcript'; an Audio Connector takes barge_in, "
            "bot_turn_response",
        ),
        (
            "event",
            {"entities": [{"type": ["x"], "data": {}}]},
            {},
            "event.parameters.entities holds an entity of type ['x']; an Audio Connector takes barge_in, "
            "bot_turn_response",
        ),
    ],
)
def test_unexpected_things_are_noted_only(
    kind: str, parameters: dict[str, Any], changes: dict[str, Any], text: str
) -> None:
    assert flaws(kind, parameters, **changes) == [(text, False)]


def test_a_long_wrong_value_is_cut() -> None:
    [(text, _)] = flaws("pong", {}, version="9" * 1000)
    assert len(text) < 120


@pytest.mark.parametrize(
    ("samples", "text"),
    [(0, "PT0S"), (1600, "PT0.2S"), (8000, "PT1S"), (80_000, "PT10S"), (1, "PT0.000125S"), (50_400, "PT6.3S")],
)
def test_positions(samples: int, text: str) -> None:
    assert duration(samples) == text


def test_seconds_to_the_nanosecond() -> None:
    assert seconds(1_393_723) == "PT0.001393723S"


@given(st.integers(0, 10**13))
def test_durations_are_exact_and_well_formed(samples: int) -> None:
    text = duration(samples)
    assert re.fullmatch(r"PT(\d*\.)?\d+S", text)
    whole, _, rest = text[2:-1].partition(".")
    assert int(whole) * 8000 + int(rest.ljust(9, "0") or 0) * 8000 // 10**9 == samples


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(["opened", "event", "disconnect", "closed"]),
    st.dictionaries(
        st.sampled_from(["media", "entities", "reason", "outputVariables", "info", "discardTo", "x"]), json_values
    ),
)
def test_anything_is_judged_without_an_exception(kind: str, parameters: dict[str, Any]) -> None:
    found = check(message(kind, parameters), ID)
    assert all(not flaw.fatal for flaw in found[:-1])
