"""Offer and answer for one audio stream of G.711, with keys and comfort noise.

Public: ``AudioSession``, ``AudioOptions``, ``Agreement``, ``NotAcceptable``.

What it is not: signalling; which message carries what, and when both sides offer at once (491), is the dialog's.
Source: RFC 3264 sections 5 (offer), 6 (answer), 8 (changes; refused lines stay), 8.4 (hold, and 0.0.0.0 as of
RFC 2543); RFC 3551 section 6 (static payload types); RFC 4733 section 2.4 (telephone-event); RFC 3389 section 4 (CN);
RFC 3605 (``a=rtcp``); RFC 5761 (``a=rtcp-mux``).

Our answer names one codec only, so that nobody changes it in mid-call, and mirrors the offer's payload types. An offer
in a call that goes on names the codec in use first. SRTP profiles are refused. ICE, BUNDLE and the like are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bridge.errors import LocalError, RemoteError
from bridge.media.format import FRAME_MS, Encoding
from bridge.sip.rtp import FIRST_DYNAMIC_TYPE, LAST_TYPE, PayloadType
from bridge.sip.rtp_source import Address
from bridge.sip.sdp import (
    MAX_PORT,
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

MIN_PTIME_MS = 10
MAX_PTIME_MS = 60
DEFAULT_EVENT_TYPE = 101
"""What nearly everybody uses."""
_PROTOCOLS = ("RTP/AVP", "RTP/AVPF")
_CODEC_NAMES = {Encoding.ULAW: "PCMU", Encoding.ALAW: "PCMA"}
_STATIC_CODECS = {Encoding.ULAW: PayloadType.PCMU.value, Encoding.ALAW: PayloadType.PCMA.value}
_STATIC_MAPS = {
    PayloadType.PCMU.value: "pcmu/8000",
    PayloadType.PCMA.value: "pcma/8000",
    PayloadType.COMFORT_NOISE.value: "cn/8000",
}
_EVENTS = "telephone-event/8000"
_NOISE = "cn/8000"


class NotAcceptable(RemoteError):
    """A description that leaves nothing in common: answer 488."""


@dataclass(frozen=True, slots=True)
class AudioOptions:
    """What a trunk may use."""

    codecs: tuple[Encoding, ...] = (Encoding.ULAW, Encoding.ALAW)
    """In order of preference; ours decides, whatever the order in the offer."""
    has_events: bool = True
    """Whether keys go as telephone-events, when the peer can."""
    has_comfort_noise: bool = True
    """Whether the peer may send comfort noise."""
    has_rtcp_mux: bool = False
    """Whether our own offers ask for RTCP on the RTP port; an offer that asks is answered in kind anyway."""

    def __post_init__(self) -> None:
        if not self.codecs or len(set(self.codecs)) < len(self.codecs) or not set(self.codecs) <= set(_CODEC_NAMES):
            raise LocalError("audio options: codecs are ULAW and ALAW, at least one, none twice")


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds after offer and answer."""

    encoding: Encoding
    """Of what we send, and normally of what comes."""
    payload_type: int
    """Of what we send."""
    receive_types: Mapping[int, Encoding]
    """Of audio that may come: the agreed codec, and what else our own offer allowed."""
    event_type: int | None
    """Of keys that we send; ``None`` = the peer takes none, use tones or INFO."""
    event_receive_types: frozenset[int]
    noise_types: frozenset[int]
    """Of comfort noise that may come."""
    remote: Address | None
    """Where the peer wants packets; ``None`` if it names no address (0.0.0.0)."""
    remote_rtcp: Address | None
    remote_kind: AddressKind
    """What kind of address ``remote`` is: a private one behind NAT needs symmetric RTP. Not judged here."""
    is_rtcp_muxed: bool
    direction: Direction
    """Ours."""
    peer_ptime_ms: int
    """What the peer asks for, 10 to 60; we send 20."""
    peer_max_ptime_ms: int | None

    @property
    def may_send(self) -> bool:
        """Whether the peer listens to us."""
        return self.direction.sends

    @property
    def expects_media(self) -> bool:
        """Whether packets should come. If not, an RTP time-out must not run."""
        return self.direction is Direction.SENDRECV

    @property
    def is_held_by_peer(self) -> bool:
        """Whether the peer has put us on hold: it does not listen, and may send music or nothing."""
        return not self.direction.sends

    @property
    def audio_receive_types(self) -> frozenset[int]:
        """Payload types for the receiver: audio and comfort noise."""
        return frozenset(self.receive_types) | self.noise_types


