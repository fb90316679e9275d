"""URIs of SIP: sip, sips, tel, and whatever else a peer may write (RFC 3261 section 19.1, RFC 3966, RFC 5118).

Parts are kept as they were written, escapes included, so that a URI goes back to its owner unchanged; properties
and ``param`` decode. More lenient than the grammar in two points seen on trunks: ``#`` in the user part and ``_``
in host names.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

from bridge.errors import LocalError
from bridge.sip.errors import HeaderError

MAX_PORT = 65535
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+")
_USER = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,;?/#\u0080-\U0010ffff]++|%[0-9A-Fa-f]{2})++")
_PASSWORD = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()&=+$,\u0080-\U0010ffff]++|%[0-9A-Fa-f]{2})*+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*+)")
_PARAMS = re.compile(r"(?:;(?:[A-Za-z0-9\-_.!~*'()\[\]/:&+$=\u0080-\U0010ffff]++|%[0-9A-Fa-f]{2})++)*+")
_HEADERS = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()\[\]/?:+$=&\u0080-\U0010ffff]++|%[0-9A-Fa-f]{2})++")
_TEL = re.compile(r"\+?+[0-9A-Fa-f*#\-.()]++")
_TEL_DIGIT = re.compile(r"[0-9A-Fa-f*#]")
_OPAQUE = re.compile(r"[^\x00-\x20\x7f<>\"]+")
_USER_SAFE = "-_.!~*'()&=+$,;?/"


@dataclass(frozen=True, slots=True)
class SipUri:
    """``sip:user:password@host:port;params?headers``."""

    host: str
    """Lower case; IPv6 in brackets."""
    port: int | None = None
    scheme: str = "sip"
    """``sip`` or ``sips``."""
    raw_user: str | None = None
    raw_password: str | None = None
    raw_params: str = ""
    """With their leading semicolon, as written; empty = none."""
    raw_headers: str = ""
    """What follows the question mark, as written; empty = none."""

    @classmethod
    def of(cls, user: str, host: str, port: int | None = None, raw_params: str = "") -> Self:
        """A URI of our own making, its user escaped as needed. Raises ``LocalError`` for a bad host or port."""
        try:
            parsed_host, parsed_port = parse_host_port(host if port is None else f"{host}:{port}")
        except HeaderError as error:
            raise LocalError(f"no SIP URI can be made: {error}") from None
        raw_user = quote(user, safe=_USER_SAFE, errors="surrogateescape") if user else None
        return cls(parsed_host, parsed_port, raw_user=raw_user, raw_params=raw_params)

    @property
    def user(self) -> str:
        """The user part, decoded; empty where there is none. It can hold any character, also line ends."""
        return _decode(self.raw_user or "")

    def param(self, name: str) -> str | None:
        """The decoded value of the first parameter of this (lower-case) name; empty = no value; None = absent."""
        return _param(self.raw_params, name)

    @property
    def loose(self) -> bool:
        """Whether this is a loose router's URI (RFC 3261 section 19.1.1)."""
        return self.param("lr") is not None

    @property
    def bare_host(self) -> str:
        """The host without the brackets of an IPv6 reference: what resolvers and sockets take."""
        return self.host.strip("[]")

    def __str__(self) -> str:
        user = ""
        if self.raw_user is not None:
            password = "" if self.raw_password is None else f":{self.raw_password}"
            user = f"{self.raw_user}{password}@"
        port = "" if self.port is None else f":{self.port}"
        headers = f"?{self.raw_headers}" if self.raw_headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{self.raw_params}{headers}"


@dataclass(frozen=True, slots=True)
class TelUri:
    """``tel:+15550100;params``."""

    number: str
    """As written, visual separators included."""
    raw_params: str = ""

    def param(self, name: str) -> str | None:
        """As ``SipUri.param``; ``phone-context`` is the one that matters."""
        return _param(self.raw_params, name)

    def __str__(self) -> str:
        return f"tel:{self.number}{self.raw_params}"


@dataclass(frozen=True, slots=True)
class OtherUri:
    """A URI of a scheme that this package does not know: fit to be copied, and to be refused with 416."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


Uri = SipUri | TelUri | OtherUri


def parse_uri(text: str) -> Uri:
    """Read a URI. Raises ``HeaderError``; an unknown scheme is no error."""
    scheme, colon, rest = text.partition(":")
    lowered = scheme.lower()
    if not colon or not _SCHEME.fullmatch(scheme):
        raise HeaderError("a URI has no scheme")
    if lowered in ("sip", "sips"):
        return _parse_sip(lowered, rest)
    if lowered == "tel":
        return _parse_tel(rest)
    if not _OPAQUE.fullmatch(rest):
        raise HeaderError("a URI is malformed")
    return OtherUri(lowered, rest)


def _parse_sip(scheme: str, rest: str) -> SipUri:
    raw_user = raw_password = None
    userinfo, at, behind = rest.partition("@")
    if at:
        rest = behind
        raw_user, colon, password = userinfo.partition(":")
        raw_password = password if colon else None
        if not _USER.fullmatch(raw_user) or not _PASSWORD.fullmatch(password):
            raise HeaderError("the user part of a URI is malformed")
    rest, question, raw_headers = rest.partition("?")
    host_port, semicolon, params = rest.partition(";")
    host, port = parse_host_port(host_port)
    raw_params = semicolon + params
    if not _PARAMS.fullmatch(raw_params):
        raise HeaderError("the parameters of a URI are malformed")
    if question and not _HEADERS.fullmatch(raw_headers):
        raise HeaderError("the headers of a URI are malformed")
    return SipUri(host, port, scheme, raw_user, raw_password, raw_params, raw_headers)


def _parse_tel(rest: str) -> TelUri:
    number, semicolon, params = rest.partition(";")
    raw_params = semicolon + params
    if not (_TEL.fullmatch(number) and _TEL_DIGIT.search(number) and _PARAMS.fullmatch(raw_params)):
        raise HeaderError("a telephone URI is malformed")
    return TelUri(number, raw_params)


def parse_host_port(text: str) -> tuple[str, int | None]:
    """Read ``host``, ``host:5060``, ``[2001:db8::1]:5060``; the host comes lower case. Raises ``HeaderError``."""
    if text.startswith("["):
        address, bracket, behind = text[1:].partition("]")
        try:
            ipaddress.IPv6Address(address if "%" not in address else "")
        except ValueError:
            raise HeaderError("a host is no IPv6 address") from None
        host, colon, port = f"[{address.lower()}]", behind[:1], behind[1:]
        if not bracket or colon not in ("", ":"):
            raise HeaderError("a host is malformed")
    else:
        host, colon, port = text.partition(":")
        host = host.lower()
        if not _HOST.fullmatch(host):
            raise HeaderError("a host is malformed")
    return host, parse_port(port) if colon else None


def parse_port(text: str) -> int:
    """Read a port, 1-65535. Raises ``HeaderError``."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) <= MAX_PORT):
        raise HeaderError("a port is malformed")
    return int(text)


def _param(raw_params: str, name: str) -> str | None:
    for item in raw_params.split(";")[1:]:
        key, _, value = item.partition("=")
        if _decode(key).lower() == name:
            return _decode(value)
    return None


def _decode(text: str) -> str:
    return unquote(text, errors="surrogateescape") if "%" in text else text
