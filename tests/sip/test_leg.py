"""The SIP leg: what the call sees of a line. The contract of all legs is in ``tests/conformance``."""

from __future__ import annotations

import dataclasses
import math
from base64 import b64encode

import pytest

from bridge import events, outcome
from bridge.errors import LocalError
from bridge.events import Accept, Answer, Audio, Dtmf, Ended, Flush, Hangup, Mark, Offered, Play, Reject, SendDtmf
from bridge.leg import AuthContext, CloseSocket, LegOptions, UpgradeRequest
from bridge.media.format import Encoding, MediaFormat
from bridge.outcome import CATALOGUE, EndReason
from bridge.sip.leg import SPEC, SipLeg, State, refusal_status
from bridge.sip.line_words import Invite, encode

OPTIONS = LegOptions(start_timeout_s=5.0, silence_timeout_s=30.0)
REQUEST = UpgradeRequest("", {})
ULAW = MediaFormat(Encoding.ULAW, 8000)
FRAME = bytes(range(160))
INVITE = (
    '{"event":"invite","call_sid":"a84b4c76e66710@pc33","trunk":"berlin","caller":"+15550001111",'
    '"called":"+15550002222","encoding":"ulaw","parameters":{"x_shop":"7"}}'
)


def offered(invite: str = INVITE, options: LegOptions = OPTIONS) -> tuple[SipLeg, Offered]:
    leg = SipLeg(options, REQUEST, 100.0)
    (offer,) = leg.receive(invite, 100.0)
    assert isinstance(offer, Offered)
    return leg, offer


def ringing(options: LegOptions = OPTIONS) -> SipLeg:
    leg, offer = offered(options=options)
    leg.send(Accept(offer.media_choices[0]), 100.0)
    assert leg.drain() == ['{"order":"ring"}']
    return leg


def live() -> SipLeg:
    leg = ringing()
    leg.send(Answer(), 101.0)
    assert leg.drain() == ['{"order":"pick_up"}']
    return leg


def test_the_offer_says_who_calls_over_which_trunk() -> None:
    _, offer = offered()
    assert offer.info == events.CallInfo(
        provider="sip",
        call_sid="a84b4c76e66710@pc33",
        account_id="berlin",
        caller="+15550001111",
        called="+15550002222",
        parameters={"x_shop": "7"},
    )
    assert offer.media_choices == (ULAW,)
    assert offer.rings


def test_a_call_of_ours_is_offered_with_its_token_and_does_not_ring() -> None:
    invite = Invite(
        call_sid="c1",
        trunk="t",
        direction="outbound",
        token="once",
        encoding=Encoding.ALAW,
        answers_at_once=True,
    )
    leg, offer = offered(encode(invite))
    assert (offer.info.direction, offer.info.token, offer.rings) == ("outbound", "once", False)
    leg.send(Accept(MediaFormat(Encoding.ALAW, 8000)), 100.0)
    assert leg.drain() == ['{"order":"pick_up"}']
    assert leg.state is State.LIVE


def test_it_rings_until_the_agent_is_there() -> None:
    leg = ringing()
    assert leg.relay(FRAME, 100.0) is None
    assert leg.read_audio(FRAME, 100.0) is None
    assert leg.audio_message(FRAME) is None
    assert leg.receive(FRAME, 100.0) == [], "nobody is there to hear it"
    leg.send(Answer(), 101.0)
    leg.send(Answer(), 102.0)
    assert leg.drain() == ['{"order":"pick_up"}']


@pytest.mark.parametrize(
    ("command", "order"),
    [
        (Play(FRAME), FRAME),
        (Mark("m1"), '{"order":"mark","mark":"m1"}'),
        (Flush(), '{"order":"clear"}'),
        (SendDtmf("12w#"), '{"order":"press","digits":"12w#"}'),
    ],
)
def test_whoever_is_to_hear_something_is_answered_for_it(command: events.Command, order: str | bytes) -> None:
    leg = ringing()
    leg.send(command, 101.0)
    assert leg.drain() == ['{"order":"pick_up"}', order]


def test_audio_goes_both_ways_by_the_short_cuts() -> None:
    leg = live()
    leg.set_relay('{"user_audio_chunk":"', '"}', range(160, 161))
    assert leg.relay(FRAME, 102.0) == f'{{"user_audio_chunk":"{b64encode(FRAME).decode()}"}}'
    assert (leg.relayed, leg.last_payload, leg.position) == (1, FRAME, 160)
    assert leg.relay(FRAME[:80], 102.0) is None, "of another size"
    assert leg.relay("{}", 102.0) is None
    assert leg.read_audio(FRAME, 102.0) == FRAME
    assert leg.read_audio("{}", 102.0) is None
    assert leg.receive(FRAME, 102.0) == [Audio(FRAME, 320)]
    assert leg.receive(b"", 102.0) == []
    assert leg.audio_message(FRAME) == FRAME


