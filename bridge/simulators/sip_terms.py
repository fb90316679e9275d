"""Offers and answers of a simulated SIP end, written plainly, and a strict look at those of the other side.

On purpose not ``bridge.sip.offer_answer``: that is what is being looked at. Only the reading of SDP is shared.
Sources: RFC 3264 sections 5, 6 and 8, RFC 8866 section 5, RFC 4733 section 2.4, RFC 3551 section 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bridge.errors import RemoteError
from bridge.media.format import Encoding
from bridge.sip.sdp import Direction, Media, SessionDescription, parse_sdp

CODEC_NAMES = {Encoding.ULAW: "PCMU", Encoding.ALAW: "PCMA"}
STATIC_TYPES = {Encoding.ULAW: 0, Encoding.ALAW: 8}
NO_ADDRESS = "0.0.0.0"  # noqa: S104  # as of RFC 2543, in SDP: nothing listens there

Breach = tuple[str, str]


class NoTerms(RemoteError):
    """A description that this end cannot work with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What this end offers, and takes."""

    codecs: tuple[Encoding, ...] = (Encoding.ULAW, Encoding.ALAW)
    """In order; the first that the other side has too is answered."""
    event_type: int | None = 101
    """Payload type of telephone-events; None = no such thing."""
    ptime_ms: int = 20
    announced_host: str = ""
    """Instead of the real address, e.g. a private one behind NAT; empty = the real one."""
    noise: bool = False
    """Whether comfort noise is offered."""
    extra_lines: tuple[str, ...] = ()
    """More lines at the end of an offer, e.g. an ``m=video`` that the other side must refuse."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for the media, as this end sees it."""

    encoding: Encoding
    payload_type: int
    """Of what we send."""
    receive_types: frozenset[int]
    """Of audio that may come."""
    remote: tuple[str, int]
    event_type: int | None
    event_receive_type: int | None
    sends: bool
    receives: bool


class Negotiator:
    """One call's descriptions: ours with their version, theirs with what changed."""

    def __init__(self, wanted: Wanted, host: str, port: int, session_id: int) -> None:
        self.wanted = wanted
        self._host, self._port = host, port
        self._session_id = session_id
        self._version = session_id
        self._last = ""
        self._offer: SessionDescription | None = None
        self._theirs: SessionDescription | None = None
        self._theirs_body = b""
        self.terms: Terms | None = None

    # --- what we write -----------------------------------------------------------------------------------

    def offer(self, direction: Direction = Direction.SENDRECV, host: str = "") -> bytes:
        """Our offer; ``host`` in place of the real one, e.g. ``NO_ADDRESS``."""
        wanted = self.wanted
        types = [str(STATIC_TYPES[codec]) for codec in wanted.codecs]
        maps = [f"a=rtpmap:{STATIC_TYPES[codec]} {CODEC_NAMES[codec]}/8000" for codec in wanted.codecs]
        if wanted.noise:
            types.append("13")
        if wanted.event_type is not None:
            types.append(str(wanted.event_type))
            maps += [f"a=rtpmap:{wanted.event_type} telephone-event/8000", f"a=fmtp:{wanted.event_type} 0-15"]
        media = [f"m=audio {self._port} RTP/AVP {' '.join(types)}", *maps, f"a=ptime:{wanted.ptime_ms}"]
        body = self._written([*media, f"a={direction.value}", *wanted.extra_lines], host)
        self._offer = parse_sdp(body)
        return body

    def answer(self, body: bytes, direction: Direction = Direction.SENDRECV) -> bytes:
        """Our answer to an offer. Raises ``NoTerms``: answer 488."""
        theirs = _read(body)
        self._remember(theirs, body)
        lines: list[str] = []
        found: Terms | None = None
        for media in theirs.media:
            taken = None if found is not None else self._take(theirs, media, direction)
            if taken is None:
                lines.append(f"m={media.kind} 0 {media.protocol} {' '.join(media.formats)}")
                continue
            found, more = taken
            lines += more
        if found is None:
            raise NoTerms("nothing in the offer fits")
        self.terms = found
        return self._written(lines, "")

    # --- what we read ------------------------------------------------------------------------------------

    def accept(self, body: bytes) -> tuple[Terms, list[Breach]]:
        """Take the answer to our last offer. Raises ``NoTerms``; what is wrong with it otherwise comes along."""
        assert self._offer is not None
        answer, offer = _read(body), self._offer
        breaches = list(_answer_breaches(offer, answer))
        breaches += self._version_breaches(answer, body)
        media = next((one for one in answer.media if one.kind == "audio" and one.port), None)
        if media is None:
            raise NoTerms("the answer refuses our audio")
        codec = next((c for n in media.formats for c in self.wanted.codecs if str(STATIC_TYPES[c]) == n), None)
        if codec is None:
            raise NoTerms("the answer has no codec of ours")
        host = answer.host_of(media) or NO_ADDRESS
        theirs, ours = answer.direction_of(media), offer.direction_of(offer.media[0])
        event = _event_type(media)
        self.terms = Terms(
            encoding=codec,
            payload_type=STATIC_TYPES[codec],
            receive_types=frozenset(STATIC_TYPES[one] for one in self.wanted.codecs)
            | ({13} if self.wanted.noise else set()),
            remote=(host, media.port),
            event_type=event,
            event_receive_type=self.wanted.event_type,
            sends=ours.sends and theirs.receives and host != NO_ADDRESS,
            receives=ours.receives and theirs.sends,
        )
        self._remember(answer, body)
        return self.terms, breaches

    def offer_breaches(self, body: bytes) -> list[Breach]:
        """What is wrong with an offer of the other side; call it before ``answer``."""
        try:
            offer = _read(body)
        except NoTerms as error:
            return [("RFC 8866 5", str(error))]
        found = self._version_breaches(offer, body)
        for media in offer.media:
            if media.kind == "audio" and media.port and offer.host_of(media) is None:
                found.append(("RFC 8866 5.7", "an offer has no c= line"))
            found += _map_breaches(media)
        if self._theirs is not None and len(offer.media) < len(self._theirs.media):
            found.append(("RFC 3264 8", "an offer drops an m= line"))
        return found

    # --- private -----------------------------------------------------------------------------------------

    def _take(self, theirs: SessionDescription, media: Media, direction: Direction) -> tuple[Terms, list[str]] | None:
        if media.kind != "audio" or not media.port or media.protocol not in ("RTP/AVP", "RTP/AVPF"):
            return None
        codec = next((one for one in self.wanted.codecs if str(STATIC_TYPES[one]) in media.formats), None)
        if codec is None:
            return None
        number = STATIC_TYPES[codec]
        event = _event_type(media) if self.wanted.event_type is not None else None
        host = theirs.host_of(media) or NO_ADDRESS
        wants = theirs.direction_of(media)
        ours = Direction.of(
            sends=direction.sends and wants.receives and host != NO_ADDRESS,
            receives=direction.receives and wants.sends,
        )
        formats = [str(number)] if event is None else [str(number), str(event)]
        lines = [f"m=audio {self._port} {media.protocol} {' '.join(formats)}"]
        lines.append(f"a=rtpmap:{number} {CODEC_NAMES[codec]}/8000")
        if event is not None:
            lines += [f"a=rtpmap:{event} telephone-event/8000", f"a=fmtp:{event} 0-15"]
        lines += [f"a=ptime:{self.wanted.ptime_ms}", f"a={ours.value}"]
        terms = Terms(
            encoding=codec,
            payload_type=number,
            receive_types=frozenset({number}),
            remote=(host, media.port),
            event_type=event,
            event_receive_type=event,
            sends=ours.sends,
            receives=ours.receives,
        )
        return terms, lines

    def _written(self, media: list[str], host: str) -> bytes:
        host = host or self.wanted.announced_host or self._host
        rest = "\r\n".join(["s=-", f"c=IN IP4 {host}", "t=0 0", *media, ""])
        if self._last and rest != self._last:
            self._version += 1
        self._last = rest
        return f"v=0\r\no=sim {self._session_id} {self._version} IN IP4 {self._host}\r\n{rest}".encode()

    def _version_breaches(self, now: SessionDescription, body: bytes) -> list[Breach]:
        before = self._theirs
        if before is None:
            return []
        if now.origin.session_id != before.origin.session_id:
            return [("RFC 3264 8", "a description changes the session id of its origin")]
        step = int(now.origin.version) - int(before.origin.version)
        is_same = replace(now, origin=before.origin) == before
        if is_same and step not in (0, 1):
            return [("RFC 3264 8", f"the version moved on by {step}")]
        if not is_same and step != 1:
            return [("RFC 3264 8", f"a description has changed and its version moved on by {step}, not by 1")]
        if step == 0 and body != self._theirs_body:
            return [("RFC 3264 8", "a description has changed under the same version")]
        return []

    def _remember(self, theirs: SessionDescription, body: bytes) -> None:
        self._theirs, self._theirs_body = theirs, body


