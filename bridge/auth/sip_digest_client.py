"""SIP digest authentication: the client that answers the challenges of a trunk. The server is in ``sip_digest``.

Decisions: it takes the strongest algorithm of a realm rather than the first one (RFC 8760 section 2.4 leaves that to
local policy), ``auth`` before ``auth-int``, and answers old challenges without qop. A challenge is answered once for
a request; again only where its nonce was stale or another realm comes on top.

Pure: chance is an argument. Sources: RFC 3261 section 22, RFC 7616, RFC 8760.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from bridge.auth.sip_digest import DigestInput, compute_response
from bridge.auth.sip_digest_header import Algorithm, DigestChallenge, DigestCredentials, parse_challenges

MAX_ATTEMPTS = 3
"""Requests sent again because of a challenge: a first one, a stale nonce, a second proxy."""

MAX_REALMS = 4
"""Realms that one client answers at a time; the oldest is forgotten."""


class ChallengeKind(enum.Enum):
    """Who challenges: the other end or a proxy on the way. The value is the status."""

    USER = 401
    PROXY = 407

    @property
    def challenge_header(self) -> str:
        """The header that the challenges are in."""
        return "WWW-Authenticate" if self is ChallengeKind.USER else "Proxy-Authenticate"

    @property
    def credentials_header(self) -> str:
        """The header that the answer goes into."""
        return "Authorization" if self is ChallengeKind.USER else "Proxy-Authorization"


@dataclass(frozen=True, slots=True)
class SipAccount:
    """A user name, which may carry a domain, and its password."""

    username: str
    password: str = field(repr=False)


@dataclass(slots=True)
class _Answered:
    challenge: DigestChallenge
    uses: int = 0


class DigestClient:
    """Answers the challenges of one trunk, for all requests of a dialog or of a trunk."""

    def __init__(self, account: SipAccount) -> None:
        self._account = account
        self._answered: OrderedDict[tuple[ChallengeKind, str], _Answered] = OrderedDict()

    def challenged(self, kind: ChallengeKind, values: Iterable[str], attempt: int) -> bool:
        """Take the challenges of a 401 or 407; whether the request is worth sending again, with ``fields``.

        ``attempt`` counts the challenges to this request, from 0. From the second on, only a stale nonce or a realm
        that was not answered yet is worth it: otherwise the password is wrong.
        """
        if attempt >= MAX_ATTEMPTS:
            return False
        worth_it = False
        for challenge in _strongest(parse_challenges(values)):
            key = (kind, challenge.realm)
            if attempt and key in self._answered and not challenge.stale:
                continue
            self._answered[key] = _Answered(challenge)
            worth_it = True
        while len(self._answered) > MAX_REALMS:
            self._answered.popitem(last=False)
        return worth_it

    def fields(self, method: str, uri: str, cnonce: str, body: bytes = b"") -> tuple[tuple[str, str], ...]:
        """The headers with our credentials for the next request, none before a challenge.

        ``uri`` is the Request-URI as it is sent, ``cnonce`` is random. Each call uses a nonce count. An ACK repeats
        the headers of its INVITE instead (RFC 3261 section 22.1), and a CANCEL has none.
        """
        return tuple(
            (kind.credentials_header, str(self._credentials(answered, method, uri, cnonce, body)))
            for (kind, _), answered in self._answered.items()
        )

    def _credentials(self, answered: _Answered, method: str, uri: str, cnonce: str, body: bytes) -> DigestCredentials:
        challenge, account = answered.challenge, self._account
        answered.uses += 1
        if challenge.qop is None and not challenge.algorithm.is_session:
            cnonce = ""
        response = compute_response(
            DigestInput(
                challenge.algorithm,
                account.username,
                challenge.realm,
                account.password,
                challenge.nonce,
                method,
                uri,
                challenge.qop,
                answered.uses,
                cnonce,
                body,
            )
        )
        return DigestCredentials(
            account.username,
            challenge.realm,
            challenge.nonce,
            uri,
            response,
            challenge.algorithm,
            challenge.algorithm_named,
            challenge.qop,
            answered.uses,
            cnonce,
            challenge.opaque,
        )


def _strongest(challenges: Iterable[DigestChallenge]) -> tuple[DigestChallenge, ...]:
    """One challenge for each realm: the strongest, among equals the first."""
    strength = {algorithm: place for place, algorithm in enumerate(Algorithm)}
    best: dict[str, DigestChallenge] = {}
    for challenge in challenges:
        known = best.get(challenge.realm)
        if known is None or strength[challenge.algorithm] < strength[known.algorithm]:
            best[challenge.realm] = challenge
    return tuple(best.values())
