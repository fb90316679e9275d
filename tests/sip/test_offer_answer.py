"""Offer and answer: codecs and payload types, holding, refused lines, versions; whole descriptions as they go out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.media.format import Encoding
from bridge.sip.offer_answer import AudioOptions, AudioSession, NotAcceptable
from bridge.sip.sdp import AddressKind, Direction, parse_sdp

LOCAL = ("198.51.100.7", 20000)
OUR_OFFER = (
    "v=0\r\n"
    "o=- 77 77 IN IP4 198.51.100.7\r\n"
    "s=-\r\n"
    "c=IN IP4 198.51.100.7\r\n"
    "t=0 0\r\n"
    "m=audio 20000 RTP/AVP 0 8 13 101\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:13 CN/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 0-15\r\n"
    "a=ptime:20\r\n"
    "a=sendrecv\r\n"
)


def session(options: AudioOptions | None = None) -> AudioSession:
    return AudioSession(options or AudioOptions(), LOCAL, 77)


def offer(formats: str = "0 8 101", *lines: str, host: str = "203.0.113.5", port: int = 17204) -> bytes:
    """A peer's description with one audio line."""
    text = [
        "v=0",
        "o=x 1 1 IN IP4 203.0.113.5",
        "s=-",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP {formats}",
    ]
    return "\r\n".join([*text, "a=rtpmap:101 telephone-event/8000", *lines, ""]).encode()


def test_an_offer_is_answered_with_one_codec_and_its_own_payload_types() -> None:
    one = session()
    answer = one.answer(offer("8 0 96 13", "a=rtpmap:96 telephone-event/8000", "a=ptime:30", "a=maxptime:150"))
    assert answer == (
        "v=0\r\n"
        "o=- 77 77 IN IP4 198.51.100.7\r\n"
        "s=-\r\n"
        "c=IN IP4 198.51.100.7\r\n"
        "t=0 0\r\n"
        "m=audio 20000 RTP/AVP 0 13 96\r\n"
        "a=rtpmap:0 PCMU/8000\r\n"
        "a=rtpmap:13 CN/8000\r\n"
        "a=rtpmap:96 telephone-event/8000\r\n"
        "a=fmtp:96 0-15\r\n"
        "a=ptime:20\r\n"
        "a=sendrecv\r\n"
    )
    agreed = one.agreement
    assert agreed is not None
    assert (agreed.encoding, agreed.payload_type, agreed.receive_types) == (Encoding.ULAW, 0, {0: Encoding.ULAW})
    assert (agreed.event_type, agreed.event_receive_types, agreed.noise_types) == (96, frozenset({96}), frozenset({13}))
    assert agreed.audio_receive_types == {0, 13}
    assert (agreed.remote, agreed.remote_rtcp) == (("203.0.113.5", 17204), ("203.0.113.5", 17205))
    assert (agreed.peer_ptime_ms, agreed.peer_max_ptime_ms) == (30, 60)
    assert agreed.may_send
    assert agreed.expects_media
    assert not agreed.is_held_by_peer


@pytest.mark.parametrize(
    ("codecs", "formats", "encoding", "payload_type"),
    [
        ((Encoding.ULAW, Encoding.ALAW), "8 0", Encoding.ULAW, 0),
        ((Encoding.ALAW, Encoding.ULAW), "0 8", Encoding.ALAW, 8),
        ((Encoding.ULAW, Encoding.ALAW), "18 8", Encoding.ALAW, 8),
        ((Encoding.ALAW,), "0 8", Encoding.ALAW, 8),
        ((Encoding.ULAW,), "97 8", Encoding.ULAW, 97),
    ],
)
def test_the_trunk_s_order_decides(
    codecs: tuple[Encoding, ...], formats: str, encoding: Encoding, payload_type: int
) -> None:
    one = session(AudioOptions(codecs))
    one.answer(offer(formats, "a=rtpmap:97 pcmu/8000/1"))
    assert one.agreement is not None
    assert (one.agreement.encoding, one.agreement.payload_type) == (encoding, payload_type)


