"""Who may call over SIP: the gate that judges every request that would begin something. Pure.

Theory of operation: first it is asked who the peer can be. A source in some trunk's ``allowed_addresses`` can only be
one of the trunks of the most specific such network. Else a certificate that is good for a trunk's ``remote_domains``
says which trunk it is; else it may be one of the trunks that have credentials and no list of addresses. For all others
nobody is there: 403, or silence. Then the trunk's own conditions must be met, each that is set: credentials, domain,
caller's number, called number.

``remote_domains``: over TLS with a client certificate, that must be good for one of them. Where there is no
certificate, the domain that the peer writes into From, Contact or Via must be one of them. Anybody can write that, so
without a certificate domains never let anybody in by themselves.

Health checks (OPTIONS) from allowed addresses need no credentials, since carriers send none with them.

Guesses and scans are counted by ``bridge.sip.scanners``. A source in ``allowed_addresses``, or one that showed right
credentials lately, is never banned. The source of a datagram is proof of nothing; so where a carrier may call from
any address, datagrams get a source banned only if they answer a challenge that was sent to that very address, which a
stranger who writes a carrier's address on his datagrams never sees. Else the source is just not answered for a moment.

Sources: RFC 3261 sections 22 and 26.3, RFC 5922 (domain certificates), RFC 3325; what addresses, numbers and domains
of a trunk mean: ``bridge.sip.trunks``.
"""

from __future__ import annotations

import enum
import hmac
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.auth.sip_digest import DigestOutcome, DigestServer, DigestVerdict
from bridge.auth.sip_digest_header import parse_credentials
from bridge.errors import LocalError
from bridge.sip.call_facts import called_uri, caller_uris
from bridge.sip.envelope import Envelope
from bridge.sip.errors import Rejection
from bridge.sip.flow import Flow, Transport
from bridge.sip.message import Request
from bridge.sip.scanners import ScannerBook, ScannerOptions
from bridge.sip.trunks import Inbound, Trunk, Trunks, parse_ip
from bridge.sip.ua_options import Admit, Deny, Drop, Verdict
from bridge.sip.uri import SipUri

_ENTROPY_BYTES = 8
_CHANCE_BYTES = 4
"""Half of a nonce's entropy is chance, half says whom it was made for."""
_MIN_SECRET_BYTES = 16
_MAX_HEADERS = 4
"""Authorization headers of one request that are looked at, as ``bridge.auth.sip_digest`` does."""
_GUESS_COST = 4.0
"""A wrong password weighs as much as four requests from nowhere: five guesses make a ban."""
_CHALLENGES = ScannerOptions(allowance=100.0, refill_per_s=20.0)
"""How many requests without credentials a source that is not known yet may have challenged: that many calls at once
may begin before the first has succeeded, and then the source is known. Bounds what a forged address is sent."""


_KNOWS_MD5_ONLY = re.compile(r"baresip v[01]\.")
"""baresip 1.0.0 (Debian 12) ends its call with "Function not implemented" when any challenge is not MD5, instead of
passing that one over (RFC 8760 section 2.4). Observed 2026-11-21."""
_MD5_CHALLENGE = re.compile(r"\balgorithm=MD5\b(?!-)")


class Unknown(enum.Enum):
    """What sources that belong to no trunk get."""

    REJECT = "reject"
    """403."""
    SILENT = "silent"
    """Nothing: who scans does not even learn that somebody is there."""


class Refusal(enum.Enum):
    """Why a request was not admitted, for counters and log."""

    UNKNOWN_SOURCE = "unknown_source"
    """It can be no trunk's."""
    CHALLENGED = "challenged"
    """It had no credentials, or old ones: the ordinary first step of a call with a password."""
    WRONG_CREDENTIALS = "wrong_credentials"
    CALLER = "caller"
    """The trunk does not take calls from this number."""
    CALLED = "called"
    """The number called is not the trunk's."""
    DOMAIN = "domain"
    """The peer is none of the trunk's domains."""
    BANNED = "banned"
    THROTTLED = "throttled"
    """Too many refusals from an address that nobody proved to be at."""


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """How strangers are treated."""

    unknown: Unknown = Unknown.REJECT
    scanners: ScannerOptions = field(default_factory=ScannerOptions)