class AudioSession:
    """One call's side of the negotiation: keeps the version, the lines and the payload types over all changes."""

    __slots__ = (
        "_body",
        "_event_type",
        "_has_offered",
        "_local",
        "_options",
        "_protocol",
        "_session_id",
        "_slots",
        "_version",
        "agreement",
    )

    def __init__(self, options: AudioOptions, local: Address, session_id: int) -> None:
        """``local`` is the address that the peer is to send to (announced, not bound); ``session_id`` is random."""
        self._options = options
        self._local = local
        self._session_id = session_id
        self._version = session_id
        self._body: SessionDescription | None = None  # our last one
        self._slots: tuple[Media | None, ...] = (None,)  # every line of the session; None is where audio is
        self._protocol = _PROTOCOLS[0]
        self._event_type = DEFAULT_EVENT_TYPE  # as our own descriptions number it
        self._has_offered = False
        self.agreement: Agreement | None = None
        """What holds now; ``None`` before the first answer."""

    @property
    def has_offered(self) -> bool:
        """Whether an offer of ours waits for its answer."""
        return self._has_offered

    def offer(self, direction: Direction = Direction.SENDRECV) -> str:
        """Our offer: in an INVITE, or in the 200 to one without a description. Then ``accept`` or ``withdraw``."""
        self._has_offered = True
        types = _Types(
            tuple((codec, _STATIC_CODECS[codec]) for codec in self._preferred()),
            self._event_type if self._options.has_events else None,
            PayloadType.COMFORT_NOISE.value if self._options.has_comfort_noise else None,
        )
        return self._describe(self._slots, types, direction, self._options.has_rtcp_mux)

    def withdraw(self) -> None:
        """Our offer was refused: what held before goes on holding."""
        self._has_offered = False

    def answer(self, body: bytes, direction: Direction = Direction.SENDRECV) -> str:
        """Our answer to the peer's offer; ``agreement`` holds from now on. ``direction`` is what we should like.

        Raises ``RemoteError`` if the offer cannot be read (400) and ``NotAcceptable`` if nothing fits (488); then
        nothing has changed. ``LocalError`` while an offer of ours waits: such glare is answered with 491.
        """
        if self._has_offered:
            raise LocalError("an offer of ours waits for its answer: that is glare")
        offer = parse_sdp(body)
        index, media, types = self._chosen(offer)
        ours = _answered(direction, offer.direction_of(media), self._remote(offer, media))
        slots = tuple(None if number == index else one for number, one in enumerate(offer.media))
        is_muxed = media.has("rtcp-mux")
        self._protocol = media.protocol
        text = self._describe(slots, types, ours, is_muxed)
        self.agreement = self._agreed(offer, media, types, types, ours, is_muxed)
        return text

    def accept(self, body: bytes) -> Agreement:
        """Take the peer's answer to our offer. Raises ``RemoteError`` or ``NotAcceptable``; then the call cannot go on
        as offered. ``LocalError`` without an offer."""
        if not self._has_offered or self._body is None:
            raise LocalError("there is no offer of ours to be answered")
        answer = parse_sdp(body)
        index = self._slots.index(None)
        if len(answer.media) <= index:
            raise RemoteError(f"SDP: the answer has {len(answer.media)} m= lines, too few")
        media, offered = answer.media[index], self._body.media[index]
        # Here the answer's order decides: it is what the peer has chosen of ours.
        types = self._types(media, _codecs_in(media)) if media.port else None
        if types is None:
            raise NotAcceptable("SDP: the answer refuses our audio")
        ours = _answered(self._body.direction_of(offered), answer.direction_of(media), self._remote(answer, media))
        is_muxed = offered.has("rtcp-mux") and media.has("rtcp-mux")
        own_types = self._types(offered, self._options.codecs)
        assert own_types is not None  # we made it
        self.agreement = self._agreed(answer, media, types, own_types, ours, is_muxed)
        self._has_offered = False
        return self.agreement

    # --- private ---

    def _chosen(self, offer: SessionDescription) -> tuple[int, Media, _Types]:
        """The first audio line that we can take, and what we take of it: one codec."""
        for index, media in enumerate(offer.media):
            types = self._types(media, self._preferred()) if media.kind == "audio" and media.port else None
            if types is not None and media.protocol.upper() in _PROTOCOLS and offer.host_of(media) is not None:
                return index, media, types
        wants_srtp = any("SAVP" in media.protocol.upper() for media in offer.media if media.kind == "audio")
        raise NotAcceptable("SDP: only SRTP is offered" if wants_srtp else "SDP: no audio that we can take is offered")

    def _preferred(self) -> tuple[Encoding, ...]:
        """Our codecs, the one in use first: nobody gains by a change in mid-call."""
        codecs = self._options.codecs
        if self.agreement is None:
            return codecs
        current = self.agreement.encoding
        return (current, *(codec for codec in codecs if codec is not current))

    def _types(self, media: Media, order: tuple[Encoding, ...]) -> _Types | None:
        """Of a line's payload types, the ones for us, by this preference; ``None`` if there is no codec of ours."""
        names = _named_types(media)
        for codec in order:
            if codec not in self._options.codecs:
                continue
            found = [number for number, name in names.items() if name == f"{_CODEC_NAMES[codec].lower()}/8000"]
            if found:
                event = _first(names, _EVENTS) if self._options.has_events else None
                noise = _first(names, _NOISE) if self._options.has_comfort_noise else None
                return _Types(((codec, found[0]),), event, noise)
        return None

    def _remote(self, description: SessionDescription, media: Media) -> Address | None:
        host = description.host_of(media)
        if host is None or address_kind(host) is AddressKind.UNSPECIFIED:
            return None
        return host, media.port

    def _describe(self, slots: tuple[Media | None, ...], types: _Types, direction: Direction, is_muxed: bool) -> str:
        """Our description; the version rises if anything in it has changed."""
        self._event_type = types.events or self._event_type
        attributes = types.attributes(direction, is_muxed)
        audio = Media("audio", self._local[1], self._protocol, types.formats, None, attributes)
        media = tuple(audio if one is None else replace(one, port=0, host=None, attributes=()) for one in slots)
        host = self._local[0]
        body = SessionDescription(self._origin(), media, host)
        if self._body is not None and body != self._body:
            self._version += 1
            body = replace(body, origin=self._origin())
        self._body, self._slots = body, slots
        return build_sdp(body)

    def _origin(self) -> Origin:
        return Origin(str(self._session_id), str(self._version), self._local[0])

    def _agreed(
        self, theirs: SessionDescription, media: Media, types: _Types, own: _Types, ours: Direction, is_muxed: bool
    ) -> Agreement:
        """``types`` are the peer's, which we send with; ``own`` are in our description, and so may come."""
        remote = self._remote(theirs, media)
        codec, number = types.codecs[0]
        offered = _named_types(self._body.media[self._slots.index(None)]) if self._body else {}
        receive = {number: codec}
        for encoding, name in _CODEC_NAMES.items():
            receive |= {one: encoding for one, named in offered.items() if named == f"{name.lower()}/8000"}
        return Agreement(
            encoding=codec,
            payload_type=number,
            receive_types=receive,
            event_type=types.events,
            event_receive_types=frozenset(one for one in (types.events, own.events) if one is not None),
            noise_types=frozenset(one for one in (types.noise, own.noise) if one is not None),
            remote=remote,
            remote_rtcp=_rtcp_address(media, remote, is_muxed),
            remote_kind=address_kind(theirs.host_of(media) or ""),
            is_rtcp_muxed=is_muxed,
            direction=ours,
            peer_ptime_ms=_milliseconds(media, "ptime") or FRAME_MS,
            peer_max_ptime_ms=_milliseconds(media, "maxptime"),
        )


