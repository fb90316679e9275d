"""Header values that mean something to a user agent: addresses, Via, CSeq, media types, and how they are written.

Sources: RFC 3261 sections 7.3.1, 20 and 25, RFC 3581 (rport), RFC 5118 (IPv6), RFC 4475 for what must be refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridge.sip.errors import HeaderError
from bridge.sip.grammar import LWS, NO_PARAMS, TCHARS, Params, parse_params, quote, split_list, take_quoted
from bridge.sip.uri import Uri, parse_host_port, parse_port, parse_uri

BRANCH_COOKIE = "z9hG4bK"
"""A branch that begins so, and goes on, identifies its transaction (RFC 3261 section 8.1.1.7)."""

MAX_CSEQ = 2**31 - 1
"""RFC 3261 section 8.1.1.5."""

_VIA = re.compile(
    rf"([{TCHARS}]++)[ \t]*+/[ \t]*+([{TCHARS}]++)[ \t]*+/[ \t]*+([{TCHARS}]++)[ \t]++"
    r"(\[[^\]]*+\]|[A-Za-z0-9_.\-]++)[ \t]*+(?::[ \t]*+([0-9]++)[ \t]*+)?+"
)
_CSEQ = re.compile(rf"([0-9]++)[ \t]++([{TCHARS}]++)")
_MEDIA_TYPE = re.compile(rf"([{TCHARS}]++)[ \t]*+/[ \t]*+([{TCHARS}]++)[ \t]*+")
_BLANK = re.compile(r"[ \t]++")


@dataclass(frozen=True, slots=True)
class Address:
    """``"Display name" <sip:user@host;uri-param>;header-param``: From, To, Contact, Route, Refer-To and more."""

    uri: Uri
    display: str = ""
    """Display name without its quotes; can hold any text, see ``grammar.readable``."""
    params: Params = NO_PARAMS

    @property
    def tag(self) -> str:
        """The tag of From and To; empty = none."""
        return self.params.get("tag") or ""

    def tagged(self, tag: str) -> Address:
        """This address with a tag."""
        return replace(self, params=self.params.having("tag", tag))

    def __str__(self) -> str:
        display = f"{quote(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{self.params}"


def parse_address(text: str) -> Address:
    """Read one address. Raises ``HeaderError``.

    An unquoted display name may hold anything but quotes and semicolons: ``Bell, A. G. <sip:...>`` breaks the
    grammar and is what trunks send (RFC 4475 section 3.1.2.15 allows to take it).
    """
    text = text.strip(LWS)
    if text.startswith('"'):
        display, rest = take_quoted(text)
        rest = rest.lstrip(LWS)
        if not rest.startswith("<"):
            raise HeaderError("an address has a name and no URI in angle brackets")
        return _bracketed(display, rest)
    before, bracket, _ = text.partition("<")
    if bracket and not (";" in before or '"' in before):
        return _bracketed(_BLANK.sub(" ", before.strip(LWS)), text[len(before) :])
    # Without brackets, parameters are the header's, and a comma or question mark may not stand in the URI
    # (RFC 3261 section 20.10; RFC 4475 section 3.1.2.13).
    uri, semicolon, params = text.partition(";")
    uri = uri.rstrip(LWS)
    if "?" in uri or "," in uri:
        raise HeaderError("an address needs angle brackets")
    return Address(parse_uri(uri), "", parse_params(semicolon + params))


def _bracketed(display: str, rest: str) -> Address:
    uri, bracket, params = rest[1:].partition(">")
    if not bracket:
        raise HeaderError("an angle bracket is not closed")
    return Address(parse_uri(uri), display, parse_params(params.strip(LWS)))


def parse_addresses(values: Iterable[str]) -> tuple[Address, ...]:
    """Read repeated and comma-joined addresses: Contact (not ``*``), Route, Record-Route. Raises ``HeaderError``."""
    return tuple([parse_address(item) for value in values for item in split_list(value)])


@dataclass(frozen=True, slots=True)
class Via:
    """One hop: ``SIP/2.0/UDP host:port;branch=z9hG4bK...;received=...;rport=...``."""

    transport: str
    """Upper case; can be a transport that nobody knows."""
    host: str
    """Of sent-by; lower case, IPv6 in brackets."""
    port: int | None
    """Of sent-by; None = the transport's default."""
    params: Params = NO_PARAMS

    @property
    def branch(self) -> str:
        """The branch, or empty."""
        return self.params.get("branch") or ""

    @property
    def branch_is_unique(self) -> bool:
        """Whether the branch alone identifies the transaction; else match as RFC 2543 did (RFC 3261 section 17.2.3)."""
        return self.branch.startswith(BRANCH_COOKIE) and len(self.branch) > len(BRANCH_COOKIE)

    @property
    def wants_rport(self) -> bool:
        """Whether responses shall go back to the port the request came from (RFC 3581)."""
        return self.params.get("rport") is not None

    @property
    def rport(self) -> int | None:
        """The source port that a server filled in; None = absent, empty or no port."""
        try:
            return parse_port(self.params.get("rport") or "")
        except HeaderError:
            return None

    @property
    def received(self) -> str:
        """The source address that a server filled in, without brackets; empty = none."""
        return (self.params.get("received") or "").strip("[]")

    def stamped(self, source_host: str, source_port: int) -> Via:
        """This Via as the server that received the request notes it down.

        ``received`` is set where the sender's name is not its address (RFC 3261 section 18.2.1) and always along
        with ``rport`` (RFC 3581 section 4). A ``received`` that the sender made up is overwritten.
        """
        params = self.params
        if self.wants_rport:
            params = params.having("rport", str(source_port))
        if self.wants_rport or self.received or self.host.strip("[]") != source_host:
            params = params.having("received", source_host)
        return replace(self, params=params)

    def __str__(self) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"SIP/2.0/{self.transport} {self.host}{port}{self.params}"


