from __future__ import annotations

import pytest

from bridge.media.format import PCM_16K, ULAW_8K, MediaFormat
from bridge.simulators.speech import CLIP_TEXTS, load_clip, tone
from bridge.simulators.talk import Talk, TalkDetector

ALL_INPUTS = ("ulaw_8000", "pcm_8000", "pcm_16000", "pcm_22050", "pcm_24000", "pcm_44100", "pcm_48000")


def silence(media: MediaFormat, ms: int) -> bytes:
    return media.silence(media.size_bytes(ms))


def test_a_sound_of_60_ms_is_no_talkspurt_and_one_of_70_ms_is() -> None:
    detector = TalkDetector(ULAW_8K)
    assert detector.feed(tone(440, ULAW_8K, 60) + silence(ULAW_8K, 100)) == []
    assert detector.feed(tone(440, ULAW_8K, 70)) == [Talk.STARTED]
    assert detector.talking


def test_a_talkspurt_ends_after_500_ms_of_silence_and_not_before() -> None:
    detector = TalkDetector(PCM_16K)
    detector.feed(tone(440, PCM_16K, 200))
    assert detector.feed(silence(PCM_16K, 490)) == []
    assert detector.feed(silence(PCM_16K, 10)) == [Talk.ENDED]
    assert not detector.talking


def test_one_payload_can_hold_a_whole_talkspurt() -> None:
    payload = tone(440, ULAW_8K, 200) + silence(ULAW_8K, 500)
    assert TalkDetector(ULAW_8K).feed(payload) == [Talk.STARTED, Talk.ENDED]


def test_quiet_noise_is_silence() -> None:
    detector = TalkDetector(PCM_16K)
    assert detector.feed(b"\x40\x00\xc0\xff" * 16_000) == []


def test_stop_ends_a_talkspurt_once() -> None:
    detector = TalkDetector(ULAW_8K)
    detector.feed(tone(440, ULAW_8K, 200))
    assert detector.stop() == [Talk.ENDED]
    assert detector.stop() == []


@pytest.mark.parametrize("name", ALL_INPUTS)
@pytest.mark.parametrize("clip", [name for name in CLIP_TEXTS if name.startswith("caller")])
def test_every_clip_of_the_caller_is_one_talkspurt_in_every_format(name: str, clip: str) -> None:
    media = MediaFormat.parse(name)
    payload = load_clip(clip, media) + silence(media, 600)
    whole = TalkDetector(media).feed(payload)
    detector, odd = TalkDetector(media), list[Talk]()
    for start in range(0, len(payload), 333):  # cuts windows, and samples of 16 bit
        odd += detector.feed(payload[start : start + 333])
    assert whole == odd == [Talk.STARTED, Talk.ENDED]
