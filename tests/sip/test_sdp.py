"""Session descriptions: what is read, what is written, and that nothing else than ``RemoteError`` comes of bad ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import LocalError, RemoteError
from bridge.sip.sdp import (
    MAX_BYTES,
    AddressKind,
    Attribute,
    Direction,
    Media,
    Origin,
    SessionDescription,
    address_kind,
    build_sdp,
    parse_sdp,
)

TRUNK = (
    b"v=0\r\n"
    b"o=root 1821 1822 IN IP4 203.0.113.5\r\n"
    b"s=Trunk call\r\n"
    b"c=IN IP4 203.0.113.5\r\n"
    b"t=0 0\r\n"
    b"a=direction:both\r\n"
    b"m=audio 17204 RTP/AVP 0 8 101\r\n"
    b"a=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\n"
    b"a=fmtp:101 0-16\r\n"
    b"a=silenceSupp:off - - - -\r\n"
    b"a=sendrecv\r\n"
    b"m=video 0 RTP/AVP 31\r\n"
    b"c=IN IP6 2001:db8::7\r\n"
)


def test_a_trunk_s_description_is_read() -> None:
    description = parse_sdp(TRUNK)
    audio, video = description.media
    assert description.origin == Origin("1821", "1822", "203.0.113.5", "root")
    assert (description.name, description.host) == ("Trunk call", "203.0.113.5")
    assert (audio.kind, audio.port, audio.protocol, audio.formats) == ("audio", 17204, "RTP/AVP", ("0", "8", "101"))
    assert audio.values("rtpmap") == ["0 PCMU/8000", "8 PCMA/8000", "101 telephone-event/8000"]
    assert (description.host_of(audio), description.host_of(video)) == ("203.0.113.5", "2001:db8::7")
    assert audio.has("sendrecv")
    assert not video.has("sendrecv")


def test_what_was_read_is_written_back_the_same() -> None:
    text = build_sdp(parse_sdp(TRUNK))
    assert text.encode() == TRUNK.replace(b"silenceSupp", b"silencesupp")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r", b"\n\n", b" \r\n"])
def test_any_line_end_will_do(line_end: bytes) -> None:
    assert parse_sdp(TRUNK.replace(b"\r\n", line_end)) == parse_sdp(TRUNK)


def test_missing_and_unknown_lines_are_tolerated() -> None:
    description = parse_sdp(
        b"nonsense\n=x\ni=info\nb=AS:64\nm=audio 4000/2 RTP/AVP 0\nc=IN IP4 224.2.1.1/127/3\nk=clear"
    )
    assert description == SessionDescription(
        Origin("0", "0", "0.0.0.0"), (Media("audio", 4000, "RTP/AVP", ("0",), "224.2.1.1"),)
    )


def test_text_that_is_no_utf_8_is_tolerated() -> None:
    assert parse_sdp(b"v=0\r\ns=\xff\xfe\r\n").name == "��"


def test_nothing_at_all_is_a_description_without_media() -> None:
    assert parse_sdp(b"").media == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"v=1\r\n", "SDP: the version is not 0"),
        (b"o=- 1 2 IN IP4\r\n", "SDP: o= has 5 fields instead of 6"),
        (b"c=IN IP4\r\n", "SDP: c= is not 'IN IP4 address' or 'IN IP6 address'"),
        (b"c=ATM NSAP 47.0091\r\n", "SDP: c= is not 'IN IP4 address' or 'IN IP6 address'"),
        (b"m=audio 1 RTP/AVP\r\n", "SDP: m= has 3 fields instead of 4 to 67"),
        (b"m=audio 1 RTP/AVP" + b" 0" * 65, "SDP: m= has 68 fields instead of 4 to 67"),
        (b"m=audio 65536 RTP/AVP 0\r\n", "SDP: the port of m= is not a number from 0 to 65535"),
        (b"m=audio -1 RTP/AVP 0\r\n", "SDP: the port of m= is not a number from 0 to 65535"),
        (b"m=audio \xd9\xa1 RTP/AVP 0\r\n", "SDP: the port of m= is not a number from 0 to 65535"),
        (b"m=audio 0 RTP/AVP 0\r\n" * 17, "SDP: 17 m= lines are more than 16"),
        (b"a=x\r\n" * 512, "SDP: 513 lines are more than 512"),
        (b"a" * (MAX_BYTES + 1), "SDP: 16385 bytes are more than 16384"),
    ],
)
def test_what_cannot_be_read_is_named(body: bytes, words: str) -> None:
    with pytest.raises(RemoteError) as caught:
        parse_sdp(body)
    assert str(caught.value) == words


@given(st.one_of(st.binary(max_size=300), st.lists(st.sampled_from(TRUNK.split(b"\r\n")), max_size=30).map(b"\n".join)))
def test_arbitrary_bytes_raise_nothing_else(body: bytes) -> None:
    try:
        description = parse_sdp(body)
    except RemoteError:
        return
    assert parse_sdp(build_sdp(description).encode()).media == description.media


def test_a_value_with_a_line_break_is_not_written() -> None:
    description = SessionDescription(Origin("1", "1", "192.0.2.1"), (), "192.0.2.1", (Attribute("x", "a\r\nm=evil"),))
    with pytest.raises(LocalError, match="SDP: a value has a line break"):
        build_sdp(description)


@pytest.mark.parametrize(
    ("session", "media", "direction"),
    [
        (b"", b"", Direction.SENDRECV),
        (b"a=sendonly\r\n", b"", Direction.SENDONLY),
        (b"a=sendonly\r\n", b"a=recvonly\r\n", Direction.RECVONLY),
        (b"", b"a=inactive\r\n", Direction.INACTIVE),
    ],
)
def test_a_medium_s_own_direction_goes_before_the_session_s(session: bytes, media: bytes, direction: Direction) -> None:
    description = parse_sdp(b"v=0\r\n" + session + b"m=audio 4000 RTP/AVP 0\r\n" + media)
    assert description.direction_of(description.media[0]) is direction


@pytest.mark.parametrize("sends", [True, False])
@pytest.mark.parametrize("receives", [True, False])
def test_a_direction_is_made_of_both_halves(sends: bool, receives: bool) -> None:
    direction = Direction.of(sends=sends, receives=receives)
    assert (direction.sends, direction.receives) == (sends, receives)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("8.8.8.8", AddressKind.PUBLIC),
        ("2600::1", AddressKind.PUBLIC),
        ("10.1.2.3", AddressKind.PRIVATE),
        ("100.64.0.9", AddressKind.PRIVATE),
        ("fd00::1", AddressKind.PRIVATE),
        ("127.0.0.1", AddressKind.LOOPBACK),
        ("169.254.1.1", AddressKind.LINK_LOCAL),
        ("fe80::1", AddressKind.LINK_LOCAL),
        ("224.0.1.1", AddressKind.MULTICAST),
        ("0.0.0.0", AddressKind.UNSPECIFIED),
        ("::", AddressKind.UNSPECIFIED),
        ("media.example.com", AddressKind.NAME),
        ("", AddressKind.NAME),
    ],
)
def test_addresses_are_told_apart(host: str, kind: AddressKind) -> None:
    assert address_kind(host) is kind
