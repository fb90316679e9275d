"""Session descriptions (SDP): a tolerant reader and an exact writer.

Public: ``SessionDescription``, ``Media``, ``Origin``, ``Attribute``, ``Direction``, ``parse_sdp``, ``build_sdp``,
``address_kind``, ``AddressKind``.

What it is not: offer and answer (``offer_answer``). Source: RFC 8866 section 5 (lines and their order; RFC 4566 before
it), 6.7 (direction). Read tolerantly: any line end, missing lines, unknown lines and attributes, text that is no
UTF-8. Only what a call needs is kept; other lines (``i u e p b r z k``, times) are skipped, and the writer puts
``t=0 0``. Text is bounded before it is looked at.
"""

from __future__ import annotations

import enum
import ipaddress
from dataclasses import dataclass
from itertools import pairwise

from bridge.errors import LocalError, RemoteError

MAX_BYTES = 16_384
"""Browsers' descriptions with ICE have some 6 kB, trunks' under 1 kB."""
MAX_LINES = 512
MAX_MEDIA = 16
MAX_FORMATS = 64
MAX_PORT = 65_535


class Direction(enum.Enum):
    """Who sends, as seen by the side whose description it is (section 6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether that side sends."""
        return self in (Direction.SENDRECV, Direction.SENDONLY)

    @property
    def receives(self) -> bool:
        """Whether that side receives."""
        return self in (Direction.SENDRECV, Direction.RECVONLY)

    @staticmethod
    def of(*, sends: bool, receives: bool) -> Direction:
        """The direction of one who does this."""
        if sends:
            return Direction.SENDRECV if receives else Direction.SENDONLY
        return Direction.RECVONLY if receives else Direction.INACTIVE


class AddressKind(enum.Enum):
    """Where an address can be reached from."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Private, shared (RFC 6598) or reserved: a peer behind NAT, or one in our own network."""
    LOOPBACK = "loopback"
    LINK_LOCAL = "link_local"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    """0.0.0.0 or ``::``: hold as of RFC 2543."""
    NAME = "name"
    """No literal address."""


def address_kind(host: str) -> AddressKind:
    """Say what kind of address a ``c=`` line names."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return AddressKind.NAME
    if address.is_unspecified:
        return AddressKind.UNSPECIFIED
    if address.is_loopback:
        return AddressKind.LOOPBACK
    if address.is_multicast:
        return AddressKind.MULTICAST
    if address.is_link_local:
        return AddressKind.LINK_LOCAL
    return AddressKind.PUBLIC if address.is_global else AddressKind.PRIVATE


@dataclass(frozen=True, slots=True)
class Attribute:
    """``a=name`` or ``a=name:value``."""

    name: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made the description, and its version."""

    session_id: str
    version: str
    """Rises with every change (RFC 3264 section 8)."""
    host: str
    username: str = "-"


@dataclass(frozen=True, slots=True)
class Media:
    """One ``m=`` line with what belongs to it."""

    kind: str
    """``audio``, ``video``, ``image`` ..."""
    port: int
    """0 = refused, or ended."""
    protocol: str
    """``RTP/AVP`` ..."""
    formats: tuple[str, ...]
    """Payload types for RTP; in order of preference."""
    host: str | None = None
    """Of its own ``c=`` line."""
    attributes: tuple[Attribute, ...] = ()

    def values(self, name: str) -> list[str]:
        """The values of every attribute of this name."""
        return [attribute.value for attribute in self.attributes if attribute.name == name]

    def has(self, name: str) -> bool:
        """Whether there is such an attribute."""
        return any(attribute.name == name for attribute in self.attributes)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """A whole description."""

    origin: Origin
    media: tuple[Media, ...]
    host: str | None = None
    """Of the ``c=`` line before the first ``m=``."""
    attributes: tuple[Attribute, ...] = ()
    name: str = "-"

    def host_of(self, media: Media) -> str | None:
        """Where a medium's packets are wanted."""
        return media.host if media.host is not None else self.host

    def direction_of(self, media: Media) -> Direction:
        """A medium's direction: its own, else the session's, else both ways."""
        for attribute in (*media.attributes, *self.attributes):
            if attribute.name in _DIRECTIONS:
                return _DIRECTIONS[attribute.name]
        return Direction.SENDRECV


_DIRECTIONS = {direction.value: direction for direction in Direction}

# --- reading ---


