"""One conversation: handshake, audio both ways, interruption, tools, and every way in which it can end."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import outcome
from bridge.convai.events import (
    AgentAudio,
    AgentCorrected,
    AgentEnded,
    AgentEvent,
    AgentFault,
    AgentReady,
    AgentSaid,
    CallerSaid,
    Interrupted,
    Pinged,
    SystemToolRan,
    ToolCalled,
)
from bridge.convai.messages import InitiationData
from bridge.convai.protocol import CLOSE_AFTER_ERROR_S, MALFORMED_LIMIT, Conversation, ConversationOptions
from bridge.errors import LocalError
from bridge.leg import CloseSocket
from bridge.media.format import PCM_16K, ULAW_8K, MediaFormat
from bridge.outcome import EndReason
from tests.kit import convai
from tests.kit.audio import numbered
from tests.kit.clock import FakeClock

NOW = 500.0
OPTIONS = ConversationOptions(upload_chunk_ms=20, ready_timeout_s=10.0, silence_timeout_s=30.0)
CLOSE = CloseSocket(1000)


def new(upload_chunk_ms: int = 20) -> Conversation:
    return Conversation(ConversationOptions(upload_chunk_ms, ready_timeout_s=10.0, silence_timeout_s=30.0))


def started() -> Conversation:
    conversation = new()
    conversation.start(InitiationData(), NOW)
    conversation.drain()
    return conversation


def ready(
    output_format: str = "ulaw_8000", input_format: str = "ulaw_8000", *, upload_chunk_ms: int = 20
) -> Conversation:
    conversation = new(upload_chunk_ms)
    conversation.start(InitiationData(), NOW)
    conversation.receive(convai.metadata(output_format, input_format), NOW)
    conversation.drain()
    return conversation


def assert_over(conversation: Conversation) -> None:
    """Nothing comes out any more, whatever goes in."""
    assert conversation.receive(convai.audio(b"x", 99), NOW) == []
    assert conversation.receive("{", NOW) == []
    assert conversation.connection_lost(1006, "") == []
    assert conversation.handle_timer(math.inf) == []
    assert conversation.next_timer() == math.inf
    conversation.send_audio(b"x" * 160)
    conversation.flush_audio()
    conversation.send_tool_result("id", "text", is_error=False)
    conversation.send_contextual_update("text")
    conversation.send_user_message("text")
    conversation.set_writable(False)
    conversation.set_writable(True)
    conversation.finish()
    assert conversation.drain() == []


# --- the handshake ---


def test_the_initiation_goes_first_and_at_once() -> None:
    conversation = new()
    assert conversation.drain() == []
    conversation.start(InitiationData(user_id="u1"), NOW)
    assert conversation.drain() == ['{"type":"conversation_initiation_client_data","user_id":"u1"}']
    assert conversation.drain() == []


def test_a_conversation_starts_once() -> None:
    with pytest.raises(LocalError, match="^the conversation was started already$"):
        started().start(InitiationData(), NOW)


def test_a_conversation_that_is_over_does_not_start() -> None:
    conversation = new()
    conversation.finish()
    assert conversation.drain() == [CLOSE]
    conversation.start(InitiationData(), NOW)
    assert conversation.drain() == []
    assert conversation.next_timer() == math.inf


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("ulaw_8000", ULAW_8K),
        ("pcm_16000", PCM_16K),
        *((f"pcm_{hz}", MediaFormat(PCM_16K.encoding, hz)) for hz in (8000, 22050, 24000, 44100, 48000)),
    ],
)
def test_the_metadata_names_the_formats(name: str, media: MediaFormat) -> None:
    conversation = started()
    assert conversation.receive(convai.metadata(name, "ulaw_8000"), NOW) == [
        AgentReady(convai.CONVERSATION_ID, input_format=ULAW_8K, output_format=media)
    ]
    conversation = started()
    assert conversation.receive(convai.metadata("ulaw_8000", name), NOW) == [
        AgentReady(convai.CONVERSATION_ID, input_format=media, output_format=ULAW_8K)
    ]


def test_metadata_without_formats_means_the_vendors_default() -> None:
    text = (
        '{"type":"conversation_initiation_metadata","conversation_initiation_metadata_event":{"conversation_id":"c"}}'
    )
    assert started().receive(text, NOW) == [AgentReady("c", PCM_16K, PCM_16K)]


@pytest.mark.parametrize(("output_format", "input_format"), [("opus_48000", "ulaw_8000"), ("ulaw_8000", "opus_48000")])
def test_an_unknown_format_ends_the_conversation(output_format: str, input_format: str) -> None:
    conversation = started()
    assert conversation.receive(convai.metadata(output_format, input_format), NOW) == [
        AgentEnded(
            outcome.AGENT_FORMAT,
            "audio format 'opus_48000' is not known; known are ulaw_8000, alaw_8000 and pcm_<rate> with rate in "
            "8000, 16000, 22050, 24000, 44100, 48000",
        )
    ]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


def test_metadata_a_second_time_is_tolerated_and_changes_nothing() -> None:
    conversation = ready()
    assert conversation.receive(convai.metadata("pcm_16000", "pcm_16000"), NOW) == [
        AgentFault("conversation_initiation_metadata a second time")
    ]
    assert conversation.malformed == 1
    conversation.send_audio(numbered(160))
    assert convai.uploaded(conversation.drain()) == [numbered(160)]


def test_no_metadata_in_time() -> None:
    conversation = started()
    assert conversation.next_timer() == NOW + 10.0
    conversation.receive(convai.ping(1), NOW + 9.0)
    conversation.drain()
    assert conversation.handle_timer(NOW + 9.999) == []
    assert conversation.handle_timer(NOW + 10.0) == [AgentEnded(outcome.AGENT_NOT_READY, "no metadata in 10 s")]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


def test_before_the_start_no_time_runs() -> None:
    conversation = new()
    assert conversation.next_timer() == math.inf
    assert conversation.handle_timer(1e9) == []


# --- caller audio ---


def test_caller_audio_goes_up_as_it_is() -> None:
    conversation = ready()
    conversation.send_audio(b"\x7f" * 160)
    (message,) = conversation.drain()
    assert message == '{"user_audio_chunk":"' + "f39/" * 53 + 'fw=="}'


def test_audio_before_the_formats_are_known_is_a_bug_of_ours() -> None:
    with pytest.raises(LocalError, match="^audio before AgentReady: its format is not known yet$"):
        started().send_audio(b"x")


def test_caller_audio_in_chunks_and_the_rest_at_a_pause() -> None:
    conversation = ready(upload_chunk_ms=60)
    audio = numbered(1000)
    for at in range(0, 1000, 160):
        conversation.send_audio(audio[at : at + 160])
    assert convai.uploaded(conversation.drain()) == [audio[:480], audio[480:960]]
    conversation.flush_audio()
    assert convai.uploaded(conversation.drain()) == [audio[960:]]


def test_a_pause_before_the_formats_are_known_is_harmless() -> None:
    conversation = started()
    conversation.flush_audio()
    assert conversation.drain() == []


def test_finish_sends_the_rest_then_closes() -> None:
    conversation = ready(upload_chunk_ms=60)
    conversation.send_audio(b"ab")
    conversation.finish()
    assert conversation.drain() == ['{"user_audio_chunk":"YWI="}', CLOSE]
    assert_over(conversation)


def test_a_stuck_socket_holds_audio_with_a_bound() -> None:
    conversation = ready()
    conversation.set_writable(False)
    audio = numbered(5 * 8000)
    for at in range(0, len(audio), 160):
        conversation.send_audio(audio[at : at + 160])
    assert conversation.drain() == []
    assert conversation.dropped_audio_bytes == 2 * 8000
    conversation.set_writable(True)
    assert b"".join(convai.uploaded(conversation.drain())) == audio[2 * 8000 :]
    conversation.send_audio(b"n" * 160)
    assert convai.uploaded(conversation.drain()) == [b"n" * 160]


def test_a_socket_that_is_stuck_before_the_metadata_stays_so() -> None:
    conversation = started()
    assert conversation.dropped_audio_bytes == 0
    conversation.set_writable(False)
    conversation.receive(convai.metadata(), NOW)
    conversation.send_audio(b"x" * 160)
    assert conversation.drain() == []
    conversation.set_writable(True)
    assert convai.uploaded(conversation.drain()) == [b"x" * 160]


def test_what_was_drained_does_not_grow_afterwards() -> None:
    conversation = ready()
    earlier = conversation.drain()
    conversation.send_user_message("later")
    assert earlier == []
    assert conversation.drain() == ['{"type":"user_message","text":"later"}']


# --- the agent's messages ---


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (convai.audio(b"\x01\x02\x03", 5), AgentAudio(b"\x01\x02\x03", 5)),
        (convai.audio(b"", None), AgentAudio(b"", None)),
        (convai.interruption(5), Interrupted(5)),
        (
            '{"type":"user_transcript","user_transcription_event":{"user_transcript":"hi","event_id":1}}',
            CallerSaid("hi"),
        ),
        (
            '{"type":"agent_response","agent_response_event":{"agent_response":"hello","event_id":2}}',
            AgentSaid("hello"),
        ),
        (
            '{"type":"agent_response_correction","agent_response_correction_event":{"original_agent_response":"ab",'
            '"corrected_agent_response":"a...","event_id":2}}',
            AgentCorrected("a..."),
        ),
        (convai.tool_call("transfer", "id1"), ToolCalled("transfer", "id1", {"destination": "sales"})),
        (
            '{"type":"agent_tool_response","agent_tool_response":{"tool_name":"end_call","is_error":true}}',
            SystemToolRan("end_call", True),
        ),
    ],
)
def test_what_the_agent_says(message: str, event: AgentEvent) -> None:
    conversation = ready()
    assert conversation.receive(message, NOW) == [event]
    assert conversation.drain() == []
    assert conversation.messages_received == 2


def test_a_ping_is_answered_at_once() -> None:
    conversation = started()
    assert conversation.receive(convai.ping(7), NOW) == [Pinged(None)]
    assert conversation.drain() == ['{"type":"pong","event_id":7}']
    assert conversation.receive(convai.ping(8, 42), NOW) == [Pinged(42.0)]
    assert conversation.drain() == ['{"type":"pong","event_id":8}']


def test_what_we_say_beside_audio() -> None:
    conversation = ready()
    conversation.send_tool_result("id1", "done", is_error=False)
    conversation.send_contextual_update("on hold")
    conversation.send_user_message("1234")
    assert conversation.drain() == [
        '{"type":"client_tool_result","tool_call_id":"id1","result":"done","is_error":false}',
        '{"type":"contextual_update","text":"on hold"}',
        '{"type":"user_message","text":"1234"}',
    ]


def test_after_an_interruption_older_audio_is_stale() -> None:
    conversation = ready()
    assert conversation.receive(convai.interruption(5), NOW) == [Interrupted(5)]
    assert conversation.receive(convai.audio(b"1234", 4), NOW) == []
    assert conversation.receive(convai.audio(b"123456", 5), NOW) == []
    assert conversation.stale_audio_bytes == 10
    assert conversation.receive(convai.audio(b"new", 6), NOW) == [AgentAudio(b"new", 6)]
    assert conversation.receive(convai.audio(b"old server", None), NOW) == [AgentAudio(b"old server", None)]
    assert conversation.stale_audio_bytes == 10


def test_a_late_interruption_does_not_revive_audio() -> None:
    conversation = ready()
    conversation.receive(convai.interruption(5), NOW)
    assert conversation.receive(convai.interruption(3), NOW) == [Interrupted(3)]
    assert conversation.receive(convai.audio(b"x", 5), NOW) == []


def test_audio_with_event_id_zero_can_be_void() -> None:
    conversation = ready()
    conversation.receive(convai.interruption(0), NOW)
    assert conversation.receive(convai.audio(b"x", 0), NOW) == []


# --- what the agent's side gets wrong ---


def test_unknown_types_are_ignored_and_counted() -> None:
    conversation = ready()
    for name in ("telepathy", "telekinesis", "telepathy"):
        assert conversation.receive(f'{{"type":"{name}"}}', NOW) == []
    assert conversation.unknown_types == {"telepathy": 2, "telekinesis": 1}
    assert conversation.malformed == 0


def test_types_that_a_phone_call_has_no_use_for_are_not_even_counted() -> None:
    conversation = ready()
    assert conversation.receive('{"type":"vad_score","vad_score_event":{"vad_score":0.9}}', NOW) == []
    assert conversation.unknown_types == {}
    assert conversation.malformed == 0
    assert conversation.messages_received == 2


def test_the_list_of_unknown_types_is_bounded() -> None:
    conversation = ready()
    for number in range(100):
        conversation.receive(f'{{"type":"new_{number}"}}', NOW)
    conversation.receive('{"type":"new_0"}', NOW)
    assert len(conversation.unknown_types) == MALFORMED_LIMIT
    assert conversation.unknown_types["new_0"] == 2


def test_audio_before_the_metadata_is_tolerated() -> None:
    conversation = started()
    assert conversation.receive(convai.audio(b"x"), NOW) == [
        AgentFault("audio before conversation_initiation_metadata")
    ]
    assert conversation.malformed == 1


def test_a_few_broken_messages_are_survived_too_many_are_not() -> None:
    conversation = ready()
    problem = "interruption: Object missing required field `interruption_event`"
    for _ in range(MALFORMED_LIMIT):
        assert conversation.receive('{"type":"interruption"}', NOW) == [AgentFault(problem)]
    assert conversation.drain() == []
    assert conversation.receive('{"type":"interruption"}', NOW) == [
        AgentEnded(outcome.AGENT_GARBAGE, f"21 broken messages; the last: {problem}")
    ]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        (b"\x00", "binary message; the protocol is JSON text"),
        ("<html>", "not a message of the agent protocol: JSON is malformed: invalid character (byte 0)"),
        ("\ud800", "not a message of the agent protocol: 'utf-8' codec can't encode character '\\ud800' in position 0: "
         "surrogates not allowed"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prepare", [started, ready])
def test_what_is_no_conversation_ends_it(prepare: type[Conversation], message: str | bytes, detail: str) -> None:
    conversation = prepare()  # type: ignore[call-arg]  # a function without arguments, either of the two
    assert conversation.receive(message, NOW) == [AgentEnded(outcome.AGENT_GARBAGE, detail)]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


# --- errors ---


def test_an_error_in_the_nested_shape() -> None:
    conversation = ready()
    message = convai.error(1008, "override_error", "Override for\nfield 'first_message' is not allowed.")
    words = "1008 override_error Override for field 'first_message' is not allowed."
    assert conversation.receive(message, NOW) == [AgentFault(words)]
    assert conversation.connection_lost(1008, "override") == [
        AgentEnded(outcome.AGENT_CONFIG, f"close 1008: override; before it: {words}")
    ]
    assert_over(conversation)


def test_an_error_in_the_flat_shape() -> None:
    conversation = ready()
    words = "received 1002 (protocol error) This request exceeds your quota limit."
    assert conversation.receive(convai.FLAT_ERROR, NOW) == [AgentFault(words)]
    assert conversation.connection_lost(1000, "") == [
        AgentEnded(outcome.AGENT_QUOTA, f"close 1000; before it: {words}")
    ]


def test_an_error_before_a_broken_connection_has_the_last_word() -> None:
    conversation = ready()
    conversation.receive(convai.error(1008, "missing_dynamic_variable", "name"), NOW)
    assert conversation.connection_lost(1006, "") == [
        AgentEnded(outcome.AGENT_CONFIG, "close 1006; before it: 1008 missing_dynamic_variable name")
    ]


def test_a_flat_error_with_a_code() -> None:
    conversation = ready()
    assert conversation.receive('{"type":"error","code":1011,"message":"oops"}', NOW) == [AgentFault("1011 oops")]


def test_an_error_without_words() -> None:
    conversation = ready()
    assert conversation.receive('{"type":"error"}', NOW) == [AgentFault("an error without words")]
    assert conversation.receive('{"type":"error","error_event":{"reason":"why"}}', NOW) == [AgentFault("why")]


@pytest.mark.parametrize("close_code", [1000, 1005])
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (convai.error(1002, "llm_timeout", "no answer"), outcome.AGENT_OPERATIONAL),
        (convai.error(1008, "missing_dynamic_variable", "name"), outcome.AGENT_CONFIG),
        (convai.error(1011, "unknown_websocket_crash", ""), outcome.AGENT_CRASHED),
        (convai.error(1000, "max_duration_exceeded", ""), outcome.MAX_DURATION),
        ('{"type":"error","message":"something"}', outcome.AGENT_OPERATIONAL),
    ],
)
def test_a_good_bye_after_an_error_is_none(error: str, reason: EndReason, close_code: int) -> None:
    conversation = ready()
    conversation.receive(error, NOW)
    (ended,) = conversation.connection_lost(close_code, "")
    assert isinstance(ended, AgentEnded)
    assert ended.reason is reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (convai.error(1002, "llm_timeout", ""), outcome.AGENT_OPERATIONAL),
        (convai.error(1008, "value_error", ""), outcome.AGENT_CONFIG),
        (convai.error(1011, "unknown_websocket_crash", ""), outcome.AGENT_CRASHED),
        (convai.error(1000, "max_duration_exceeded", ""), outcome.MAX_DURATION),
        (convai.error(1000, "bye", ""), outcome.AGENT_OPERATIONAL),
        (convai.FLAT_ERROR, outcome.AGENT_QUOTA),
        ('{"type":"error"}', outcome.AGENT_OPERATIONAL),
    ],
)
def test_an_error_without_a_close_is_the_end_after_two_seconds(error: str, reason: EndReason) -> None:
    conversation = ready()
    (fault,) = conversation.receive(error, NOW)
    assert isinstance(fault, AgentFault)
    assert conversation.next_timer() == NOW + CLOSE_AFTER_ERROR_S == NOW + 2.0
    assert conversation.handle_timer(NOW + 1.999) == []
    assert conversation.handle_timer(NOW + 2.0) == [AgentEnded(reason, fault.detail)]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


def test_more_errors_do_not_put_off_the_end() -> None:
    conversation = ready()
    for at in (0.0, 0.5, 1.0, 1.5):
        conversation.receive(convai.error(1002, "llm_error", str(at)), NOW + at)
    assert conversation.handle_timer(NOW + 2.0) == [AgentEnded(outcome.AGENT_OPERATIONAL, "1002 llm_error 1.5")]


# --- ends ---


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1000, outcome.AGENT_HANGUP),
        (1001, outcome.AGENT_OPERATIONAL),
        (1002, outcome.AGENT_OPERATIONAL),
        (1005, outcome.AGENT_HANGUP),
        (1006, outcome.AGENT_LOST),
        (1008, outcome.AGENT_CONFIG),
        (1011, outcome.AGENT_CRASHED),
    ],
)
@pytest.mark.parametrize("prepare", [new, started, ready])
def test_the_socket_goes_at_any_moment(prepare: type[Conversation], code: int, reason: EndReason) -> None:
    conversation = prepare()  # type: ignore[call-arg]  # a function without arguments, one of the three
    assert conversation.connection_lost(code, "") == [AgentEnded(reason, f"close {code}")]
    assert_over(conversation)


def test_the_peers_words_are_made_fit_for_the_log() -> None:
    (ended,) = ready().connection_lost(1002, "a\nb" * 1000)
    assert isinstance(ended, AgentEnded)
    assert ended.detail.startswith("close 1002: a ba ba b")
    assert len(ended.detail) == 300


def test_silence_ends_the_conversation() -> None:
    conversation = ready()
    assert conversation.next_timer() == NOW + 30.0
    conversation.receive('{"type":"vad_score"}', NOW + 29.0)
    assert conversation.handle_timer(NOW + 30.0) == []
    assert conversation.next_timer() == NOW + 59.0
    assert conversation.handle_timer(NOW + 59.0) == [AgentEnded(outcome.AGENT_SILENT, "nothing for 30 s")]
    assert conversation.drain() == [CLOSE]
    assert_over(conversation)


def test_caller_audio_does_not_hide_the_agents_silence() -> None:
    conversation, clock = ready(), FakeClock(NOW)
    ends: list[object] = []
    while not ends and clock.now < NOW + 60:
        conversation.send_audio(b"\xff" * 160)
        ends = [event for result in clock.run(conversation, 0.5) for event in result]  # type: ignore[attr-defined]
    assert ends == [AgentEnded(outcome.AGENT_SILENT, "nothing for 30 s")]


# --- anything at all ---

_wire = st.one_of(
    st.text(st.characters(), max_size=50),
    st.binary(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ).map(json.dumps),
)
_TEMPLATES = [
    convai.metadata(), convai.metadata("pcm_16000", "nonsense"), convai.audio(b"abc", 3), convai.audio(b"", None),
    convai.interruption(3), convai.ping(1), convai.tool_call("t", "1"), convai.error(1002, "x", "y"),
    convai.FLAT_ERROR, '{"type":"user_transcript"}', '{"type":"unknown"}', '{"type":"agent_tool_response"}',
]  # fmt: skip


@st.composite
def _almost_right(draw: st.DrawFn) -> str:
    """A message of the protocol with a piece cut out or put in."""
    text = draw(st.sampled_from(_TEMPLATES))
    at, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    return text[:at] + draw(st.sampled_from(["", "null", "1", '"', "{}", "[]", "-1e9"])) + text[end:]


@given(st.lists(st.sampled_from(_TEMPLATES) | _almost_right() | _wire | st.floats(0, 40), max_size=20))
@settings(max_examples=250, deadline=None)
def test_nothing_that_a_server_sends_raises_and_the_end_comes_once(inputs: list[str | bytes | float]) -> None:
    conversation, now = new(), NOW
    conversation.start(InitiationData(), now)
    happened: list[AgentEvent] = []
    for message in inputs:
        if isinstance(message, float):
            now += message
            happened += conversation.handle_timer(now)
        else:
            happened += conversation.receive(message, now)
    happened += conversation.connection_lost(1006, "")
    ends = [event for event in happened if isinstance(event, AgentEnded)]
    assert len(ends) == 1
    assert happened[-1] is ends[0]
    assert len(ends[0].detail) <= 300
    out = conversation.drain()
    assert CLOSE not in out[:-1]
    assert_over(conversation)


def test_the_short_cut_leaves_binary_to_receive() -> None:
    assert ready().read_audio(convai.audio(b"\x01" * 160).encode(), NOW) is None


# --- another conversation in its place ---


def test_a_successor_begins_afresh_with_the_same_options() -> None:
    first = ready()
    first.receive(convai.interruption(7), NOW)
    first.set_writable(False)
    first.connection_lost(1006, "")
    second = first.successor()
    assert not second.is_over
    assert second.drain() == []
    assert second.next_timer() == math.inf
    second.start(InitiationData(), NOW)
    assert second.next_timer() == first._options.ready_timeout_s + NOW
    assert len(second.drain()) == 1
    second.receive(convai.metadata(), NOW)
    assert second.receive(convai.audio(b"abc", 1), NOW) == [AgentAudio(b"abc", 1)], "interruptions were the first one's"
    second.send_audio(b"\x01" * 8000)
    assert second.drain(), "and so was the stuck socket"
    assert first.drain() == []


def test_a_conversation_is_over_when_either_side_has_ended_it() -> None:
    ours, theirs = ready(), ready()
    assert [each.is_over for each in (ours, theirs)] == [False, False]
    ours.finish()
    theirs.connection_lost(1000, "")
    assert [each.is_over for each in (ours, theirs)] == [True, True]
