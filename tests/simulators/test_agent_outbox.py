from __future__ import annotations

from bridge.media.format import PCM_16K
from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_outbox import Abort, CloseFrame, Outbox


def test_speech_is_counted_and_nothing_is_taken_after_the_end() -> None:
    outbox = Outbox(ConversationLog("conv_1"), PCM_16K)
    assert outbox.speak(b"\x00" * 640, 2) == 20.0
    assert (outbox.log.sent_chunks, outbox.log.sent_audio_bytes, outbox.log.sent_audio_ms) == (1, 640, 20.0)
    outbox.close(1000, "bye", 1.0)
    outbox.act("late")
    outbox.abort(2.0)
    assert outbox.drain()[1:] == [CloseFrame(1000, "bye")]
    assert outbox.drain() == []
    assert (outbox.log.close_code, outbox.finished) == (1000, True)


def test_an_abort_is_noted_as_1006() -> None:
    outbox = Outbox(ConversationLog("conv_1"), PCM_16K)
    outbox.abort(1.0)
    assert outbox.drain() == [Abort()]
    assert (outbox.log.closed_by, outbox.log.close_code) == ("agent", 1006)