def parse_sdp(body: bytes) -> SessionDescription:
    """Read a description. Raises ``RemoteError`` that names the line; nothing else, whatever the bytes are."""
    if len(body) > MAX_BYTES:
        raise RemoteError(f"SDP: {len(body)} bytes are more than {MAX_BYTES}")
    lines = _lines(body.decode("utf-8", "replace"))
    first_media = next((number for number, (kind, _) in enumerate(lines) if kind == "m"), len(lines))
    origin, name, host = Origin("0", "0", "0.0.0.0"), "-", None  # noqa: S104 (an address to read, not to bind)
    attributes = []
    for kind, value in lines[:first_media]:
        if kind == "v" and value != "0":
            raise RemoteError("SDP: the version is not 0")
        if kind == "o":
            origin = _origin(value)
        elif kind == "s":
            name = value
        elif kind == "c":
            host = _host(value)
        elif kind == "a":
            attributes.append(_attribute(value))
    return SessionDescription(origin, _all_media(lines[first_media:]), host, tuple(attributes), name)


def _lines(text: str) -> list[tuple[str, str]]:
    """(letter, value) of every line that has that form; the others are skipped."""
    raw = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").split("\n")
    if len(raw) > MAX_LINES:
        raise RemoteError(f"SDP: {len(raw)} lines are more than {MAX_LINES}")
    return [(line[0], line[2:].strip()) for line in (one.strip() for one in raw) if line[1:2] == "="]


def _origin(value: str) -> Origin:
    fields = value.split()
    if len(fields) < 6:
        raise RemoteError(f"SDP: o= has {len(fields)} fields instead of 6")
    return Origin(fields[1], fields[2], fields[5], fields[0])


def _host(value: str) -> str:
    fields = value.split()
    if len(fields) < 3 or fields[0].upper() != "IN":
        raise RemoteError("SDP: c= is not 'IN IP4 address' or 'IN IP6 address'")
    return fields[2].partition("/")[0]  # after a slash stands what only multicast has


def _attribute(value: str) -> Attribute:
    name, _, rest = value.partition(":")
    return Attribute(name.strip().lower(), rest.strip())


def _all_media(lines: list[tuple[str, str]]) -> tuple[Media, ...]:
    media: list[Media] = []
    starts = [number for number, (kind, _) in enumerate(lines) if kind == "m"]
    if len(starts) > MAX_MEDIA:
        raise RemoteError(f"SDP: {len(starts)} m= lines are more than {MAX_MEDIA}")
    for start, end in pairwise([*starts, len(lines)]):
        own = lines[start + 1 : end]
        hosts = [_host(value) for kind, value in own if kind == "c"]
        attributes = tuple(_attribute(value) for kind, value in own if kind == "a")
        media.append(_media(lines[start][1], hosts[0] if hosts else None, attributes))
    return tuple(media)


def _media(value: str, host: str | None, attributes: tuple[Attribute, ...]) -> Media:
    fields = value.split()
    if len(fields) < 4 or len(fields) > 3 + MAX_FORMATS:
        raise RemoteError(f"SDP: m= has {len(fields)} fields instead of 4 to {3 + MAX_FORMATS}")
    port = fields[1].partition("/")[0]
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= MAX_PORT):
        raise RemoteError("SDP: the port of m= is not a number from 0 to 65535")
    return Media(fields[0].lower(), int(port), fields[2], tuple(fields[3:]), host, attributes)


# --- writing ---


def build_sdp(description: SessionDescription) -> str:
    """Serialise, with CR LF after each line. Raises ``LocalError`` if a value would break its line."""
    origin = description.origin
    lines = [
        "v=0",
        f"o={origin.username} {origin.session_id} {origin.version} {_typed(origin.host)}",
        f"s={description.name}",
    ]
    if description.host is not None:
        lines.append(f"c={_typed(description.host)}")
    lines.append("t=0 0")
    lines += _written(description.attributes)
    for media in description.media:
        lines.append(f"m={media.kind} {media.port} {media.protocol} {' '.join(media.formats)}")
        if media.host is not None:
            lines.append(f"c={_typed(media.host)}")
        lines += _written(media.attributes)
    if any("\r" in line or "\n" in line for line in lines):
        raise LocalError("SDP: a value has a line break")
    return "\r\n".join(lines) + "\r\n"


def _typed(host: str) -> str:
    return f"IN {'IP6' if ':' in host else 'IP4'} {host}"


def _written(attributes: tuple[Attribute, ...]) -> list[str]:
    return [f"a={one.name}:{one.value}" if one.value else f"a={one.name}" for one in attributes]