def parse_via(text: str) -> Via:
    """Read one hop. Raises ``HeaderError``."""
    match = _VIA.match(text.strip(LWS))
    if match is None:
        raise HeaderError("a Via is malformed")
    name, version, transport, host, port = match.groups()
    if name.upper() != "SIP" or version != "2.0":
        raise HeaderError("a Via is of another protocol")
    host, _ = parse_host_port(host)
    params = parse_params(match.string[match.end() :])
    return Via(transport.upper(), host, None if port is None else parse_port(port), params)


def parse_vias(values: Iterable[str]) -> tuple[Via, ...]:
    """Read repeated and comma-joined hops, topmost first. Raises ``HeaderError``."""
    return tuple([parse_via(item) for value in values for item in split_list(value)])


@dataclass(frozen=True, slots=True)
class CSeq:
    """Sequence number and method."""

    number: int
    method: str

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def parse_cseq(text: str) -> CSeq:
    """Read a CSeq. Raises ``HeaderError``, also for a number of 2**31 and more."""
    match = _CSEQ.fullmatch(text.strip(LWS))
    if match is None:
        raise HeaderError("the CSeq is malformed")
    return CSeq(parse_number(match[1], MAX_CSEQ), match[2])


def parse_number(text: str, highest: int) -> int:
    """Read a plain decimal number of 0 to ``highest``, leading zeros allowed. Raises ``HeaderError``."""
    if not (text.isascii() and text.isdecimal()):
        raise HeaderError("a number is malformed")
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(highest)) or int(digits) > highest:
        raise HeaderError("a number is too high")
    return int(digits)


def parse_seconds(text: str) -> int:
    """Read the leading number of Expires, Session-Expires, Min-SE or Retry-After, whatever follows it.

    More than 2**32 - 1 counts as that much (RFC 3261 section 20.19). Raises ``HeaderError``.
    """
    number = re.split(r"[ \t;(]", text.strip(LWS), maxsplit=1)[0]
    if not (number.isascii() and number.isdecimal()):
        raise HeaderError("a number of seconds is malformed")
    digits = number.lstrip("0") or "0"
    return min(int(digits[:11]), 2**32 - 1)


@dataclass(frozen=True, slots=True)
class MediaType:
    """``application/sdp;param=x``; also a range of Accept such as ``application/*``."""

    main: str
    sub: str
    params: Params = NO_PARAMS

    @property
    def essence(self) -> str:
        """Type and subtype without parameters, lower case."""
        return f"{self.main}/{self.sub}"

    def covers(self, essence: str) -> bool:
        """Whether this range of an Accept header takes a body of that type."""
        main, _, sub = essence.partition("/")
        return self.main in ("*", main) and self.sub in ("*", sub)

    def __str__(self) -> str:
        return f"{self.essence}{self.params}"


def parse_media_type(text: str) -> MediaType:
    """Read a Content-Type or one range of Accept. Raises ``HeaderError``."""
    text = text.strip(LWS)
    match = _MEDIA_TYPE.match(text)
    if match is None:
        raise HeaderError("a media type is malformed")
    return MediaType(match[1].lower(), match[2].lower(), parse_params(text[match.end() :]))