@dataclass(frozen=True, slots=True)
class _Types:
    """Payload types of one audio line."""

    codecs: tuple[tuple[Encoding, int], ...]
    events: int | None
    noise: int | None

    @property
    def formats(self) -> tuple[str, ...]:
        numbers = [*(number for _, number in self.codecs), self.noise, self.events]
        return tuple(str(number) for number in numbers if number is not None)

    def attributes(self, direction: Direction, is_muxed: bool) -> tuple[Attribute, ...]:
        maps = [f"{number} {_CODEC_NAMES[codec]}/8000" for codec, number in self.codecs]
        if self.noise is not None:
            maps.append(f"{self.noise} CN/8000")
        attributes = [Attribute("rtpmap", one) for one in maps]
        if self.events is not None:
            attributes += [Attribute("rtpmap", f"{self.events} {_EVENTS}"), Attribute("fmtp", f"{self.events} 0-15")]
        attributes += [Attribute("ptime", str(FRAME_MS)), Attribute(direction.value)]
        return (*attributes, Attribute("rtcp-mux")) if is_muxed else tuple(attributes)


def _answered(wanted: Direction, theirs: Direction, remote: Address | None) -> Direction:
    """Our direction, from what we should like and what the peer's description says (RFC 3264 section 6.1)."""
    return Direction.of(
        sends=wanted.sends and theirs.receives and remote is not None,
        receives=wanted.receives and theirs.sends,
    )