def test_what_is_switched_off_is_neither_offered_nor_answered() -> None:
    one = session(AudioOptions((Encoding.ALAW,), has_events=False, has_comfort_noise=False))
    assert "m=audio 20000 RTP/AVP 8\r\n" in one.offer()
    one.withdraw()
    assert "m=audio 20000 RTP/AVP 8\r\n" in one.answer(offer("8 13 101"))
    assert one.agreement is not None
    assert (one.agreement.event_type, one.agreement.noise_types) == (None, frozenset())


@pytest.mark.parametrize("line", ["a=rtpmap:97\tPCMU/8000", "a=rtpmap:97   pcmu/8000 "])
def test_maps_are_read_whatever_their_blanks(line: str) -> None:
    one = session()
    assert "m=audio 20000 RTP/AVP 97\r\n" in one.answer(offer("97", line, "a=rtpmap", "a=rtpmap:98"))


def test_events_at_another_rate_and_unmapped_types_are_left_out() -> None:
    one = session()
    answer = one.answer(offer("0 100 99 x 300", "a=rtpmap:100 telephone-event/16000"))
    assert "m=audio 20000 RTP/AVP 0\r\n" in answer
    assert one.agreement is not None
    assert one.agreement.event_type is None


def test_a_static_type_cannot_be_given_another_meaning() -> None:
    with pytest.raises(NotAcceptable):
        session().answer(offer("9 3", "a=rtpmap:9 PCMU/8000"))


def test_refused_lines_stay_in_their_places() -> None:
    body = (
        b"v=0\r\no=- 1 1 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n"
        b"m=video 6000 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n"
        b"m=audio 6002 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x\r\n"
        b"m=audio 6004 RTP/AVP 0\r\n"
        b"m=image 6006 udptl t38\r\n"
    )
    one = session()
    lines = [line for line in one.answer(body).split("\r\n") if line.startswith("m=")]
    assert lines == [
        "m=video 0 RTP/AVP 96",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 20000 RTP/AVP 0",
        "m=image 0 udptl t38",
    ]
    again = [line for line in one.offer().split("\r\n") if line.startswith("m=")]
    assert again == [
        "m=video 0 RTP/AVP 96",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 20000 RTP/AVP 0 8 13 101",
        "m=image 0 udptl t38",
    ]


def test_the_profile_of_the_offer_is_kept() -> None:
    one = session()
    assert "m=audio 20000 RTP/AVPF 0 101\r\n" in one.answer(offer().replace(b"RTP/AVP", b"RTP/AVPF"))
    assert "m=audio 20000 RTP/AVPF 0 8 13 101\r\n" in one.offer()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (offer("18 9"), "SDP: no audio that we can take is offered"),
        (offer(port=0), "SDP: no audio that we can take is offered"),
        (offer().replace(b"RTP/AVP", b"RTP/SAVP"), "SDP: only SRTP is offered"),
        (offer().replace(b"c=IN IP4 203.0.113.5\r\n", b""), "SDP: no audio that we can take is offered"),
        (offer().replace(b"m=audio", b"m=video"), "SDP: no audio that we can take is offered"),
        (b"", "SDP: no audio that we can take is offered"),
    ],
)
def test_an_offer_without_anything_for_us_changes_nothing(body: bytes, words: str) -> None:
    one = session()
    before = one.answer(offer())
    agreement = one.agreement
    with pytest.raises(NotAcceptable) as caught:
        one.answer(body)
    assert str(caught.value) == words
    assert one.agreement is agreement
    assert one.answer(offer()) == before


