"""The headers of digest authentication in SIP: challenges and credentials, read and written.

It knows header values, not messages. Values with another scheme than Digest are skipped, as are challenges with an
algorithm or quality of protection that nobody here computes. Sources: RFC 7616 sections 3.3 and 3.4, RFC 8760,
RFC 3261 sections 20.7, 20.28 and 25.1.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.errors import LocalError

MAX_VALUE_CHARS = 4096
"""Longest header value that is looked at; real ones have 200 to 400 characters."""

MAX_CHALLENGES = 16
"""Challenges of one response that are looked at; several proxies with three algorithms each have fewer."""

_TCHARS = r"[A-Za-z0-9\-.!%*_+`'~]++"
_ITEM = re.compile(rf'[ \t,]*+({_TCHARS})[ \t]*+=[ \t]*+("(?:[^"\\]++|\\.)*+"|[^ \t,"]++)[ \t]*+(?=,|$)', re.DOTALL)
_SCHEME = re.compile(rf"[ \t,]*+({_TCHARS})[ \t]++(?={_TCHARS}[ \t]*+=)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_COUNT = re.compile(r"[0-9A-Fa-f]{1,8}")


class Algorithm(enum.Enum):
    """Digest algorithms, the stronger ones first. SHA-512-256 is not among them: no trunk is known to want it."""

    SHA_256 = "SHA-256"
    SHA_256_SESS = "SHA-256-sess"
    MD5 = "MD5"
    MD5_SESS = "MD5-sess"

    @property
    def is_session(self) -> bool:
        """Whether the secret part also covers the nonces."""
        return self in (Algorithm.SHA_256_SESS, Algorithm.MD5_SESS)

    @property
    def hash_name(self) -> str:
        """The hash function, as ``hashlib`` calls it."""
        return "sha256" if self in (Algorithm.SHA_256, Algorithm.SHA_256_SESS) else "md5"


_ALGORITHMS = {algorithm.value.lower(): algorithm for algorithm in Algorithm}


class Qop(enum.Enum):
    """Quality of protection: what the response covers."""

    AUTH = "auth"
    """Method and URI."""
    AUTH_INT = "auth-int"
    """The body, too."""


@dataclass(frozen=True, slots=True)
class DigestChallenge:
    """One challenge of WWW-Authenticate or Proxy-Authenticate."""

    realm: str
    nonce: str
    algorithm: Algorithm = Algorithm.MD5
    algorithm_named: bool = True
    """False = the challenge left it out, and so will the answer."""
    qop: Qop | None = None
    """The best that the challenge offers; None = it offers none at all, as RFC 2069 did."""
    opaque: str | None = None
    stale: bool = False
    """Only the nonce was too old: the same password will do with this one."""

    def __str__(self) -> str:
        """The header value. Raises ``LocalError`` for text that fits no header."""
        items = [f"realm={quoted(self.realm)}", f"nonce={quoted(self.nonce)}", f"algorithm={self.algorithm.value}"]
        if self.qop is not None:
            items.append(f"qop={quoted(self.qop.value)}")
        if self.opaque is not None:
            items.append(f"opaque={quoted(self.opaque)}")
        if self.stale:
            items.append("stale=true")
        return "Digest " + ", ".join(items)


@dataclass(frozen=True, slots=True)
class DigestCredentials:
    """The value of Authorization or Proxy-Authorization."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    """Hexadecimal, lower case."""
    algorithm: Algorithm = Algorithm.MD5
    algorithm_named: bool = True
    """False = left out, which means MD5."""
    qop: Qop | None = None
    nonce_count: int = 0
    """Use of the nonce, from 1; 0 = not given."""
    cnonce: str = ""
    opaque: str | None = None

    def __str__(self) -> str:
        """The header value. Raises ``LocalError`` for text that fits no header."""
        items = [
            f"username={quoted(self.username)}",
            f"realm={quoted(self.realm)}",
            f"nonce={quoted(self.nonce)}",
            f"uri={quoted(self.uri)}",
            f"response={quoted(self.response)}",
        ]
        if self.algorithm_named:
            items.append(f"algorithm={self.algorithm.value}")
        if self.opaque is not None:
            items.append(f"opaque={quoted(self.opaque)}")
        if self.qop is not None:
            items += [f"qop={self.qop.value}", f"nc={self.nonce_count:08x}"]
        if self.cnonce:
            items.append(f"cnonce={quoted(self.cnonce)}")
        return "Digest " + ", ".join(items)


def quoted(text: str) -> str:
    """The text as a quoted string. Raises ``LocalError`` for control characters: none of ours has any."""
    if any(character < " " or character == "\x7f" for character in text):
        raise LocalError("a control character in digest authentication")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def parse_challenges(values: Iterable[str]) -> tuple[DigestChallenge, ...]:
    """Every usable challenge of repeated headers, in order; several may also stand in one header."""
    found: list[DigestChallenge] = []
    for value in values:
        for scheme, params in _schemes(value):
            challenge = _challenge(params) if scheme == "digest" else None
            if challenge is not None and len(found) < MAX_CHALLENGES:
                found.append(challenge)
    return tuple(found)


def parse_credentials(value: str) -> DigestCredentials | None:
    """The credentials in a header value; None = another scheme, or nothing that could be checked."""
    for scheme, params in _schemes(value):
        return _credentials(params) if scheme == "digest" else None
    return None


def _schemes(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Scheme (lower case) and parameters of each challenge; ends at the first thing that is no parameter."""
    if len(value) > MAX_VALUE_CHARS:
        return
    position = 0
    while (scheme := _SCHEME.match(value, position)) is not None:
        params: dict[str, str] = {}
        position = scheme.end()
        while not (params and _SCHEME.match(value, position)):
            item = _ITEM.match(value, position)
            if item is None:
                break
            position = item.end()
            params.setdefault(item[1].lower(), _plain(item[2]))
        yield scheme[1].lower(), params


def _plain(value: str) -> str:
    return _ESCAPE.sub(r"\1", value[1:-1]) if value[0] == '"' else value


def _challenge(params: dict[str, str]) -> DigestChallenge | None:
    algorithm = _ALGORITHMS.get(params.get("algorithm", "MD5").lower())
    offers = [offer.strip().lower() for offer in params.get("qop", "").split(",")]
    qop = next((qop for qop in Qop if qop.value in offers), None)
    if algorithm is None or "realm" not in params or "nonce" not in params or (qop is None and offers != [""]):
        return None
    return DigestChallenge(
        realm=params["realm"],
        nonce=params["nonce"],
        algorithm=algorithm,
        algorithm_named="algorithm" in params,
        qop=qop,
        opaque=params.get("opaque"),
        stale=params.get("stale", "").lower() == "true",
    )


def _credentials(params: dict[str, str]) -> DigestCredentials | None:
    algorithm = _ALGORITHMS.get(params.get("algorithm", "MD5").lower())
    qop_text, count = params.get("qop", ""), params.get("nc", "0")
    qop = next((qop for qop in Qop if qop.value == qop_text.lower()), None)
    complete = params.keys() >= {"username", "realm", "nonce", "uri", "response"}
    if algorithm is None or not complete or not _COUNT.fullmatch(count) or (qop_text and qop is None):
        return None
    return DigestCredentials(
        username=params["username"],
        realm=params["realm"],
        nonce=params["nonce"],
        uri=params["uri"],
        response=params["response"].lower(),
        algorithm=algorithm,
        algorithm_named="algorithm" in params,
        qop=qop,
        nonce_count=int(count, 16),
        cnonce=params.get("cnonce", ""),
        opaque=params.get("opaque"),
    )
