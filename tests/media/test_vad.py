"""The detector of talk in live audio: levels, onset, hangover, noise, every format."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, MediaFormat
from bridge.media.tones import tone
from bridge.media.vad import ADAPT_S, HANGOVER_S, Vad
from tests.kit.audio import from_pcm

FORMATS = [ULAW_8K, ALAW_8K, PCM_8K, PCM_16K]
FRAME_S = 0.02


class Ear:
    """Feeds frame after frame and keeps what the detector said, with the time since the begin."""

    def __init__(self, media: MediaFormat, every: int = 1) -> None:
        self.media, self.vad, self.every = media, Vad(media), every
        self.frames = 0
        self.said: list[tuple[bool, float]] = []
        """(begins, ``since_s``)"""

    def hear(self, pcm: bytes) -> Ear:
        size = self.media.rate_hz // 50 * 2
        for at in range(0, len(pcm), size):
            self.frames += 1
            if self.frames % self.every == 0:
                change = self.vad.feed(from_pcm(pcm[at : at + size], self.media), self.frames * FRAME_S)
                if change is not None:
                    assert change is self.vad.talking
                    self.said.append((change, round(self.vad.since_s, 3)))
        return self

    def silence(self, seconds: float) -> Ear:
        return self.hear(bytes(int(self.media.rate_hz * seconds) * 2))

    def talk(self, seconds: float, amplitude: int = 3000) -> Ear:
        return self.hear(tone((300.0,), seconds * 1000, self.media.rate_hz, amplitude))

    def noise(self, seconds: float, rms: float) -> Ear:
        dice = random.Random(7)
        samples = (int(dice.gauss(0, rms)) for _ in range(int(self.media.rate_hz * seconds)))
        return self.hear(b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))


@pytest.mark.parametrize("media", FORMATS, ids=lambda media: f"{media.encoding.name} {media.rate_hz}")
def test_talk_begins_and_ends_where_it_does(media: MediaFormat) -> None:
    ear = Ear(media).silence(1.0).talk(1.0).silence(1.0)
    assert ear.said == [(True, 1.0), (False, 2.0)]


@pytest.mark.parametrize("media", FORMATS, ids=lambda media: f"{media.encoding.name} {media.rate_hz}")
def test_every_second_frame_is_enough(media: MediaFormat) -> None:
    (began, began_s), (ended, ended_s) = Ear(media, every=2).silence(1.0).talk(1.0).silence(1.0).said
    assert (began, ended) == (True, False)
    assert abs(began_s - 1.0) <= 0.021
    assert abs(ended_s - 2.0) <= 0.021


def test_a_short_pause_is_part_of_the_talk() -> None:
    assert Ear(ULAW_8K).talk(0.5).silence(HANGOVER_S - 0.02).talk(0.5).silence(1.0).said == [(True, 0.0), (False, 1.28)]


def test_a_long_pause_ends_it() -> None:
    said = Ear(ULAW_8K).talk(0.5).silence(HANGOVER_S + 0.04).talk(0.5).said
    assert [began for began, _ in said] == [True, False, True]


def test_a_click_is_no_talk() -> None:
    assert Ear(ULAW_8K).silence(0.5).talk(0.04).silence(0.5).talk(0.04).silence(0.5).said == []


@pytest.mark.parametrize("media", FORMATS, ids=lambda media: f"{media.encoding.name} {media.rate_hz}")
def test_line_noise_is_no_talk(media: MediaFormat) -> None:
    assert Ear(media).noise(2.0, rms=32).said == []  # -60 dBFS


@pytest.mark.parametrize("media", [ULAW_8K, PCM_16K], ids=lambda media: media.encoding.name)
def test_loud_noise_is_got_used_to_and_talk_over_it_is_heard(media: MediaFormat) -> None:
    ear = Ear(media).noise(3 * ADAPT_S, rms=300)  # -41 dBFS
    assert [began for began, _ in ear.said] == [True, False]
    ear.said.clear()
    ear.noise(2.0, rms=300)
    assert ear.said == []
    ear.talk(0.5, amplitude=6000).noise(1.0, rms=300)
    assert [began for began, _ in ear.said] == [True, False]


def test_a_quiet_caller_is_heard_again_once_the_noise_is_gone() -> None:
    ear = Ear(ULAW_8K).noise(3 * ADAPT_S, rms=300).silence(2 * ADAPT_S)
    ear.said.clear()
    ear.talk(0.5, amplitude=350).silence(0.5)
    assert [began for began, _ in ear.said] == [True, False]


def test_the_level_has_a_top() -> None:
    ear = Ear(ULAW_8K).noise(10 * ADAPT_S, rms=6000)
    assert ear.said == [(True, 0.0)]


def test_talk_after_talk_is_told_once_each() -> None:
    ear = Ear(ALAW_8K)
    for _ in range(3):
        ear.talk(0.4).silence(0.6)
    assert ear.said == [(True, 0.0), (False, 0.4), (True, 1.0), (False, 1.4), (True, 2.0), (False, 2.4)]


@given(payloads=st.lists(st.binary(max_size=700), max_size=20), media=st.sampled_from(FORMATS))
def test_any_payload_is_taken(payloads: list[bytes], media: MediaFormat) -> None:
    vad = Vad(media)
    for number, payload in enumerate(payloads):
        before = vad.talking
        change = vad.feed(payload, number * FRAME_S)
        assert vad.talking is (before if change is None else change)