@pytest.mark.parametrize(
    ("line", "host", "ours", "is_held", "expects"),
    [
        ("a=sendrecv", "203.0.113.5", Direction.SENDRECV, False, True),
        ("a=sendonly", "203.0.113.5", Direction.RECVONLY, True, False),
        ("a=recvonly", "203.0.113.5", Direction.SENDONLY, False, False),
        ("a=inactive", "203.0.113.5", Direction.INACTIVE, True, False),
        ("a=sendrecv", "0.0.0.0", Direction.RECVONLY, True, False),
        ("a=sendonly", "0.0.0.0", Direction.RECVONLY, True, False),
        ("a=recvonly", "0.0.0.0", Direction.INACTIVE, True, False),
    ],
)
def test_hold_and_resume(line: str, host: str, ours: Direction, is_held: bool, expects: bool) -> None:
    one = session()
    one.answer(offer())
    held = one.answer(offer("0 8 101", line, host=host))
    assert f"a={ours.value}\r\n" in held
    assert one.agreement is not None
    assert (one.agreement.direction, one.agreement.is_held_by_peer) == (ours, is_held)
    assert one.agreement.expects_media is expects
    assert (one.agreement.remote is None) is (host == "0.0.0.0")
    assert (one.agreement.remote_kind is AddressKind.UNSPECIFIED) is (host == "0.0.0.0")
    resumed = one.answer(offer())
    assert "a=sendrecv\r\n" in resumed
    assert one.agreement.may_send


def test_we_can_hold_too() -> None:
    one = session()
    one.offer()
    one.accept(offer())
    assert "a=sendonly\r\n" in one.offer(Direction.SENDONLY)
    agreed = one.accept(offer("0", "a=recvonly"))
    assert agreed.direction is Direction.SENDONLY
    assert "a=inactive\r\n" in one.answer(offer("0", "a=sendonly"), Direction.SENDONLY)


def test_the_version_rises_with_changes_only() -> None:
    one = session()
    versions = [
        parse_sdp(one.answer(body).encode()).origin.version
        for body in (offer(), offer(), offer("0 101", "a=sendonly"), offer("0 101", "a=sendonly"), offer())
    ]
    assert versions == ["77", "77", "78", "78", "79"]


def test_our_offer_and_its_answer() -> None:
    one = session()
    assert one.offer() == OUR_OFFER
    agreed = one.accept(offer("8 0 100", "a=rtpmap:100 telephone-event/8000", "a=rtcp:9000"))
    # The answer's order counts, keys go out under the answer's number, and come under either.
    assert (agreed.encoding, agreed.payload_type) == (Encoding.ALAW, 8)
    assert agreed.receive_types == {0: Encoding.ULAW, 8: Encoding.ALAW}
    assert (agreed.event_type, agreed.event_receive_types) == (100, frozenset({100, 101}))
    assert agreed.noise_types == frozenset({13})
    assert agreed.remote_rtcp == ("203.0.113.5", 9000)
    assert one.agreement is agreed


def test_a_second_offer_names_the_codec_in_use_first_and_keeps_our_numbers() -> None:
    one = session()
    one.offer()
    one.accept(offer("8 100", "a=rtpmap:100 telephone-event/8000"))
    assert "m=audio 20000 RTP/AVP 8 0 13 101\r\n" in one.offer()
    assert "o=- 77 78 IN" in one.offer()


def test_the_codec_in_use_stays_when_the_peer_offers_again() -> None:
    one = session()
    one.answer(offer("8 101"))
    assert "m=audio 20000 RTP/AVP 8 101\r\n" in one.answer(offer("0 8 101"))


def test_keys_keep_the_number_that_the_first_offer_gave_them() -> None:
    one = session()
    one.answer(offer("0 96", "a=rtpmap:96 telephone-event/8000"))
    assert "m=audio 20000 RTP/AVP 0 8 13 96\r\n" in one.offer()


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (offer(port=0), NotAcceptable, "SDP: the answer refuses our audio"),
        (offer("18"), NotAcceptable, "SDP: the answer refuses our audio"),
        (b"v=0\r\n", RemoteError, "SDP: the answer has 0 m= lines, too few"),
        (b"v=2\r\n", RemoteError, "SDP: the version is not 0"),
    ],
)
def test_an_answer_that_cannot_be_used(body: bytes, error: type[RemoteError], words: str) -> None:
    one = session()
    one.offer()
    with pytest.raises(error) as caught:
        one.accept(body)
    assert str(caught.value) == words
    assert one.agreement is None
    assert one.has_offered
    one.withdraw()
    assert "a=sendrecv\r\n" in one.answer(offer())