def _read(body: bytes) -> SessionDescription:
    try:
        return parse_sdp(body)
    except RemoteError as error:
        raise NoTerms(str(error)) from None


def _event_type(media: Media) -> int | None:
    for value in media.values("rtpmap"):
        number, _, name = value.partition(" ")
        if name.strip().lower() == "telephone-event/8000" and number in media.formats:
            return int(number)
    return None


def _map_breaches(media: Media) -> Iterator[Breach]:
    mapped = {value.partition(" ")[0] for value in media.values("rtpmap")}
    for number in media.formats:
        if number.isdigit() and int(number) >= 96 and number not in mapped and media.port:
            yield "RFC 8866 6.6", f"payload type {number} has no rtpmap"


def _answer_breaches(offer: SessionDescription, answer: SessionDescription) -> Iterator[Breach]:
    if len(answer.media) != len(offer.media):
        yield "RFC 3264 6", f"the answer has {len(answer.media)} m= lines, the offer {len(offer.media)}"
    for asked, got in zip(offer.media, answer.media, strict=False):
        if (asked.kind, asked.protocol) != (got.kind, got.protocol):
            yield "RFC 3264 6", f"the answer turns {asked.kind} {asked.protocol} into {got.kind} {got.protocol}"
        if not asked.port and got.port:
            yield "RFC 3264 6", "the answer takes a line that was not offered"
        if not got.port:
            continue
        strangers = [number for number in got.formats if number not in asked.formats]
        if strangers:
            yield "RFC 3264 6.1", f"the answer has payload types that were not offered: {' '.join(strangers)}"
        wanted, given = offer.direction_of(asked), answer.direction_of(got)
        if (given.sends and not wanted.receives) or (given.receives and not wanted.sends):
            yield "RFC 3264 6.1", f"{wanted.value} was answered with {given.value}"
        if answer.host_of(got) is None:
            yield "RFC 8866 5.7", "the answer has no c= line"
        yield from _map_breaches(got)