def test_keys_holds_and_marks() -> None:
    leg = live()
    assert leg.receive('{"event":"dtmf","digit":"5","duration_ms":120}', 102.0) == [Dtmf("5", 120)]
    assert leg.receive('{"event":"held"}', 102.0) == [events.Paused()]
    assert leg.receive('{"event":"unheld"}', 102.0) == [events.Resumed()]
    leg.send(Mark("m1"), 102.0)
    assert leg.receive('{"event":"played","mark":"m2"}', 102.0) == [], "none of ours"
    assert leg.receive('{"event":"played","mark":"m1"}', 102.0) == [events.PlaybackReached("m1")]
    assert leg.receive('{"event":"played","mark":"m1"}', 102.0) == [], "once"


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("bye", outcome.CALLER_HANGUP),
        ("cancelled", outcome.CALLER_HANGUP),
        ("no_media", outcome.CARRIER_SILENT),
        ("not_acceptable", outcome.UNSUPPORTED_MEDIA),
        ("no_ack", outcome.CARRIER_LOST),
        ("timeout", outcome.CARRIER_LOST),
        ("transport", outcome.CARRIER_LOST),
    ],
)
def test_how_the_line_ends(how: str, reason: EndReason) -> None:
    leg = live()
    assert leg.receive(f'{{"event":"over","how":"{how}","detail":"Normal Clearing"}}', 103.0) == [
        Ended(reason, "Normal Clearing")
    ]
    assert leg.receive('{"event":"over","how":"bye"}', 103.0) == []
    assert isinstance(leg.drain()[-1], CloseSocket)
    assert live().receive(f'{{"event":"over","how":"{how}"}}', 103.0) == [Ended(reason, how)]


@pytest.mark.parametrize(
    ("reason", "status", "retry_after_s"),
    [
        (outcome.CAPACITY, 486, 0),
        (outcome.RATE_LIMITED, 486, 0),
        (outcome.DRAINING, 503, 10),
        (outcome.LIMITS_UNKNOWN, 503, 10),
        (outcome.AGENT_QUOTA, 503, 10),
        (outcome.AGENT_UNREACHABLE, 504, 0),
        (outcome.AGENT_NOT_READY, 504, 0),
        (outcome.AGENT_UNAUTHORIZED, 502, 0),
        (outcome.PERSONALIZATION_FAILED, 502, 0),
        (outcome.UNSUPPORTED_MEDIA, 488, 0),
        (outcome.BUG, 500, 0),
        (outcome.OPERATOR_HANGUP, 480, 0),
    ],
)
def test_what_a_caller_is_told_who_was_never_answered(reason: EndReason, status: int, retry_after_s: int) -> None:
    leg = ringing()
    leg.send(Hangup(reason), 105.0)
    end, closing = leg.drain()
    retry = f'"retry_after_s":{retry_after_s}'
    assert end == f'{{"order":"end","status":{status},{retry},"cause":"{reason}"}}'
    assert closing == CloseSocket()
    assert refusal_status(reason) == (status, retry_after_s)


def test_every_end_has_a_final_status() -> None:
    for reason in CATALOGUE.values():
        for when_full in ("busy", "unavailable"):
            status, retry_after_s = refusal_status(reason, when_full=when_full)
            assert 400 <= status <= 699
            assert (retry_after_s > 0) == (status == 503)


def test_a_full_bridge_may_send_carriers_elsewhere() -> None:
    options = dataclasses.replace(OPTIONS, carrier={"sip_when_full": "unavailable"})
    leg, _ = offered(options=options)
    leg.send(Reject(outcome.CAPACITY), 100.0)
    assert leg.drain()[0] == '{"order":"end","status":503,"retry_after_s":10,"cause":"server_error/capacity"}'


def test_a_number_without_an_agent_is_not_found_before_it_rings() -> None:
    leg, _ = offered()
    leg.send(Reject(outcome.AGENT_NOT_FOUND), 100.0)
    assert leg.drain()[0] == ('{"order":"end","status":404,"retry_after_s":0,"cause":"upstream_error/agent_not_found"}')
    leg = ringing()
    leg.send(Hangup(outcome.AGENT_NOT_FOUND), 100.0)
    assert '"status":502' in str(leg.drain()[0]), "it rang: whoever is behind it failed"


def test_a_line_that_breaks_its_own_words() -> None:
    for notice in (FRAME, '{"event":"held"}'):
        leg = SipLeg(OPTIONS, REQUEST, 100.0)
        (ended,) = leg.receive(notice, 100.0)
        assert isinstance(ended, Ended)
        assert ended.reason is outcome.BAD_MESSAGE
    leg, _ = offered()
    (ended,) = leg.receive('{"event":"pigeon"}', 100.0)
    assert isinstance(ended, Ended)
    assert leg.unreadable == 1
    assert leg.drain()[0] == ('{"order":"end","status":500,"retry_after_s":0,"cause":"client_error/bad_message"}')


def test_timers() -> None:
    leg = SipLeg(OPTIONS, REQUEST, 100.0)
    assert leg.next_timer() == 105.0
    assert leg.handle_timer(104.9) == []
    assert leg.handle_timer(105.0) == [Ended(outcome.NO_START, "no invite in 5 s")]
    assert live().next_timer() == math.inf
    assert not live().lingering()


def test_misuse() -> None:
    with pytest.raises(LocalError, match="REFER"):
        live().send(events.Transfer("+15550003333"), 100.0)
    leg, _ = offered()
    with pytest.raises(LocalError, match="accept it first"):
        leg.send(Answer(), 100.0)


def test_no_websocket_becomes_a_sip_call() -> None:
    assert SPEC.authenticate_upgrade(REQUEST, AuthContext("", {}, 0.0)) == "SIP calls do not come by WebSocket"
