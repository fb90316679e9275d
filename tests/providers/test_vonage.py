"""The Vonage leg, message by message. Whole streams are in ``test_vonage_transcripts``, the contract in conformance."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import events, outcome
from bridge.errors import LocalError
from bridge.events import Accept, Audio, CallInfo, Dtmf, Ended, Flush, Hangup, Mark, Offered, Play, PlaybackReached
from bridge.leg import CloseSocket, LegOptions, ToneWay, TransferKind, UpgradeRequest
from bridge.media.format import MediaFormat
from bridge.outcome import EndReason
from bridge.providers.vonage import MAX_MARKS, SPEC, State, VonageLeg
from tests.kit.vonage import UUID, connected, frame

OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=30.0)
REQUEST = UpgradeRequest("/vonage/media", {})
NOW = 100.0
CLEARED = '{"event":"websocket:cleared"}'


def new(request: UpgradeRequest = REQUEST) -> VonageLeg:
    return VonageLeg(OPTIONS, request, NOW)


def live(rate_hz: int = 16000, request: UpgradeRequest = REQUEST) -> VonageLeg:
    leg = new(request)
    (offer,) = leg.receive(connected(rate_hz), NOW)
    assert isinstance(offer, Offered)
    leg.send(Accept(offer.media_choices[0]), NOW)
    assert leg.drain() == []
    return leg


def notified(mark: str) -> str:
    return json.dumps({"event": "websocket:notify", "payload": {"mark": mark}})


def assert_ended(leg: VonageLeg, happened: list[events.Event], reason: EndReason, detail: str) -> None:
    assert happened == [Ended(reason, detail)]
    assert leg.drain() == [CloseSocket(1000, reason.reason)]
    assert leg.state is State.OVER


# --- the card ----------------------------------------------------------------------------------------------


def test_the_card() -> None:
    assert SPEC.media_paths == ("/vonage/media",)
    assert SPEC.needs_token
    assert SPEC.chunk_ms == 20
    assert SPEC.lead_ms == 400
    assert SPEC.tones is ToneWay.CONTROL
    assert SPEC.transfers == {TransferKind.WARM, TransferKind.BLIND}
    assert SPEC.refusal_status == 401


# --- the beginning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_a_call_is_offered_with_its_rate(rate_hz: int) -> None:
    assert new().receive(connected(rate_hz, plan="gold"), NOW) == [
        Offered(
            CallInfo(provider="vonage", call_sid=UUID, token="t1", parameters={"plan": "gold"}),
            (MediaFormat.parse(f"pcm_{rate_hz}"),),
        )
    ]


def test_a_wrong_rate_ends_the_call_with_its_reason() -> None:
    leg = new()
    detail = "websocket:connected: content-type: rate '44100' with '1' channels is not 8000, 16000 or 24000, mono"
    assert_ended(leg, leg.receive(connected(44100), NOW), outcome.UNSUPPORTED_MEDIA, detail)


def test_a_call_whose_id_is_none_ends() -> None:
    leg = new()
    happened = leg.receive(connected(uuid="../.."), NOW)
    assert_ended(leg, happened, outcome.BAD_MESSAGE, "websocket:connected: uuid is no id of a call")


@pytest.mark.parametrize(
    ("message", "reason", "detail"),
    [
        (frame(), outcome.BAD_MESSAGE, "binary message before websocket:connected"),
        (b"", outcome.BAD_MESSAGE, "binary message before websocket:connected"),
        ('{"event":"websocket:dtmf","digit":"1"}', outcome.BAD_MESSAGE, "websocket:dtmf before websocket:connected"),
        ('{"event":"websocket:disconnected"}', outcome.NO_START, "websocket:disconnected"),
    ],
)
def test_what_may_not_come_first(message: str | bytes, reason: EndReason, detail: str) -> None:
    leg = new()
    assert_ended(leg, leg.receive(message, NOW), reason, detail)


def test_text_that_is_no_json_ends_the_call() -> None:
    for leg in (new(), live()):
        (ended,) = leg.receive("hello", NOW)
        assert isinstance(ended, Ended)
        assert ended.reason is outcome.BAD_MESSAGE
        assert ended.detail.startswith("text that is no JSON object: ")
        assert leg.drain() == [CloseSocket(1000, "bad_message")]


def test_a_second_beginning_ends_the_call() -> None:
    leg = live()
    happened = leg.receive(connected(), NOW)
    assert_ended(leg, happened, outcome.BAD_MESSAGE, "websocket:connected a second time")


def test_news_before_the_beginning_is_let_be() -> None:
    leg = new()
    assert leg.receive('{"event":"websocket:news"}', NOW) == []
    assert leg.receive(CLEARED, NOW) == []
    assert leg.receive(notified("g0:1"), NOW) == []
    assert leg.unknown_events == 1


# --- audio from the caller ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_a_frame_passes_as_it_is(rate_hz: int) -> None:
    leg = live(rate_hz)
    message = frame(5, rate_hz)
    assert len(message) == {8000: 320, 16000: 640, 24000: 960}[rate_hz]
    (audio,) = leg.receive(message, NOW)
    assert audio == Audio(message, 0)
    assert isinstance(audio, Audio)
    assert audio.payload is message
    assert leg.read_audio(message, NOW) is message
    assert leg.receive(message, NOW) == [Audio(message, rate_hz // 25)]
    assert leg.odd_sizes == 0


def test_audio_before_the_call_was_taken_is_given_too() -> None:
    leg = new()
    leg.receive(connected(), NOW)
    assert leg.receive(frame(), NOW) == [Audio(frame(), 0)]


def test_the_shortest_cut() -> None:
    leg = live()
    assert leg.relay(frame(), NOW) is None
    leg.set_relay("<", ">", range(640, 8000))
    relayed = leg.relay(frame(0), NOW + 7)
    assert relayed == "<" + "A" * 854 + "==>"
    assert (leg.relayed, leg.position) == (1, 320)
    assert leg.next_timer() == NOW + 37
    assert leg.relay(frame() * 2, NOW) is None
    assert leg.relay(connected(), NOW) is None
    leg.set_relay("<", ">", range(0))
    assert leg.relay(frame(), NOW) is None


def test_messages_of_other_sizes_become_frames() -> None:
    leg = live()
    leg.set_relay("<", ">", range(640, 8000))
    stream = bytes(range(256)) * 10  # four frames
    assert leg.receive(stream[:160], NOW) == []
    assert leg.relay(stream[:640], NOW) is None
    assert leg.read_audio(stream[:640], NOW) is None
    assert leg.receive(stream[160:799], NOW) == [Audio(stream[:640], 0)]
    assert leg.receive(stream[799:2559], NOW) == [Audio(stream[640:1920], 320)]
    assert leg.receive(stream[2559:], NOW) == [Audio(stream[1920:], 960)]
    assert leg.odd_sizes == 4
    assert leg.receive(b"", NOW) == []
    assert leg.odd_sizes == 5
    assert leg.read_audio(stream[:640], NOW) == stream[:640]


def test_a_whole_frame_brings_the_stream_into_step_again() -> None:
    leg = live()
    assert leg.receive(b"\x01" * 101, NOW) == []
    assert leg.receive(frame(2), NOW) == [Audio(b"\x01" * 100 + frame(2), 0)]
    assert leg.position == 370
    assert leg.read_audio(frame(3), NOW) == frame(3)


def test_json_sent_as_binary_is_not_played_to_the_agent() -> None:
    leg = live()
    assert leg.receive(b'{"event":"websocket:dtmf","digit":"1"}', NOW) == []
    assert leg.misplaced_texts == 1
    assert leg.receive(frame(), NOW) == [Audio(frame(), 0)]
    sound = b"{" + frame()[:-2] + b"}"
    assert leg.receive(sound, NOW) == [Audio(sound, 320)]


@given(st.lists(st.binary(max_size=2000).filter(lambda piece: len(piece) != 640 and piece[:1] != b"{"), max_size=12))
def test_whatever_is_cut_how_comes_in_frames(pieces: list[bytes]) -> None:
    leg = live()
    heard = b""
    for piece in pieces:
        for event in leg.receive(piece, NOW):
            assert isinstance(event, Audio)
            assert event.position == len(heard) // 2
            heard += event.payload
    stream = b"".join(pieces)
    assert heard == stream[: len(stream) // 640 * 640]
    assert leg.odd_sizes == len(pieces)


# --- audio to the caller -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
def test_every_message_is_one_frame(rate_hz: int) -> None:
    leg = live(rate_hz)
    leg.send(Play(frame(1, rate_hz) + frame(2, rate_hz) + frame(3, rate_hz)), NOW)
    assert leg.drain() == [frame(1, rate_hz), frame(2, rate_hz), frame(3, rate_hz)]


def test_a_tail_is_filled_up_with_silence() -> None:
    leg = live()
    leg.send(Play(frame(1) + b"\x07" * 99), NOW)
    assert leg.drain() == [frame(1), b"\x07" * 99 + b"\0" * 541]
    leg.send(Play(b""), NOW)
    assert leg.drain() == []


def test_the_short_way_takes_one_frame() -> None:
    leg = new()
    leg.receive(connected(), NOW)
    assert leg.audio_message(frame()) is None
    leg.send(Accept(MediaFormat.parse("pcm_16000")), NOW)
    assert leg.audio_message(frame()) == frame()
    for payload in (b"", frame()[:-2], frame() * 2):
        assert leg.audio_message(payload) is None
    leg.send(Hangup(outcome.AGENT_HANGUP), NOW)
    assert leg.audio_message(frame()) is None


@given(st.binary(max_size=5000))
def test_no_message_is_ever_short(payload: bytes) -> None:
    leg = live()
    leg.send(Play(payload), NOW)
    out = leg.drain()
    assert all(isinstance(message, bytes) and len(message) == 640 for message in out)
    assert b"".join(out).startswith(payload)  # type: ignore[arg-type]  # all are bytes


# --- marks and clear ---------------------------------------------------------------------------------------


def test_a_mark_comes_back_once() -> None:
    leg = live()
    leg.send(Mark("g0:1"), NOW)
    assert leg.drain() == ['{"action":"notify","payload":{"mark":"g0:1"}}']
    assert leg.receive(notified("g0:1"), NOW) == [PlaybackReached("g0:1")]
    assert leg.receive(notified("g0:1"), NOW) == []
    assert leg.receive(notified("other"), NOW) == []


def test_cleared_stands_for_the_marks_before_the_clear() -> None:
    leg = live()
    leg.send(Mark("g0:1"), NOW)
    leg.send(Mark("g0:2"), NOW)
    leg.send(Flush(), NOW)
    leg.send(Mark("g1:3"), NOW)
    assert leg.drain()[2] == '{"action":"clear"}'
    assert leg.receive(notified("g0:1"), NOW) == [PlaybackReached("g0:1")]  # some come back all the same
    assert leg.receive(CLEARED, NOW) == [PlaybackReached("g0:2")]
    assert leg.receive(notified("g0:2"), NOW) == []
    assert leg.receive(CLEARED, NOW) == []  # we cleared once
    assert leg.receive(notified("g1:3"), NOW) == [PlaybackReached("g1:3")]


def test_two_clears_are_confirmed_one_after_the_other() -> None:
    leg = live()
    for name in ("g0:1", "g1:2"):
        leg.send(Mark(name), NOW)
        leg.send(Flush(), NOW)
    assert leg.receive(CLEARED, NOW) == [PlaybackReached("g0:1")]
    assert leg.receive(CLEARED, NOW) == [PlaybackReached("g1:2")]


def test_marks_that_never_come_back_do_not_pile_up() -> None:
    leg = live()
    for number in range(MAX_MARKS + 2):
        leg.send(Mark(f"g0:{number}"), NOW)
    leg.send(Flush(), NOW)
    assert leg.receive(notified("g0:1"), NOW) == []
    assert len(leg.receive(CLEARED, NOW)) == MAX_MARKS


def test_the_video_api_is_cleared_in_its_own_words() -> None:
    leg = live(request=UpgradeRequest("/vonage/media", {"x-opentok-ws-connectionid": "c1"}))
    leg.send(Flush(), NOW)
    assert leg.drain() == ['{"event":"websocket:cleared"}']


# --- keys and news -----------------------------------------------------------------------------------------


def test_keys() -> None:
    leg = live()
    assert leg.receive('{"event":"websocket:dtmf","digit":"5","duration":260}', NOW) == [Dtmf("5", 260)]
    assert leg.receive('{"event":"websocket:dtmf","dtmf":{"digit":"#"}}', NOW) == [Dtmf("#", 0)]
    assert leg.receive('{"event":"websocket:dtmf","digit":"x"}', NOW) == []
    assert leg.malformed_events == 1


def test_unknown_events_are_counted() -> None:
    leg = live()
    for message in ('{"event":"websocket:media:update","active":true}', "{}", '{"event":null}'):
        assert leg.receive(message, NOW) == []
    assert leg.unknown_events == 3


# --- ends --------------------------------------------------------------------------------------------------


def test_the_video_api_says_good_bye() -> None:
    leg = live()
    happened = leg.receive('{"event":"websocket:disconnected"}', NOW)
    assert_ended(leg, happened, outcome.CALLER_HANGUP, "websocket:disconnected")


@pytest.mark.parametrize(
    ("code", "reason", "detail"),
    [
        (1000, outcome.CALLER_HANGUP, "close 1000"),
        (1001, outcome.CALLER_HANGUP, "close 1001"),
        (1005, outcome.CALLER_HANGUP, "close 1005"),
        (1006, outcome.CARRIER_LOST, "close 1006"),
        (1007, outcome.BAD_MESSAGE, "a text message that is not UTF-8"),
        (1009, outcome.MESSAGE_TOO_BIG, "a message over 65536 bytes"),
    ],
)
def test_a_lost_socket(code: int, reason: EndReason, detail: str) -> None:
    leg = live()
    assert leg.connection_lost(code, NOW) == [Ended(reason, detail)]
    assert leg.drain() == []


def test_a_socket_lost_before_the_beginning_was_no_call() -> None:
    assert new().connection_lost(1000, NOW) == [Ended(outcome.NO_START, "close 1000 before websocket:connected")]


def test_no_beginning_in_time() -> None:
    leg = new()
    assert leg.next_timer() == NOW + 5
    assert leg.handle_timer(NOW + 4.9) == []
    assert_ended(leg, leg.handle_timer(NOW + 5), outcome.NO_START, "no websocket:connected in 5 s")
    assert leg.next_timer() == math.inf


def test_a_silent_peer_is_noticed() -> None:
    leg = live()
    leg.read_audio(frame(), NOW + 1)
    assert leg.handle_timer(NOW + 30.9) == []
    assert_ended(leg, leg.handle_timer(NOW + 31), outcome.CARRIER_SILENT, "nothing for 30 s")


def test_our_own_end_closes_the_socket() -> None:
    leg = live()
    leg.send(Hangup(outcome.AGENT_HANGUP), NOW)
    assert leg.drain() == [CloseSocket(1000, "agent_hangup")]
    assert leg.read_audio(frame(), NOW) is None
    assert leg.receive(frame(), NOW) == []
    assert not leg.lingering()


@pytest.mark.parametrize("command", [events.SendDtmf("1"), events.Transfer("+4930123456")])
def test_what_only_the_rest_api_can(command: events.Command) -> None:
    leg = live()
    with pytest.raises(LocalError, match=r"^a media socket cannot carry \w+; it needs Vonage's REST API$"):
        leg.send(command, NOW)


def test_a_call_is_taken_in_its_own_format() -> None:
    leg = new()
    leg.receive(connected(), NOW)
    with pytest.raises(LocalError, match=r"^Accept\(pcm_8000\) in state offered; offered was MediaFormat"):
        leg.send(Accept(MediaFormat.parse("pcm_8000")), NOW)
