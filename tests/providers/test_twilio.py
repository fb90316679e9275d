"""The Twilio leg: recorded transcripts, commands, and every fault of the wire by its exact words."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from bridge import outcome
from bridge.auth.twilio import sign_upgrade
from bridge.errors import LocalError
from bridge.events import (
    Accept,
    Audio,
    CallInfo,
    Command,
    Dtmf,
    Ended,
    Event,
    Flush,
    Hangup,
    Mark,
    Offered,
    Play,
    PlaybackReached,
    Reject,
    SendDtmf,
    Transfer,
)
from bridge.leg import AuthContext, CloseSocket, LegOptions, UpgradeRequest
from bridge.media.format import ALAW_8K, PCM_8K, PCM_16K, ULAW_8K, Encoding, MediaFormat
from bridge.outcome import EndReason
from bridge.providers.twilio import SPEC, State, TwilioLeg, authenticate_upgrade
from tests.kit import twilio
from tests.kit.legs import REQUEST

NOW = 100.0
OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=60.0)
FRAME = b"\x7f" * 160


def new() -> TwilioLeg:
    return TwilioLeg(OPTIONS, REQUEST, NOW)


def offered(media_format: dict[str, object] | None = None) -> TwilioLeg:
    leg = new()
    leg.receive(twilio.CONNECTED, NOW)
    leg.receive(twilio.start({}, media_format or twilio.ULAW), NOW)
    return leg


def live() -> TwilioLeg:
    leg = offered()
    leg.send(Accept(ULAW_8K), NOW)
    return leg


def assert_ended(leg: TwilioLeg, happened: list[Event], reason: EndReason, detail: str) -> None:
    """Exactly this end, the socket is closed with the reason's name, and nothing comes after it."""
    assert happened == [Ended(reason, detail)]
    assert leg.drain() == [CloseSocket(1000, reason.reason)]
    assert_over(leg)


def assert_over(leg: TwilioLeg) -> None:
    assert leg.state is State.OVER
    for message in (twilio.CONNECTED, twilio.start(), twilio.media(FRAME), twilio.STOP, "{", b"x"):
        assert leg.receive(message, NOW) == []
    for command in (Accept(PCM_16K), Play(FRAME), Mark("m"), Flush(), SendDtmf("1"), Hangup(outcome.AGENT_HANGUP)):
        leg.send(command, NOW)
    assert leg.connection_lost(1006, NOW) == []
    assert leg.next_timer() == math.inf
    assert leg.handle_timer(NOW + 1e6) == []
    assert leg.drain() == []


# --- the offer ---


def test_start_offers_the_call() -> None:
    leg = new()
    assert leg.receive(twilio.CONNECTED, NOW) == []
    assert leg.state.value == "waiting"
    parameters = {"token": "t1", "caller": "+15550100", "called": "+4930123456", "tenant": "acme"}
    assert leg.receive(twilio.start(parameters), NOW) == [
        Offered(
            CallInfo(
                provider="twilio",
                call_sid="CAcbe9bbb9d4c24cb1a7d5ab1c4e8e2ac7",
                stream_id="MZ18ad3ab5a668481ce02b83e7395059f0",
                account_id="AC00000000000000000000000000000001",
                caller="+15550100",
                called="+4930123456",
                token="t1",
                parameters={"tenant": "acme"},
            ),
            (ULAW_8K,),
        )
    ]
    assert leg.state.value == "offered"
    assert leg.drain() == []


def test_start_without_connected_and_without_parameters() -> None:
    (offer,) = new().receive(twilio.start(), NOW)
    assert isinstance(offer, Offered)
    assert (offer.info.token, offer.info.caller, offer.info.called, offer.info.parameters) == ("", "", "", {})


