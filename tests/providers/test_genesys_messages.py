"""Genesys' messages: leniently read, exactly written."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RemoteError
from bridge.providers import genesys_messages as wire
from tests.kit import genesys


def test_an_envelope_is_read_without_what_is_not_needed() -> None:
    envelope = wire.decode('{"type":"ping","id":"s","seq":7,"news":[1]}')
    assert (envelope.type, envelope.id, envelope.seq, bytes(envelope.parameters)) == ("ping", "s", 7, b"{}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not an AudioHook message: Input data was truncated"),
        ("[]", "not an AudioHook message: Expected `object`, got `array`"),
        ('{"id":"s","seq":1}', "not an AudioHook message: Object missing required field `type`"),
        ('{"type":"x","id":"s","seq":-1}', "not an AudioHook message: Expected `int` >= 0 - at `$.seq`"),
        ('{"type":"x","id":"s","seq":"1"}', "not an AudioHook message: Expected `int`, got `str` - at `$.seq`"),
        ('{"type":"x","id":1,"seq":1}', "not an AudioHook message: Expected `str`, got `int` - at `$.id`"),
    ],
)
def test_what_has_no_envelope_is_no_message(text: str, problem: str) -> None:
    with pytest.raises(RemoteError) as error:
        wire.decode(text)
    assert str(error.value) == problem


def test_the_parameters_of_open() -> None:
    opening = wire.decode_parameters(wire.decode(genesys.opening()), wire.Open)
    assert opening.organizationId == genesys.ORGANIZATION_ID
    assert opening.participant == wire.Participant(genesys.PARTICIPANT_ID, "tel:+15550100", "Jo Doe", "tel:+15550199")
    assert opening.inputVariables == {"tier": "gold"}
    nothing = wire.decode_parameters(
        wire.decode('{"type":"open","id":"s","seq":1,"parameters":{"organizationId":"o","conversationId":"c",'
                    '"participant":null,"media":null,"language":null,"inputVariables":null}}'),
        wire.Open,
    )  # fmt: skip
    assert nothing == wire.Open("o", "c")


def test_parameters_that_cannot_be_read_name_message_and_field() -> None:
    with pytest.raises(RemoteError, match="^open: Object missing required field `organizationId`$"):
        wire.decode_parameters(wire.decode(genesys.message("open", {})), wire.Open)
    with pytest.raises(RemoteError, match="^dtmf: Expected `str` matching regex"):
        wire.decode_parameters(wire.decode(genesys.message("dtmf", {"digit": "12"})), wire.Dtmf)


@pytest.mark.parametrize(
    ("text", "samples"),
    [
        ("PT0S", 0),
        ("PT6.3S", 50400),
        ("PT.5S", 4000),
        ("PT10S", 80000),
        ("PT0.001393723S", 11),
        ("PT0.0000625S", 1),
        ("PT0.00006249S", 0),
        ("PT1.000000000S", 8000),
        ("PT86400S", 691_200_000),
    ],
)
def test_a_duration_in_samples(text: str, samples: int) -> None:
    assert wire.duration_samples(text) == samples


@pytest.mark.parametrize(
    "text",
    ["", "PT1M3S", "PT1H", "PT1.S", "PTS", "P1D", "PT-1S", "PT1,5S", "1", "pt1s", "PT1S ", "PT\u0661S"],
)
def test_other_forms_are_no_durations(text: str) -> None:
    with pytest.raises(RemoteError, match="^a duration is not of the form PT<seconds>S$"):
        wire.duration_samples(text)


@pytest.mark.parametrize("text", ["PT86400.1S", "PT999999999999999999S", "PT999999999.9S"])
def test_a_duration_beyond_a_day_is_none(text: str) -> None:
    with pytest.raises(RemoteError, match="^a duration is longer than a day$"):
        wire.duration_samples(text)


@given(st.integers(0, 86_399 * 8000))
def test_every_whole_sample_survives(samples: int) -> None:
    nanoseconds = samples * 125_000
    assert wire.duration_samples(f"PT{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}S") == samples


def test_our_messages_are_counted_and_exact() -> None:
    encoder = wire.Encoder("s\u00e9ssion")
    assert encoder.message("opened", wire.opened('{"x": 1}'), 1) == (
        '{"version":"2","id":"s\\u00e9ssion","type":"opened","seq":1,"clientseq":1,"parameters":{"media":[{"x": 1}]}}'
    )
    assert encoder.message("closed", wire.NO_PARAMETERS, 9) == (
        '{"version":"2","id":"s\\u00e9ssion","type":"closed","seq":2,"clientseq":9,"parameters":{}}'
    )
    assert wire.opened(None) == '{"media":[]}'
    assert json.loads(wire.BARGE_IN) == {"entities": [{"type": "barge_in", "data": {}}]}


def test_disconnect_has_what_there_is() -> None:
    assert wire.disconnect("completed", "", {}) == '{"reason":"completed"}'
    assert wire.disconnect("error", "why", {"a": "\ud83d"}) == (
        '{"reason":"error","info":"why","outputVariables":{"a":"\\ud83d"}}'
    )


@given(st.text(st.characters(), max_size=80))
def test_anything_is_read_or_refused(text: str) -> None:
    try:
        envelope = wire.decode(text)
        wire.decode_parameters(envelope, wire.Open)
    except RemoteError:
        return
    assert isinstance(envelope, msgspec.Struct)