@dataclass(frozen=True, slots=True)
class AccessTools:
    """What the gate does not do itself."""

    digest: DigestServer
    secret: bytes = field(repr=False)
    """Marks whom a challenge was made for: random, 16 bytes or more; the same in all processes that share nonces."""
    chance: Callable[[int], bytes]
    """So many random bytes."""
    unix_s: Callable[[], float]
    is_listed: Callable[[tuple[str, ...], str], bool]
    """``bridge.calls.number_list.is_listed``: whether a number or SIP address is on a list of patterns."""
    names_of: Callable[[Flow], tuple[str, ...]] = lambda flow: ()
    """DNS names and addresses of the peer's certificate, lower case, where the flow is TLS and it was verified."""
    on_refused: Callable[[Refusal, Flow], None] = lambda refusal, flow: None
    """Told of every request that was not admitted."""
    on_banned: Callable[[Flow], None] = lambda flow: None
    """Told once when the source of this flow is banned."""


class AccessGate:
    """Judges requests; see ``bridge.sip.ua_options.Gate``. ``now`` is monotonic seconds."""

    def __init__(self, trunks: Trunks, tools: AccessTools, options: AccessOptions | None = None) -> None:
        if len(tools.secret) < _MIN_SECRET_BYTES:
            raise LocalError("an access gate needs a secret of 16 bytes")
        self.options = options or AccessOptions()
        """``unknown`` may be changed at any time by another object."""
        self.refusals: Counter[Refusal] = Counter()
        self._trunks = trunks
        self._tools = tools
        self._book = ScannerBook(self.options.scanners)
        self._challenges = ScannerBook(_CHALLENGES)

    # --- the user agent ---

    def judge(self, request: Request, envelope: Envelope, flow: Flow, now: float) -> Verdict:
        """Judge a request outside of dialogs."""
        candidates = self._trunks.at(flow.host)
        is_expected = bool(candidates)
        if not is_expected:
            if self._book.is_banned(flow.host, now):
                return self._drop(Refusal.BANNED, flow)
            candidates = self._anywhere(flow)
            if not candidates:
                return self._turn_away(flow, now)
        elif request.method == "OPTIONS":
            return Admit(candidates[0])
        if request.method != "INVITE":
            return self._identify(candidates, request, flow, now)
        serving = self._serving(candidates, envelope)
        verdict = self._identify(serving or candidates, request, flow, now)
        if not isinstance(verdict, Admit):
            return verdict
        if not serving:  # only now, so that nobody learns our numbers without a password
            return self._deny(Refusal.CALLED, flow, 404, "Not Found")
        return self._conditions(verdict, request, envelope, flow)

    def may_answer(self, flow: Flow, now: float) -> bool:
        """Whether this source gets an answer to a request that is malformed, or of an unknown dialog."""
        if self.is_trusted(flow.host, now):
            return True
        if self.options.unknown is Unknown.SILENT and not self._trunks.anywhere:
            return self._count(Refusal.UNKNOWN_SOURCE, flow)
        if self._blame(flow, now):
            return True
        return self._count(self._silence(flow, now), flow)

    # --- the transports and the operator ---

    def is_trusted(self, host: str, now: float) -> bool:
        """Whether limits for strangers do not hold for this source: an allowed address, or known by credentials."""
        return bool(self._trunks.at(host)) or self._book.is_known(host, now)

    def is_banned(self, host: str, now: float) -> bool:
        """Whether nothing that comes from this source is going to be answered."""
        return not self._trunks.at(host) and self._book.is_banned(host, now)

    def banned(self, now: float) -> int:
        """How many sources are banned."""
        return self._book.banned(now)

    @property
    def bans(self) -> int:
        """Bans so far."""
        return self._book.bans

    def replace_trunks(self, trunks: Trunks) -> None:
        """Go by these trunks from now on. If they are others, bans are forgotten: who is a stranger has changed."""
        if list(trunks) != list(self._trunks):
            self._book.pardon()
        self._trunks = trunks

    # --- who is it? ---

    def _anywhere(self, flow: Flow) -> tuple[Trunk, ...]:
        """The trunks that a source may be which no list of addresses has."""
        names = self._tools.names_of(flow) if flow.transport is Transport.TLS else ()
        found = []
        for trunk in self._trunks.anywhere:
            inbound = trunk.inbound
            if inbound and (inbound.username or any(is_domain(inbound.remote_domains, name) for name in names)):
                found.append(trunk)
        return tuple(found)

    def _serving(self, candidates: tuple[Trunk, ...], envelope: Envelope) -> tuple[Trunk, ...]:
        """Those whose number is called; where there is none, those that name no numbers."""
        called = str(called_uri(envelope))
        named = [trunk for trunk in candidates if trunk.inbound and trunk.inbound.numbers]
        hit = tuple(trunk for trunk in named if trunk.inbound and self._tools.is_listed(trunk.inbound.numbers, called))
        return hit or tuple(trunk for trunk in candidates if trunk not in named)

    def _identify(self, candidates: tuple[Trunk, ...], request: Request, flow: Flow, now: float) -> Verdict:
        """The one trunk of the candidates; asks for credentials where they are due."""
        secured = {trunk.inbound.username: trunk for trunk in candidates if trunk.inbound and trunk.inbound.username}
        plain = next((trunk for trunk in candidates if trunk.inbound and not trunk.inbound.username), None)
        if not secured:
            return Admit(candidates[0])
        values = request.headers.all("Authorization")
        checked = self._check(values, request.method, secured)
        nonce = ""
        match checked.outcome:
            case DigestOutcome.GRANTED:
                if self._is_proven(flow, values):
                    self._book.know(flow.host, now)
                return Admit(secured[checked.username])
            case DigestOutcome.MISSING if plain is not None:
                return Admit(plain)
            case DigestOutcome.REFUSED:
                refusal, proven = Refusal.WRONG_CREDENTIALS, self._is_proven(flow, values)
                goes_on = self._blame(flow, now, proven=proven, cost=_GUESS_COST)
                nonce = checked.nonce if proven else ""
            case _:
                refusal = Refusal.CHALLENGED
                goes_on = self.is_trusted(flow.host, now) or self._challenges.blame(flow.host, now, may_ban=False)
        if not goes_on:
            return self._drop(self._silence(flow, now), flow)
        return self._challenge(refusal, request, flow, stale=checked.outcome.wants_stale, nonce=nonce)

    def _check(self, values: tuple[str, ...], method: str, secured: dict[str, Trunk]) -> DigestVerdict:
        """Try the passwords of a user one after the other.

        As many rounds for everybody as there are passwords of the best supplied trunk: the time that a refusal takes
        tells neither users from strangers nor how many passwords a user has.
        """
        verdict = DigestVerdict(DigestOutcome.MISSING)
        for turn in range(max(self._trunks.most_passwords, 1)):

            def password_of(username: str, turn: int = turn) -> str | None:
                trunk = secured.get(username)
                passwords = trunk.inbound.passwords if trunk and trunk.inbound else ()
                return passwords[turn] if turn < len(passwords) else None

            verdict = self._tools.digest.check(values, method, password_of, self._tools.unix_s())
            if verdict.outcome is not DigestOutcome.REFUSED:
                break
        return verdict

    def _challenge(self, refusal: Refusal, request: Request, flow: Flow, *, stale: bool, nonce: str) -> Deny:
        chance = self._tools.chance(_CHANCE_BYTES)
        entropy = chance + self._mark(flow.host, chance)
        values = self._tools.digest.challenges(self._tools.unix_s(), entropy, stale=stale, nonce=nonce)
        if _KNOWS_MD5_ONLY.match(request.headers.get("User-Agent") or ""):
            values = tuple(value for value in values if _MD5_CHALLENGE.search(value)) or values
        fields = tuple(("WWW-Authenticate", value) for value in values)
        self._count(refusal, flow)
        return Deny(Rejection(401, "Unauthorized", fields))

    def _mark(self, host: str, chance: bytes) -> bytes:
        text = chance + str(parse_ip(host) or host).encode()
        return hmac.digest(self._tools.secret, text, "sha256")[: _ENTROPY_BYTES - _CHANCE_BYTES]

    def _is_proven(self, flow: Flow, values: tuple[str, ...]) -> bool:
        """Whether whoever sent this receives at the address that it came from."""
        if flow.transport.is_reliable:
            return True
        for value in values[:_MAX_HEADERS]:
            credentials = parse_credentials(value)
            entropy = self._tools.digest.entropy_of(credentials.nonce) if credentials else None
            if entropy is not None:
                chance, mark = entropy[:_CHANCE_BYTES], entropy[_CHANCE_BYTES:]
                return hmac.compare_digest(self._mark(flow.host, chance), mark)
        return False

    # --- may it? ---

    def _conditions(self, admit: Admit, request: Request, envelope: Envelope, flow: Flow) -> Verdict:
        """What else the trunk asks of a call."""
        inbound = admit.trunk.inbound or Inbound()
        if inbound.remote_domains and not self._is_of_domain(inbound.remote_domains, envelope, flow):
            return self._deny(Refusal.DOMAIN, flow, 403, "Domain Not Allowed")
        callers = caller_uris(request.headers, envelope, admit.trunk)
        if inbound.allowed_numbers and not any(
            self._tools.is_listed(inbound.allowed_numbers, str(uri)) for uri in callers
        ):
            return self._deny(Refusal.CALLER, flow, 403, "Caller Not Allowed")
        return admit

    def _is_of_domain(self, domains: tuple[str, ...], envelope: Envelope, flow: Flow) -> bool:
        names = self._tools.names_of(flow) if flow.transport is Transport.TLS else ()
        if not names:
            addresses = (envelope.from_, envelope.contact)
            uris = [address.uri for address in addresses if address is not None]
            names = (envelope.via.host, *(uri.host for uri in uris if isinstance(uri, SipUri)))
        return any(is_domain(domains, name) for name in names)

    # --- no ---

    def _turn_away(self, flow: Flow, now: float) -> Verdict:
        """A source that can be no trunk's."""
        if not self._blame(flow, now):
            return self._drop(self._silence(flow, now), flow)
        if self.options.unknown is Unknown.SILENT:
            return self._drop(Refusal.UNKNOWN_SOURCE, flow)
        return self._deny(Refusal.UNKNOWN_SOURCE, flow, 403, "Forbidden")

    def _blame(self, flow: Flow, now: float, *, proven: bool = False, cost: float = 1.0) -> bool:
        """Count a refusal; whether the source still gets an answer. Those that are trusted are not counted.

        Where every trunk has its addresses, a ban of any other one can hurt no carrier, whoever wrote that address.
        """
        if self.is_trusted(flow.host, now):
            return True
        may_ban = proven or flow.transport.is_reliable or not self._trunks.anywhere
        bans = self._book.bans
        goes_on = self._book.blame(flow.host, now, cost=cost, may_ban=may_ban)
        if self._book.bans > bans:
            self._tools.on_banned(flow)
        return goes_on

    def _silence(self, flow: Flow, now: float) -> Refusal:
        return Refusal.BANNED if self._book.is_banned(flow.host, now) else Refusal.THROTTLED

    def _count(self, refusal: Refusal, flow: Flow) -> bool:
        self.refusals[refusal] += 1
        self._tools.on_refused(refusal, flow)
        return False

    def _deny(self, refusal: Refusal, flow: Flow, status: int, reason: str) -> Deny:
        self._count(refusal, flow)
        return Deny(Rejection(status, reason))

    def _drop(self, refusal: Refusal, flow: Flow) -> Drop:
        self._count(refusal, flow)
        return Drop()


def is_domain(domains: tuple[str, ...], name: str) -> bool:
    """Whether a host is one of these domains, ``*.`` in front of one being all below it; addresses count as names."""
    bare = name.strip("[]").rstrip(".").lower()
    address = parse_ip(bare)
    host = bare if address is None else str(address)
    return any(
        host.endswith(domain[1:]) and len(host) > len(domain) - 1 if domain.startswith("*.") else host == domain
        for domain in domains
    )
