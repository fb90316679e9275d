"""The ear of a simulated SIP end: what it counts, and what it complains of. Times are arguments."""

from __future__ import annotations

import pytest

from bridge.media.format import Encoding
from bridge.simulators.sip_result import Notes, RtpFigures, pacing
from bridge.simulators.sip_rtp import RtpEar
from bridge.simulators.sip_terms import Terms
from bridge.sip.rtp import RtpPacket, build_rtp
from bridge.sip.telephone_event import EventBlock, build_event

AUDIO = bytes(range(160))


def terms(*, receives: bool = True) -> Terms:
    """PCMU or PCMA, keys as 101."""
    return Terms(Encoding.ULAW, 0, frozenset({0, 8, 13}), ("127.0.0.1", 4000), 101, 101, True, receives)


def ear(*, receives: bool = True) -> RtpEar:
    """One whose call was answered at 0."""
    new = RtpEar(Notes(0.0), RtpFigures())
    new.agreed(terms(receives=receives), 0.0)
    new.answered(0.0)
    return new


def packet(
    sequence: int, *, timestamp: int | None = None, ssrc: int = 1, kind: int = 0, payload: bytes = AUDIO
) -> bytes:
    """One of 20 ms."""
    stamp = sequence * 160 if timestamp is None else timestamp
    return build_rtp(RtpPacket(kind, sequence & 0xFFFF, stamp & 0xFFFFFFFF, ssrc, payload))


def texts(listener: RtpEar) -> list[str]:
    """What it complains of."""
    return [violation.text for violation in listener.notes.violations]


def test_a_perfect_stream_across_both_wraps() -> None:
    listener = ear()
    for number in range(100):
        sequence = 65_500 + number
        listener.receive(packet(sequence, timestamp=0xFFFFF000 + number * 160), 0.5 + number * 0.02)
    listener.finish()
    figures = listener.figures
    assert (figures.received, figures.lost, figures.duplicates, figures.reordered, figures.sources) == (100, 0, 0, 0, 1)
    assert figures.pacing.error_max_ms < 0.001
    assert figures.pacing.count == 99
    assert (figures.first_ms, figures.gaps) == (500.0, [])
    assert texts(listener) == []
    assert len(listener.frames) == 50, "a second of it waits to be played"


def test_loss_doubles_and_disorder() -> None:
    listener = ear()
    for place, sequence in enumerate((1, 2, 2, 4, 3, 7)):
        listener.receive(packet(sequence), place * 0.02)
    figures = listener.figures
    assert (figures.lost, figures.duplicates, figures.reordered) == (2, 1, 1)


def test_gaps_and_pacing_errors() -> None:
    listener = ear()
    for sequence, at_s in ((1, 0.02), (2, 0.04), (3, 0.065), (4, 0.165)):
        listener.receive(packet(sequence), at_s)
    listener.finish()
    assert [(gap.at_ms, gap.length_ms) for gap in listener.figures.gaps] == [(65.0, 100.0)]
    assert listener.figures.longest_gap_ms == 100.0
    assert listener.figures.pacing.error_max_ms == pytest.approx(80, abs=0.01)
    assert listener.figures.pacing.error_p50_ms == pytest.approx(5, abs=0.01)


def test_silence_that_is_in_the_timestamps_is_no_pacing_error() -> None:
    listener = ear()
    listener.receive(packet(1, timestamp=160), 0.02)
    listener.receive(packet(2, timestamp=160 + 800), 0.12)
    listener.finish()
    assert listener.figures.pacing.error_max_ms == pytest.approx(0, abs=0.01)
    assert texts(listener) == []


@pytest.mark.parametrize(
    ("datagram", "said"),
    [
        (b"too short", "RTP: a datagram of 9 bytes is not between 12 and 2048"),
        (packet(2, kind=18), "RTP of type 18 was not agreed on"),
        (packet(2, payload=bytes(240)), "a packet of 240 bytes, not of 160"),
        (packet(2, ssrc=2), "the SSRC changes within a call"),
        (packet(2, timestamp=161), "the timestamp moves by 1 over 1 packets"),
        (packet(2, timestamp=100), f"the timestamp moves by {2**32 - 60} over 1 packets"),
    ],
)
def test_what_is_wrong(datagram: bytes, said: str) -> None:
    listener = ear()
    listener.receive(packet(1), 0.0)
    listener.receive(datagram, 0.02)
    assert texts(listener) == [said]


def test_keys() -> None:
    listener = ear()
    listener.receive(packet(1), 0.0)
    for step, is_end in ((1, False), (2, False), (3, True), (4, True)):
        payload = build_event(EventBlock(5, is_end, 10, 160 * min(step, 3)))
        listener.receive(packet(1 + step, timestamp=320, kind=101, payload=payload), 0.02 * step)
    listener.receive(packet(6, timestamp=960), 0.2)
    assert (listener.digits, listener.figures.event_packets, listener.figures.gaps) == ("5", 4, [])


def test_on_hold_nothing_may_come() -> None:
    listener = ear()
    listener.receive(packet(1), 0.0)
    listener.agreed(terms(receives=False), 1.0)
    listener.receive(packet(2), 1.4)
    assert texts(listener) == [], "was under way"
    listener.receive(packet(3), 1.6)
    assert texts(listener) == ["RTP comes although the call is on hold"]
    assert listener.figures.held_received == 1
    listener.agreed(terms(), 9.0)
    listener.receive(packet(4), 9.1)
    assert listener.figures.gaps == []


def test_early_media_is_counted() -> None:
    listener = RtpEar(Notes(0.0), RtpFigures())
    listener.receive(packet(1), 0.0)
    listener.agreed(terms(), 0.0)
    listener.receive(packet(2), 0.1)
    assert (listener.figures.early_received, listener.figures.first_ms) == (2, None)


def test_a_law_is_heard_as_mu_law_and_noise_is_none() -> None:
    listener = ear()
    listener.receive(packet(1, kind=8, payload=b"\xd5" * 160), 0.0)
    assert listener.frames.popleft() == b"\xfe" * 160, "the quietest step above zero in both"
    listener.receive(packet(2, kind=13, payload=b"\x40"), 0.02)
    assert (texts(listener), list(listener.frames), listener.figures.received) == ([], [], 1)


def test_percentiles() -> None:
    assert pacing([]).count == 0
    found = pacing(float(value) for value in range(1, 201))
    assert (found.error_p50_ms, found.error_p99_ms, found.error_max_ms) == (100.0, 198.0, 200.0)