def _named_types(media: Media) -> dict[int, str]:
    """Payload type to ``name/rate`` in lower case, in the line's order, without those that nothing names."""
    maps: dict[str, str] = {}
    for value in media.values("rtpmap"):
        mapped, *name = value.split(maxsplit=1)[:2] or [""]
        maps.setdefault(mapped, "".join(name).lower().removesuffix("/1"))
    names: dict[int, str] = {}
    for token in media.formats:
        if not (token.isascii() and token.isdigit() and len(token) <= 3 and int(token) <= LAST_TYPE):
            continue
        number = int(token)
        # A static type means what it means; peers that map it to something else are not to be followed.
        meaning = _STATIC_MAPS.get(number) if number < FIRST_DYNAMIC_TYPE else maps.get(token)
        if meaning:
            names.setdefault(number, meaning)
    return names


def _codecs_in(media: Media) -> tuple[Encoding, ...]:
    """The G.711 laws of a line, in its order."""
    by_name = {f"{name.lower()}/8000": codec for codec, name in _CODEC_NAMES.items()}
    return tuple(by_name[name] for name in _named_types(media).values() if name in by_name)


def _first(names: dict[int, str], wanted: str) -> int | None:
    return next((number for number, name in names.items() if name == wanted), None)


def _milliseconds(media: Media, name: str) -> int | None:
    """A packet time, brought into what telephony uses; ``None`` if there is none or it is no number."""
    for value in media.values(name):
        whole = value.partition(".")[0]
        if whole.isascii() and whole.isdigit() and len(whole) <= 5:
            return max(MIN_PTIME_MS, min(MAX_PTIME_MS, int(whole)))
    return None


def _rtcp_address(media: Media, remote: Address | None, is_muxed: bool) -> Address | None:
    """Where RTCP goes: ``a=rtcp`` (RFC 3605), or the port after RTP's, or RTP's own when both share one."""
    if remote is None or is_muxed:
        return remote
    host, port = remote
    for value in media.values("rtcp"):
        fields = value.split()
        if fields and fields[0].isascii() and fields[0].isdigit() and 0 < int(fields[0][:6]) <= MAX_PORT:
            return (fields[3] if len(fields) >= 4 else host), int(fields[0])
    return (host, port + 1) if port < MAX_PORT else None