def test_glare_and_answers_to_nothing_are_our_own_mistakes() -> None:
    one = session()
    with pytest.raises(LocalError, match="there is no offer of ours"):
        one.accept(offer())
    one.offer()
    with pytest.raises(LocalError, match="glare"):
        one.answer(offer())


@pytest.mark.parametrize("codecs", [(), (Encoding.ULAW, Encoding.ULAW), (Encoding.L16,)])
def test_bad_options(codecs: tuple[Encoding, ...]) -> None:
    with pytest.raises(LocalError):
        AudioOptions(codecs)


def test_an_answer_may_ask_for_a_codec_of_ours_only() -> None:
    one = session(AudioOptions((Encoding.ALAW,)))
    one.offer()
    with pytest.raises(NotAcceptable):
        one.accept(offer("0"))


def test_rtcp_on_the_rtp_port() -> None:
    one = session()
    assert "a=rtcp-mux\r\n" in one.answer(offer("0", "a=rtcp-mux"))
    assert one.agreement is not None
    assert one.agreement.is_rtcp_muxed
    assert one.agreement.remote_rtcp == one.agreement.remote
    asking = session(AudioOptions(has_rtcp_mux=True))
    assert "a=rtcp-mux\r\n" in asking.offer()
    assert not asking.accept(offer("0")).is_rtcp_muxed


@pytest.mark.parametrize(
    ("line", "port", "rtcp"),
    [
        ("a=rtcp:53020 IN IP4 203.0.113.99", 17204, ("203.0.113.99", 53020)),
        ("a=rtcp:53020", 17204, ("203.0.113.5", 53020)),
        ("a=rtcp:x", 17204, ("203.0.113.5", 17205)),
        ("a=rtcp:999999", 17204, ("203.0.113.5", 17205)),
        ("a=rtcp", 17204, ("203.0.113.5", 17205)),
        ("a=x", 65535, None),
    ],
)
def test_where_rtcp_goes(line: str, port: int, rtcp: tuple[str, int] | None) -> None:
    one = session()
    one.answer(offer("0", line, port=port))
    assert one.agreement is not None
    assert one.agreement.remote_rtcp == rtcp


@pytest.mark.parametrize(
    ("line", "ptime"), [("a=ptime:5", 10), ("a=ptime:100", 60), ("a=ptime:x", 20), ("a=ptime:30.5", 30), ("a=x", 20)]
)
def test_packet_times_are_brought_into_range(line: str, ptime: int) -> None:
    one = session()
    one.answer(offer("0", line))
    assert one.agreement is not None
    assert one.agreement.peer_ptime_ms == ptime
    assert one.agreement.peer_max_ptime_ms is None


def test_ipv6() -> None:
    one = AudioSession(AudioOptions(), ("2001:db8::1", 20000), 5)
    body = offer().replace(b"c=IN IP4 203.0.113.5", b"c=IN IP6 2600::9")
    answer = one.answer(body)
    assert "o=- 5 5 IN IP6 2001:db8::1\r\n" in answer
    assert "c=IN IP6 2001:db8::1\r\n" in answer
    assert one.agreement is not None
    assert one.agreement.remote == ("2600::9", 17204)
    assert one.agreement.remote_kind is AddressKind.PUBLIC


def test_a_private_address_is_shown_and_not_judged() -> None:
    one = session()
    one.answer(offer(host="192.168.1.20"))
    assert one.agreement is not None
    assert (one.agreement.remote, one.agreement.remote_kind) == (("192.168.1.20", 17204), AddressKind.PRIVATE)


@given(st.lists(st.sampled_from(offer("8 0 101 13", "a=ptime:20", "a=rtcp:1").decode().split("\r\n")), max_size=25))
def test_lines_in_any_order_raise_nothing_else(lines: list[str]) -> None:
    one = session()
    body = "\r\n".join(lines).encode()
    try:
        answer = one.answer(body)
    except RemoteError:
        return
    offered, answered = parse_sdp(body), parse_sdp(answer.encode())
    assert len(offered.media) == len(answered.media)
    assert [media.port for media in answered.media].count(20000) == 1
