"""Offers and answers of the simulated SIP ends, and what they find wrong with those of others."""

from __future__ import annotations

import pytest

from bridge.media.format import Encoding
from bridge.simulators.sip_terms import NO_ADDRESS, Negotiator, NoTerms, Wanted
from bridge.sip.sdp import Direction

OFFER = (
    b"v=0\r\no=sim 5 5 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
    b"m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


def side(**wanted: object) -> Negotiator:
    """One end at 192.0.2.1:4000."""
    return Negotiator(Wanted(**wanted), "192.0.2.1", 4000, 5)  # type: ignore[arg-type]


def theirs(media: str, *, version: int = 9, session: int = 9, host: str = "192.0.2.2") -> bytes:
    """A description of the other end."""
    head = f"v=0\r\no=- {session} {version} IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\n"
    return (head + media.replace("\n", "\r\n")).encode()


PLAIN = "m=audio 5000 RTP/AVP 0 101\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=sendrecv\n"


def test_the_offer_is_written_plainly() -> None:
    assert side().offer() == OFFER


def test_a_change_raises_the_version_and_nothing_else_does() -> None:
    end = side()
    assert b"o=sim 5 5 " in end.offer()
    assert b"o=sim 5 5 " in end.offer()
    assert b"o=sim 5 6 " in end.offer(Direction.SENDONLY)
    assert b"o=sim 5 7 " in end.offer(Direction.SENDRECV, NO_ADDRESS)


def test_a_good_answer() -> None:
    end = side()
    end.offer()
    terms, breaches = end.accept(theirs(PLAIN))
    assert breaches == []
    assert (terms.encoding, terms.remote, terms.event_type) == (Encoding.ULAW, ("192.0.2.2", 5000), 101)
    assert terms.receive_types == {0, 8}
    assert (terms.sends, terms.receives) == (True, True)


@pytest.mark.parametrize(
    ("media", "said"),
    [
        (PLAIN + "m=video 0 RTP/AVP 31\n", "the answer has 2 m= lines, the offer 1"),
        (PLAIN.replace("RTP/AVP", "RTP/SAVP"), "the answer turns audio RTP/AVP into audio RTP/SAVP"),
        (PLAIN.replace(" 101", " 96"), "the answer has payload types that were not offered: 96"),
        (PLAIN.replace("a=rtpmap:101 telephone-event/8000\n", ""), "payload type 101 has no rtpmap"),
    ],
)
def test_bad_answers(media: str, said: str) -> None:
    end = side()
    end.offer()
    _, breaches = end.accept(theirs(media))
    assert said in [text for _, text in breaches]


def test_an_answer_that_sends_into_a_hold() -> None:
    end = side()
    end.offer(Direction.INACTIVE)
    terms, breaches = end.accept(theirs(PLAIN))
    assert [text for _, text in breaches] == ["inactive was answered with sendrecv"]
    assert (terms.sends, terms.receives) == (False, False)


@pytest.mark.parametrize("media", ["m=audio 0 RTP/AVP 0\n", "m=audio 5000 RTP/AVP 18\n", "m=nonsense\n"])
def test_answers_that_do_not_work(media: str) -> None:
    end = side()
    end.offer()
    with pytest.raises(NoTerms):
        end.accept(theirs(media))


def test_the_first_common_codec_is_answered_and_other_lines_are_refused() -> None:
    end = side(codecs=(Encoding.ALAW, Encoding.ULAW))
    answer = end.answer(theirs("m=video 6000 RTP/AVP 31\n" + PLAIN.replace("0 101", "0 8 96").replace(":101", ":96")))
    lines = answer.decode().split("\r\n")
    assert "m=video 0 RTP/AVP 31" in lines
    assert "m=audio 4000 RTP/AVP 8 96" in lines
    assert end.terms is not None
    assert (end.terms.encoding, end.terms.event_type) == (Encoding.ALAW, 96)


@pytest.mark.parametrize(
    ("attribute", "host", "answered"),
    [
        ("sendonly", "192.0.2.2", "recvonly"),
        ("inactive", "192.0.2.2", "inactive"),
        ("sendrecv", NO_ADDRESS, "recvonly"),
    ],
)
def test_hold_is_answered(attribute: str, host: str, answered: str) -> None:
    end = side()
    answer = end.answer(theirs(PLAIN.replace("sendrecv", attribute), host=host))
    assert f"a={answered}".encode() in answer
    assert end.terms is not None
    assert not end.terms.sends


def test_nothing_in_common() -> None:
    for media in ("m=audio 5000 RTP/AVP 18\n", "m=audio 5000 RTP/SAVP 0\n", "m=audio 0 RTP/AVP 0\n"):
        with pytest.raises(NoTerms):
            side().answer(theirs(media))


def test_versions_of_the_other_end() -> None:
    end = side()
    end.answer(theirs(PLAIN))
    held = PLAIN.replace("sendrecv", "sendonly")
    assert end.offer_breaches(theirs(PLAIN)) == []
    assert end.offer_breaches(theirs(PLAIN, version=10)) == []
    assert end.offer_breaches(theirs(held, version=10)) == []
    wrong = {
        theirs(PLAIN, version=12): "the version moved on by 3",
        theirs(held): "a description has changed and its version moved on by 0, not by 1",
        theirs(PLAIN, session=8): "a description changes the session id of its origin",
        theirs(
            PLAIN.replace("a=sendrecv\n", ""), version=9
        ): "a description has changed and its version moved on by 0, not by 1",
        b"v=1": "",
    }
    for body, said in wrong.items():
        [(_, text)] = end.offer_breaches(body)
        assert said in text


def test_offers_of_the_other_end() -> None:
    no_host = theirs(PLAIN).replace(b"c=IN IP4 192.0.2.2\r\n", b"")
    assert [text for _, text in side().offer_breaches(no_host)] == ["an offer has no c= line"]
    end = side()
    end.answer(theirs(PLAIN + "m=video 6000 RTP/AVP 31\n"))
    assert ("RFC 3264 8", "an offer drops an m= line") in end.offer_breaches(theirs(PLAIN, version=10))