@pytest.mark.parametrize(
    ("media_format", "media"),
    [
        (twilio.ULAW, ULAW_8K),
        ({"encoding": "AUDIO/X-MULAW", "sampleRate": "8000", "channels": "1"}, ULAW_8K),
        ({"encoding": "audio/x-mulaw", "sampleRate": 8000}, ULAW_8K),
        ({"encoding": "audio/x-alaw", "sampleRate": 8000, "channels": 1}, ALAW_8K),
        ({"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}, PCM_16K),
        ({"encoding": "audio/l16", "sampleRate": 8000, "channels": 1}, PCM_8K),
    ],
)
def test_the_announced_format_is_obeyed(media_format: dict[str, object], media: MediaFormat) -> None:
    (offer,) = new().receive(twilio.start({}, media_format), NOW)
    assert isinstance(offer, Offered)
    assert offer.media_choices == (media,)


@pytest.mark.parametrize(
    ("media_format", "problem"),
    [
        (
            {"encoding": "audio/opus", "sampleRate": 48000, "channels": 1},
            "encoding 'audio/opus' is none of audio/x-mulaw, audio/x-alaw, audio/x-l16, audio/l16",
        ),
        (
            {"encoding": "x" * 100, "sampleRate": 8000},
            f"encoding '{'x' * 40}' is none of audio/x-mulaw, audio/x-alaw, audio/x-l16, audio/l16",
        ),
        (
            {"encoding": "audio/x-mulaw", "sampleRate": 16000},
            "ulaw_16000 with 1 channels; G.711 is 8000 Hz and streams are mono",
        ),
        (
            {"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 2},
            "pcm_16000 with 2 channels; G.711 is 8000 Hz and streams are mono",
        ),
        ({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 3}, "channels is 3; supported are 1 and 2"),
        (
            {"encoding": "audio/x-mulaw", "sampleRate": 11025},
            "rate_hz is 11025; supported are (8000, 16000, 22050, 24000, 44100, 48000)",
        ),
        (
            {"encoding": "audio/x-mulaw", "sampleRate": "fast"},
            "invalid literal for int() with base 10: 'fast'",
        ),
    ],
)
def test_a_format_that_nobody_speaks_ends_the_call(media_format: dict[str, object], problem: str) -> None:
    leg = new()
    happened = leg.receive(twilio.start({}, media_format), NOW)
    assert_ended(leg, happened, outcome.UNSUPPORTED_MEDIA, f"start.mediaFormat: {problem}")


@pytest.mark.parametrize("field", ["streamSid", "callSid"])
def test_a_stream_needs_its_ids(field: str) -> None:
    message = json.loads(twilio.start())
    message["start"][field] = ""
    leg = new()
    happened = leg.receive(json.dumps(message), NOW)
    assert_ended(leg, happened, outcome.BAD_MESSAGE, "start: streamSid or callSid is empty")


# --- events ---


@pytest.mark.parametrize("prepare", [offered, live])
def test_caller_audio_comes_accepted_or_not(prepare: Any) -> None:
    leg = prepare()
    assert leg.receive(twilio.media(FRAME, 0), NOW) == [Audio(FRAME, 0)]
    assert leg.receive(twilio.media(b"\x00", 12345), NOW) == [Audio(b"\x00", 98760)]


def test_a_text_that_is_none_is_a_broken_message() -> None:
    assert live().connection_lost(1007, NOW) == [Ended(outcome.BAD_MESSAGE, "a text message that is not UTF-8")]


def test_rates_that_are_no_whole_kilohertz_are_refused() -> None:
    leg = new()
    [ended] = leg.receive(twilio.start({}, {"encoding": "audio/l16", "sampleRate": 22050, "channels": 1}), NOW)
    assert ended == Ended(outcome.UNSUPPORTED_MEDIA, "start.mediaFormat: pcm_22050; rates are whole kilohertz")


def test_a_timestamp_that_is_no_number_ends_no_call() -> None:
    leg = live()
    message = twilio.media(FRAME).replace('"timestamp": "0"', '"timestamp": "soon"')
    assert "soon" in message
    assert leg.receive(message, NOW) == [Audio(FRAME, 0)]


def test_the_short_cuts_do_what_receive_and_send_do() -> None:
    leg = live()
    assert leg.read_audio(twilio.media(FRAME), NOW + 30.0) == FRAME
    assert leg.next_timer() == NOW + 30.0 + OPTIONS.silence_timeout_s
    encoded = leg.audio_message(FRAME)
    leg.send(Play(FRAME), NOW)
    assert leg.drain() == [encoded]


@pytest.mark.parametrize(
    "message",
    [
        twilio.media(b""),
        twilio.media(FRAME, stream_sid="MZ2"),
        twilio.media(FRAME).replace("inbound", "outbound"),
        twilio.media(FRAME).encode(),
        twilio.dtmf("1"),
        twilio.STOP,
        "not JSON",
    ],
)
def test_the_short_cut_leaves_all_else_to_receive(message: str | bytes) -> None:
    leg = live()
    assert leg.read_audio(message, NOW) is None
    assert leg.drain() == []
    assert leg.state is State.LIVE


def test_there_is_no_short_cut_before_accept_and_after_the_end() -> None:
    assert new().read_audio(twilio.media(FRAME), NOW) is None
    assert offered().audio_message(FRAME) is None
    leg = live()
    leg.receive(twilio.STOP, NOW)
    assert leg.read_audio(twilio.media(FRAME), NOW) is None
    assert leg.audio_message(FRAME) is None


def test_positions_count_samples_of_the_stream() -> None:
    assert offered(twilio.L16_16K).receive(twilio.media(b"\x00\x01", 40), NOW) == [Audio(b"\x00\x01", 640)]


# --- HD: L16 at any rate ---

HD: list[tuple[dict[str, object], MediaFormat]] = [
    ({"encoding": "audio/x-l16", "sampleRate": 8000, "channels": 1}, PCM_8K),
    ({"encoding": "audio/x-l16", "sampleRate": 16000, "channels": 1}, PCM_16K),
    ({"encoding": "audio/l16", "sampleRate": "24000", "channels": "1"}, MediaFormat(Encoding.L16, 24000)),
]


def live_hd(media_format: dict[str, object], media: MediaFormat) -> TwilioLeg:
    leg = offered(media_format)
    leg.send(Accept(media), NOW)
    return leg


@pytest.mark.parametrize(("media_format", "media"), HD)
def test_linear_audio_goes_both_ways_as_it_is(media_format: dict[str, object], media: MediaFormat) -> None:
    leg = live_hd(media_format, media)
    frame = bytes(range(256))[: media.size_bytes(20)] * 4
    assert leg.receive(twilio.media(frame, 20), NOW) == [Audio(frame, media.rate_hz * 20 // 1000)]
    assert leg.read_audio(twilio.media(frame), NOW) == frame
    leg.set_relay("<", ">", range(1, 10_000))
    assert leg.relay(twilio.media(frame), NOW) == f"<{base64.b64encode(frame).decode()}>"
    leg.send(Play(frame), NOW)
    assert twilio.played(leg.drain()) == frame
    encoded = leg.audio_message(frame)
    assert encoded is not None
    assert twilio.played([encoded]) == frame


@pytest.mark.parametrize(("media_format", "media"), HD)
def test_half_a_sample_waits_for_its_other_half(media_format: dict[str, object], media: MediaFormat) -> None:
    leg = live_hd(media_format, media)
    leg.set_relay("<", ">", range(1, 100))
    assert leg.receive(twilio.media(b"abc"), NOW) == [Audio(b"ab", 0)]
    assert leg.receive(twilio.media(b"de"), NOW) == [Audio(b"cd", 0)]
    assert leg.receive(twilio.media(b"f"), NOW) == [Audio(b"ef", 0)]
    assert leg.receive(twilio.media(b"g"), NOW) == []
    assert leg.receive(twilio.media(b"h"), NOW) == [Audio(b"gh", 0)]


def test_only_whole_samples_pass_unseen() -> None:
    """Audio that skipped the half sample before it would be noise from there on."""
    leg = live_hd(*HD[1])
    leg.set_relay("<", ">", range(1, 100))
    assert leg.relay(twilio.media(b"abc"), NOW) is None
    assert leg.read_audio(twilio.media(b"abc"), NOW) is None
    assert leg.relay(twilio.media(b"ab"), NOW) == "<YWI=>"
    assert leg.receive(twilio.media(b"abc"), NOW) == [Audio(b"ab", 0)]
    for _ in range(2):
        assert leg.relay(twilio.media(b"de"), NOW) is None
        assert leg.read_audio(twilio.media(b"de"), NOW) is None
        leg.set_relay("<", ">", range(1, 100))  # as the call does after audio by the long way
    assert leg.receive(twilio.media(b"d"), NOW) == [Audio(b"cd", 0)]
    leg.set_relay("<", ">", range(1, 100))
    assert leg.read_audio(twilio.media(b"ef"), NOW) == b"ef"
    assert leg.relay(twilio.media(b"ef"), NOW) == "<ZWY=>"
    assert leg.relayed == 2


@pytest.mark.parametrize(("given", "even"), [(range(0), []), (range(1, 6), [2, 4]), (range(2, 7), [2, 4, 6])])
def test_sizes_of_whole_samples(given: range, even: list[int]) -> None:
    leg = live_hd(*HD[1])
    leg.set_relay("<", ">", given)
    assert [size for size in range(10) if leg.relay(twilio.media(b"x" * size), NOW)] == even


def test_mu_law_has_no_half_samples() -> None:
    leg = live()
    leg.set_relay("<", ">", range(1, 100))
    assert leg.receive(twilio.media(b"abc"), NOW) == [Audio(b"abc", 0)]
    assert leg.read_audio(twilio.media(b"abc"), NOW) == b"abc"
    assert leg.relay(twilio.media(b"abc"), NOW) == "<YWJj>"


def test_audio_of_the_other_track_and_empty_audio_are_ignored() -> None:
    leg = live()
    assert leg.receive(twilio.media(FRAME, track="outbound"), NOW) == []
    assert leg.receive(twilio.media(b""), NOW) == []
    assert leg.state is State.LIVE


@pytest.mark.parametrize("digit", "0123456789*#ABCD")
def test_keys(digit: str) -> None:
    assert live().receive(twilio.dtmf(digit), NOW) == [Dtmf(digit, 0)]


def test_a_mark_comes_back() -> None:
    assert live().receive(twilio.mark("g3:7"), NOW) == [PlaybackReached("g3:7")]


def test_connected_at_an_odd_time_is_harmless() -> None:
    assert live().receive(twilio.CONNECTED, NOW) == []


def test_unknown_events_are_ignored_and_counted() -> None:
    leg = new()
    assert leg.receive('{"event":"hologram"}', NOW) == []
    assert leg.receive('{"event":"telepathy","streamSid":"MZ?"}', NOW) == []
    assert leg.unknown_events == 2
    assert leg.state is State.WAITING
    assert leg.drain() == []


# --- commands ---


def test_what_goes_to_twilio_is_exact() -> None:
    leg = live()
    leg.send(Play(b"\x7f\xff\x00"), NOW)
    leg.send(Mark("g0:1"), NOW)
    leg.send(Flush(), NOW)
    assert leg.drain() == [
        '{"event":"media","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","media":{"payload":"f/8A"}}',
        '{"event":"mark","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","mark":{"name":"g0:1"}}',
        '{"event":"clear","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0"}',
    ]
    assert leg.drain() == []


def test_what_was_drained_does_not_grow_afterwards() -> None:
    leg = live()
    earlier = leg.drain()
    leg.send(Flush(), NOW)
    assert earlier == []
    assert len(leg.drain()) == 1


@pytest.mark.parametrize("command", [Hangup(outcome.AGENT_HANGUP), Reject(outcome.CAPACITY)])
@pytest.mark.parametrize("prepare", [new, offered, live])
def test_hanging_up_is_closing_the_socket(prepare: Any, command: Hangup | Reject) -> None:
    leg = prepare()
    leg.send(command, NOW)
    assert leg.drain() == [CloseSocket(1000, command.reason.reason)]
    assert_over(leg)


@pytest.mark.parametrize("command", [Play(FRAME), Mark("m"), Flush()])
@pytest.mark.parametrize(("prepare", "state"), [(new, "waiting"), (offered, "offered")])
def test_playing_before_accept_is_a_bug_of_ours(prepare: Any, state: str, command: Command) -> None:
    leg = prepare()
    with pytest.raises(LocalError, match=f"^{type(command).__name__} in state {state}; Accept comes first$"):
        leg.send(command, NOW)
    assert leg.drain() == []


@pytest.mark.parametrize(("prepare", "media"), [(new, ULAW_8K), (offered, PCM_16K), (live, ULAW_8K)])
def test_accepting_what_was_not_offered_is_a_bug_of_ours(prepare: Any, media: MediaFormat) -> None:
    leg = prepare()
    with pytest.raises(LocalError, match=rf"^Accept\({media.name}\) in state {leg.state.value}; offered was "):
        leg.send(Accept(media), NOW)


@pytest.mark.parametrize("command", [SendDtmf("1"), Transfer("+15550100")])
def test_a_stream_has_no_hands(command: Command) -> None:
    name = type(command).__name__
    with pytest.raises(LocalError, match=f"^a media stream cannot carry {name}; it needs Twilio's REST API$"):
        live().send(command, NOW)


# --- ends ---


def test_stop_is_the_callers_hang_up_and_lets_the_socket_go() -> None:
    leg = live()
    assert_ended(leg, leg.receive(twilio.STOP, NOW), outcome.CALLER_HANGUP, "stop")


@pytest.mark.parametrize(
    ("prepare", "code", "reason", "detail"),
    [
        (new, 1000, outcome.NO_START, "close 1000 before start"),
        (new, 1006, outcome.NO_START, "close 1006 before start"),
        (offered, 1006, outcome.CARRIER_LOST, "close 1006 without stop"),
        (live, 1000, outcome.CALLER_HANGUP, "close 1000 without stop"),
        (live, 1001, outcome.CALLER_HANGUP, "close 1001 without stop"),
        (live, 1005, outcome.CALLER_HANGUP, "close 1005 without stop"),
        (live, 1006, outcome.CARRIER_LOST, "close 1006 without stop"),
        (live, 1011, outcome.CARRIER_LOST, "close 1011 without stop"),
        (new, 1009, outcome.MESSAGE_TOO_BIG, "a message over 65536 bytes"),
        (live, 1009, outcome.MESSAGE_TOO_BIG, "a message over 65536 bytes"),
    ],
)
def test_the_socket_goes(prepare: Any, code: int, reason: EndReason, detail: str) -> None:
    leg = prepare()
    assert leg.connection_lost(code, NOW) == [Ended(reason, detail)]
    assert leg.drain() == []
    assert_over(leg)


# --- time ---


def test_no_start_in_time() -> None:
    leg = new()
    leg.receive(twilio.CONNECTED, NOW + 4.0)
    leg.receive('{"event":"hologram"}', NOW + 4.9)
    assert leg.next_timer() == NOW + 5.0
    assert leg.handle_timer(NOW + 4.999) == []
    assert_ended(leg, leg.handle_timer(NOW + 5.0), outcome.NO_START, "no start in 5 s")


@pytest.mark.parametrize("prepare", [offered, live])
def test_a_silent_carrier_is_gone(prepare: Any) -> None:
    leg = prepare()
    assert leg.next_timer() == NOW + 60.0
    leg.receive('{"event":"hologram"}', NOW + 59.0)
    assert leg.handle_timer(NOW + 60.0) == []
    assert leg.next_timer() == NOW + 119.0
    assert leg.handle_timer(NOW + 118.999) == []
    assert_ended(leg, leg.handle_timer(NOW + 119.0), outcome.CARRIER_SILENT, "nothing for 60 s")


# --- faults ---


@pytest.mark.parametrize(
    ("prepare", "message", "detail"),
    [
        (new, "x", "not a Media Streams message: JSON is malformed: invalid character (byte 0)"),
        (live, "", "not a Media Streams message: Input data was truncated"),
        (live, "\ud800", "not a Media Streams message: 'utf-8' codec can't encode character '\\ud800' in position 0: "
         "surrogates not allowed"),
        (new, b"x", "binary message; Media Streams are JSON text"),
        (live, b"", "binary message; Media Streams are JSON text"),
        (new, twilio.media(FRAME), "media before start"),
        (new, twilio.mark("m"), "mark before start"),
        (new, twilio.dtmf("1"), "dtmf before start"),
        (new, twilio.STOP, "stop before start"),
        (offered, twilio.start(), "start a second time"),
        (live, twilio.start(), "start a second time"),
        (live, twilio.media(FRAME, stream_sid="MZ2"), "media: streamSid is not the one of start"),
        (live, twilio.mark("m", stream_sid="MZ2"), "mark: streamSid is not the one of start"),
        (live, twilio.dtmf("1", stream_sid="MZ2"), "dtmf: streamSid is not the one of start"),
        (live, '{"event":"stop","streamSid":"MZ2"}', "stop: streamSid is not the one of start"),
        (live, '{"event":"media","streamSid":"MZ1"}', "media: Object missing required field `media`"),
        (live, '{"event":"media","streamSid":"MZ1","media":{"payload":"%%%"}}',
         "media: Invalid base64 encoded string - at `$.media.payload`"),
        (live, '{"event":"media","streamSid":"MZ18ad3ab5a668481ce02b83e7395059f0","media":{"payload":"AA==",'
         '"track":"both"}}', "media: Invalid enum value 'both' - at `$.media.track`"),
        (live, '{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":5}}',
         "dtmf: Expected `str`, got `int` - at `$.dtmf.digit`"),
        (live, twilio.dtmf("12"), "dtmf.digit is not one of 0-9 * # A-D"),
        (live, twilio.dtmf(""), "dtmf.digit is not one of 0-9 * # A-D"),
        (live, twilio.dtmf("E"), "dtmf.digit is not one of 0-9 * # A-D"),
    ],
)  # fmt: skip
def test_a_fault_of_the_peer_ends_the_call(prepare: Any, message: str | bytes, detail: str) -> None:
    leg = prepare()
    assert_ended(leg, leg.receive(message, NOW), outcome.BAD_MESSAGE, detail)


# --- the upgrade ---


def upgrade(path: str, signature: str | None, **secrets: tuple[str, ...]) -> str:
    headers = {} if signature is None else {"x-twilio-signature": signature}
    context = AuthContext(public_url="https://bridge.example.com/b", secrets=secrets, unix_s=0.0)
    return authenticate_upgrade(UpgradeRequest(path, headers), context)


def test_an_upgrade_signed_with_the_auth_token_is_let_in() -> None:
    signature = sign_upgrade("secret", "wss://bridge.example.com/b/twilio/media")
    assert upgrade("/twilio/media", signature, twilio_auth_token=("older", "secret")) == ""


def test_an_upgrade_of_a_sub_account_is_let_in() -> None:
    signature = sign_upgrade("sub-token", "wss://bridge.example.com/b/twilio/media")
    secrets = {"twilio_auth_token": ("secret",), "twilio_subaccount_tokens": (f"AC{'2' * 32}=sub-token",)}
    assert upgrade("/twilio/media", signature, **secrets) == ""


@pytest.mark.parametrize(
    ("signature", "secrets", "problem"),
    [
        (None, {"twilio_auth_token": ("secret",)}, "no X-Twilio-Signature header"),
        ("x", {}, "TWILIO_AUTH_TOKEN is not set, so nothing can be verified"),
        (
            "x",
            {"twilio_auth_token": ("secret",), "twilio_shared_keys": ("k1=s1",)},
            "signature does not match for URL wss://bridge.example.com/b/twilio/media; is PUBLIC_URL what Twilio was "
            "told?",
        ),
    ],
)
def test_any_other_upgrade_is_not(signature: str | None, secrets: dict[str, tuple[str, ...]], problem: str) -> None:
    assert upgrade("/twilio/media", signature, **secrets) == problem


def test_the_card() -> None:
    assert (SPEC.name, SPEC.media_paths, SPEC.needs_token) == ("twilio", ("/twilio/media",), True)
    assert SPEC.new_leg(OPTIONS, REQUEST, NOW).next_timer() == NOW + 5.0
