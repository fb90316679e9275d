"""SIP digest authentication: the response itself, and the server that challenges whoever calls us.

Theory of operation: a nonce is a time and chance, signed; so nothing is kept for strangers who only ask.
Once credentials are right, the uses of their nonce are kept in a bounded book, and each count works once (a window of
64 allows for datagrams that overtake each other). Where the book is full the oldest nonce leaves it, and with it every
nonce issued up to then counts as stale: forgetting costs a client one more round, and never lets a replay through.

Decisions. Challenges name SHA-256 first and MD5 second (RFC 8760 section 2.3) and offer ``auth`` only: trunks pass
SBCs that rewrite SDP, which ``auth-int`` would break; credentials without qop are refused, since RFC 3261 section
22.4 makes clients send it. The URI of credentials is not compared with the Request-URI, because proxies rewrite that.

ACK and CANCEL are never challenged and retransmissions must not come here twice: both belong to the transaction.
Pure: times, chance and passwords are arguments. Sources: RFC 3261 section 22, RFC 7616, RFC 8760, RFC 2617.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bridge.auth.sip_digest_header import Algorithm, DigestChallenge, DigestCredentials, Qop, parse_credentials
from bridge.errors import LocalError

_MIN_SECRET_BYTES = 16
_ENTROPY_BYTES = 8
_TIME_BYTES = 8
_SIGNATURE_BYTES = 16
_NONCE_BYTES = _TIME_BYTES + _ENTROPY_BYTES + _SIGNATURE_BYTES
_WINDOW = 64
"""How far a nonce count may lag behind the highest one."""
_CLOCK_SKEW_MS = 5_000
"""How far in the future a nonce of another process may have been made."""
_NOBODY = "no such user: hashed all the same, so that the time taken does not tell users from strangers"
_MAX_CREDENTIALS = 4
"""Authorization headers of one request that are looked at: one for each realm on the way."""


@dataclass(frozen=True, slots=True)
class DigestInput:
    """What goes into a response (RFC 7616 section 3.4.1)."""

    algorithm: Algorithm
    username: str
    realm: str
    password: str = field(repr=False)
    nonce: str
    method: str
    uri: str
    qop: Qop | None = None
    nonce_count: int = 0
    cnonce: str = ""
    body: bytes = b""
    """Counts with ``auth-int`` only."""


def compute_response(parts: DigestInput) -> str:
    """The response, in lower-case hexadecimal."""
    name = parts.algorithm.hash_name
    secret = _hash(name, f"{parts.username}:{parts.realm}:{parts.password}")
    if parts.algorithm.is_session:
        secret = _hash(name, f"{secret}:{parts.nonce}:{parts.cnonce}")
    covered = f"{parts.method}:{parts.uri}"
    if parts.qop is Qop.AUTH_INT:
        covered += ":" + hashlib.new(name, parts.body, usedforsecurity=False).hexdigest()
    between = parts.nonce
    if parts.qop is not None:
        between += f":{parts.nonce_count:08x}:{parts.cnonce}:{parts.qop.value}"
    return _hash(name, f"{secret}:{between}:{_hash(name, covered)}")


def _hash(name: str, text: str) -> str:
    return hashlib.new(name, text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


class DigestOutcome(enum.Enum):
    """What credentials came to. Everything but ``GRANTED`` is answered with a challenge."""

    GRANTED = "granted"
    MISSING = "missing"
    """No credentials for this realm, or none that could be checked."""
    REFUSED = "refused"
    """Wrong user or password: counts as a guess."""
    STALE = "stale"
    """Right, with a nonce that is too old or not known here: challenge with ``stale``."""
    REPLAYED = "replayed"
    """Right, with a nonce count that was used before: challenge with ``stale``."""

    @property
    def wants_stale(self) -> bool:
        """Whether the challenge says that only the nonce was bad."""
        return self in (DigestOutcome.STALE, DigestOutcome.REPLAYED)


@dataclass(frozen=True, slots=True)
class DigestVerdict:
    """The outcome, and who it is."""

    outcome: DigestOutcome
    username: str = ""
    """Set only with ``GRANTED``."""
    nonce: str = ""
    """With ``REFUSED``: the nonce that was used, if it still works. See ``DigestServer.challenges``."""


@dataclass(frozen=True, slots=True)
class DigestOptions:
    """How this server challenges."""

    realm: str
    algorithms: tuple[Algorithm, ...] = (Algorithm.SHA_256, Algorithm.MD5)
    """In the order of preference; one challenge is made for each."""
    nonce_ttl_s: float = 300.0
    """How long a nonce works. Requests of a call after that cost one more round."""
    book_size: int = 10_000
    """Nonces whose uses are kept; about 300 bytes each."""


@dataclass(slots=True)
class _Uses:
    issued_ms: int
    highest: int = 0
    seen: int = 0
    """Bit n = the count ``highest - n`` was used."""


class DigestServer:
    """Challenges requests and checks their credentials. Times are Unix seconds."""

    def __init__(self, options: DigestOptions, secret: bytes) -> None:
        """``secret`` signs nonces: random, 16 bytes or more. Processes that share it take each other's nonces.

        They do not share the book, so the same credentials work once in each of them.
        """
        if len(secret) < _MIN_SECRET_BYTES or not options.algorithms or options.book_size < 1:
            raise LocalError("a digest server needs a secret of 16 bytes, an algorithm and room for nonces")
        if any(algorithm.is_session for algorithm in options.algorithms):
            raise LocalError("a digest server offers no -sess algorithm: clients of trunks do not know them")
        self._options = options
        self._secret = secret
        self._book: OrderedDict[str, _Uses] = OrderedDict()
        self._forgotten_until_ms = -1  # nonces issued until then, and not in the book, count as stale

    def challenges(self, now_s: float, entropy: bytes, *, stale: bool = False, nonce: str = "") -> tuple[str, ...]:
        """The values of WWW-Authenticate or Proxy-Authenticate, one header each, best first.

        ``entropy`` is 8 random bytes for this challenge. ``nonce`` is one of ours that came with a wrong password
        and is named again: clients on PJSIP (Asterisk for one) take a new nonce for a reason to try the same password
        once more, six times in a row, and would be banned for one call.
        """
        if len(entropy) != _ENTROPY_BYTES:
            raise LocalError(f"a nonce needs {_ENTROPY_BYTES} random bytes, got {len(entropy)}")
        signed = int(now_s * 1000).to_bytes(_TIME_BYTES, "big") + entropy
        nonce = nonce or base64.urlsafe_b64encode(signed + self._signature(signed)).decode().rstrip("=")
        return tuple(
            str(DigestChallenge(self._options.realm, nonce, algorithm, qop=Qop.AUTH, stale=stale))
            for algorithm in self._options.algorithms
        )

    def check(
        self, values: Iterable[str], method: str, password_of: Callable[[str], str | None], now_s: float
    ) -> DigestVerdict:
        """Check the (Proxy-)Authorization headers of a request.

        ``password_of`` gives the password of a user, None = there is no such user. Credentials for other realms are
        skipped. A grant uses up the nonce count, so call this once for a request.
        """
        verdict = DigestVerdict(DigestOutcome.MISSING)
        for value, _ in zip(values, range(_MAX_CREDENTIALS), strict=False):
            credentials = parse_credentials(value)
            if credentials is not None and self._is_usable(credentials):
                verdict = self._judge(credentials, method, password_of(credentials.username), now_s)
                break
        return verdict

    def entropy_of(self, nonce: str) -> bytes | None:
        """The ``entropy`` that a nonce of ours was made with, however old it is; None = it is none of ours.

        Whoever put something into it can tell from that whom the challenge was sent to.
        """
        raw = self._opened(nonce)
        return None if raw is None else raw[_TIME_BYTES : _TIME_BYTES + _ENTROPY_BYTES]

    def _is_usable(self, credentials: DigestCredentials) -> bool:
        return (
            credentials.realm == self._options.realm
            and credentials.algorithm in self._options.algorithms
            and credentials.qop is Qop.AUTH
            and credentials.nonce_count > 0
        )

    def _judge(self, given: DigestCredentials, method: str, password: str | None, now_s: float) -> DigestVerdict:
        wanted = compute_response(
            DigestInput(
                given.algorithm,
                given.username,
                given.realm,
                _NOBODY if password is None else password,
                given.nonce,
                method,
                given.uri,
                given.qop,
                given.nonce_count,
                given.cnonce,
            )
        )
        right = hmac.compare_digest(wanted.encode(), given.response.encode("utf-8", "surrogateescape"))
        if not right or password is None:
            works = self._issued_ms(given.nonce, now_s) is not None
            return DigestVerdict(DigestOutcome.REFUSED, nonce=given.nonce if works else "")
        issued_ms = self._issued_ms(given.nonce, now_s)
        if issued_ms is None:
            return DigestVerdict(DigestOutcome.STALE)
        return self._count(given, issued_ms, now_s)

    def _count(self, given: DigestCredentials, issued_ms: int, now_s: float) -> DigestVerdict:
        self._forget_expired(now_s)
        uses = self._book.get(given.nonce)
        if uses is None:
            if issued_ms <= self._forgotten_until_ms:
                return DigestVerdict(DigestOutcome.STALE)
            while len(self._book) >= self._options.book_size:
                self._forget_first()
            uses = self._book[given.nonce] = _Uses(issued_ms)
        if not _use(uses, given.nonce_count):
            return DigestVerdict(DigestOutcome.REPLAYED)
        return DigestVerdict(DigestOutcome.GRANTED, given.username)

    def _issued_ms(self, nonce: str, now_s: float) -> int | None:
        """When the nonce was made; None = not by us, or too long ago."""
        raw = self._opened(nonce)
        if raw is None:
            return None
        issued_ms = int.from_bytes(raw[:_TIME_BYTES], "big")
        age_ms = now_s * 1000 - issued_ms
        return issued_ms if -_CLOCK_SKEW_MS <= age_ms < self._options.nonce_ttl_s * 1000 else None

    def _opened(self, nonce: str) -> bytes | None:
        """What is in a nonce; None = it was not made here."""
        try:
            raw = base64.b64decode(nonce + "=" * (-len(nonce) % 4), altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return None
        signed, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
        if len(raw) != _NONCE_BYTES or not hmac.compare_digest(self._signature(signed), signature):
            return None
        return raw

    def _signature(self, signed: bytes) -> bytes:
        text = signed + self._options.realm.encode("utf-8", "surrogateescape")
        return hmac.digest(self._secret, text, "sha256")[:_SIGNATURE_BYTES]

    def _forget_expired(self, now_s: float) -> None:
        """Drop what is too old to be taken anyway; the book is in the order of first use, nearly that of age."""
        oldest_ms = (now_s - self._options.nonce_ttl_s) * 1000
        while self._book and next(iter(self._book.values())).issued_ms <= oldest_ms:
            self._forget_first()

    def _forget_first(self) -> None:
        _, uses = self._book.popitem(last=False)
        self._forgotten_until_ms = max(self._forgotten_until_ms, uses.issued_ms)


def _use(uses: _Uses, count: int) -> bool:
    """Use up a nonce count; False = it was used before, or is too far behind to tell."""
    ahead = count - uses.highest
    if ahead > 0:
        uses.seen = ((uses.seen << ahead) | 1) & ((1 << _WINDOW) - 1) if ahead < _WINDOW else 1
        uses.highest = count
        return True
    bit = 1 << -ahead if -ahead < _WINDOW else 0
    if not bit or uses.seen & bit:
        return False
    uses.seen |= bit
    return True
