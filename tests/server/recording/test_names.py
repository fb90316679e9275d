"""``bridge.server.recording.names``: no name leads out of the folder."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError
from bridge.server.recording.names import AudioNotFoundError, file_name, name_at, parse_name

BAD = ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", "a b", "a.b", "ü", "x" * 129, "a\n"]


def test_a_name_comes_from_the_calls_id() -> None:
    assert file_name("3f2A_-9", "wav") == "3f2A_-9.wav"
    assert parse_name("3f2A_-9.mp3") == ("3f2A_-9", "mp3")


@pytest.mark.parametrize("call_id", BAD)
def test_an_id_that_is_no_plain_word_is_refused(call_id: str) -> None:
    with pytest.raises(LocalError, match="a call's id is 1 to 128 letters"):
        file_name(call_id, "wav")
    assert parse_name(f"{call_id}.wav") is None


def test_locations_of_both_kinds_name_their_file() -> None:
    assert name_at("abc.wav") == "abc.wav"
    assert name_at("s3://bucket/some/prefix/abc.mp3") == "abc.mp3"


@pytest.mark.parametrize(
    "location",
    ["", "abc", "abc.wav.part", "../abc.wav", "/etc/abc.wav", "x/abc.wav", "s3://bucket/..", "s3://bucket/a.flac"],
)
def test_other_locations_are_refused(location: str) -> None:
    with pytest.raises(AudioNotFoundError, match="this is no location of a recording"):
        name_at(location)


@given(st.text())
def test_no_location_gives_a_name_with_a_path_in_it(location: str) -> None:
    try:
        name = name_at(location)
    except AudioNotFoundError:
        return
    assert "/" not in name and not name.startswith(".")
