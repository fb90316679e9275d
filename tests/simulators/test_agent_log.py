from __future__ import annotations

from bridge.simulators.agent_log import MAX_AUDIO_BYTES, MAX_ENTRIES, ConversationLog


def test_a_log_is_bounded_but_goes_on_counting() -> None:
    log = ConversationLog("conv_1")
    log.add_audio(bytes(MAX_AUDIO_BYTES - 1), 0.0)
    log.add_audio(b"\x01\x02", 1.0)
    assert (len(log.received_audio), log.received_audio_bytes) == (MAX_AUDIO_BYTES - 1, MAX_AUDIO_BYTES + 1)
    log.add_audio(b"\x03", 1.0)
    assert log.received_audio[-1] == 3
    for index in range(MAX_ENTRIES + 5):
        log.add_audio(b"", float(index))
        log.add_message("user_activity", {}, 0.0)
        log.violate("again")
    assert len(log.received_times_s) == len(log.messages) == len(log.violations) == MAX_ENTRIES
    assert log.received_chunks == MAX_ENTRIES + 8


def test_the_first_to_end_a_conversation_is_the_one_who_is_noted() -> None:
    log = ConversationLog("conv_1", started_s=10.0)
    log.close("agent", 1000, "done", 12.0)
    log.close("client", 1006, "", 13.0)
    assert (log.closed_by, log.close_code, log.close_reason, log.ended_s) == ("agent", 1000, "done", 12.0)
    assert log.to_json()["duration_ms"] == 2000.0
