"""Sources that try numbers and passwords: how often each was refused, and who is not answered for a while. Pure.

Theory of operation: every refusal costs a source some of its allowance, which grows back slowly. Who has used it up is
either banned, for a time that doubles with each ban, or just left without an answer until some of it is back. Which
of the two is the caller's to say: a datagram's source can be anybody's address, so only what proved that it *receives*
at that address may have it banned (``bridge.sip.access`` knows what proves it). Otherwise a stranger could write a
carrier's address onto his datagrams and have the carrier banned.

Sources that showed credentials of ours are remembered as known, and a ban never touches them.

IPv6 sources count by their /64, of which everybody has at least one; known ones by the whole address. Both books
are bounded; whoever invents sources to push a ban out needs some hundred thousand refusals for that.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from bridge.sip.trunks import parse_ip

_IPV6_HOST_BITS = 64


@dataclass(frozen=True, slots=True)
class ScannerOptions:
    """How patient the bridge is."""

    allowance: float = 20.0
    """What a source may be refused in a row; a carrier that is not set up yet tries some times a minute."""
    refill_per_s: float = 0.2
    """How fast the allowance grows back: one refusal in five seconds goes on for ever."""
    first_ban_s: float = 60.0
    longest_ban_s: float = 900.0
    """Not longer: somebody may be at work on his password, and a scanner gets nowhere with some tries in that time."""
    forget_after_s: float = 86_400.0
    """Quiet for so long, a source begins with a short ban again."""
    known_for_s: float = 7 * 86_400.0
    """How long a source counts as known after its last right credentials."""
    max_watched: int = 20_000
    """Some 200 bytes each; the one that was quiet for longest is forgotten."""
    max_banned: int = 20_000
    """The oldest ban is forgotten."""
    max_known: int = 10_000


@dataclass(slots=True)
class _Watched:
    allowance: float
    seen_at: float
    bans: int = 0


class ScannerBook:
    """Watches the sources that are refused. Times are monotonic seconds."""

    def __init__(self, options: ScannerOptions | None = None) -> None:
        self._options = options or ScannerOptions()
        self._watched: OrderedDict[str, _Watched] = OrderedDict()  # the one that was quiet for longest first
        self._banned: OrderedDict[str, float] = OrderedDict()  # until when; the oldest ban first
        self._known: OrderedDict[str, float] = OrderedDict()  # until when; last seen last
        self.bans = 0
        """Bans so far, for metrics."""

    def blame(self, host: str, now: float, *, cost: float = 1.0, may_ban: bool) -> bool:
        """Note a refusal; whether this source may still be answered.

        ``may_ban``: whether the source proved that it receives at its address, or nobody wanted can be there.
        """
        key = source_key(host)
        if self._is_banned(key, now):
            return False
        entry = self._entry(key, now)
        if entry.allowance >= cost:
            entry.allowance -= cost
            return True
        if may_ban:
            self._ban(key, entry, now)
        return False

    def is_banned(self, host: str, now: float) -> bool:
        """Whether this source is banned."""
        return self._is_banned(source_key(host), now) and not self.is_known(host, now)

    def know(self, host: str, now: float) -> None:
        """The source showed credentials of ours: what was held against it is forgotten."""
        key = source_key(host)
        self._watched.pop(key, None)
        self._banned.pop(key, None)
        exact = _exact(host)
        self._known[exact] = now + self._options.known_for_s
        self._known.move_to_end(exact)
        while len(self._known) > self._options.max_known:
            self._known.popitem(last=False)

    def is_known(self, host: str, now: float) -> bool:
        """Whether the source showed credentials of ours lately."""
        return self._known.get(_exact(host), now) > now

    def pardon(self) -> None:
        """Forget all bans and refusals: who may call has changed."""
        self._watched.clear()
        self._banned.clear()

    def banned(self, now: float) -> int:
        """How many sources are banned."""
        return sum(until > now for until in self._banned.values())

    def _is_banned(self, key: str, now: float) -> bool:
        until = self._banned.get(key)
        if until is None:
            return False
        if until <= now:
            del self._banned[key]
            return False
        return True

    def _entry(self, key: str, now: float) -> _Watched:
        options = self._options
        entry = self._watched.get(key)
        if entry is None:
            entry = self._watched[key] = _Watched(options.allowance, now)
            while len(self._watched) > options.max_watched:
                self._watched.popitem(last=False)
            return entry
        quiet_s = now - entry.seen_at
        entry.allowance = min(options.allowance, entry.allowance + quiet_s * options.refill_per_s)
        entry.seen_at = now
        if quiet_s >= options.forget_after_s:
            entry.bans = 0
        self._watched.move_to_end(key)
        return entry

    def _ban(self, key: str, entry: _Watched, now: float) -> None:
        options = self._options
        ban_s = min(options.first_ban_s * 2.0 ** min(entry.bans, 32), options.longest_ban_s)
        entry.bans += 1
        entry.allowance = options.allowance / 2
        self.bans += 1
        self._banned.pop(key, None)
        while len(self._banned) >= options.max_banned:
            self._banned.popitem(last=False)
        self._banned[key] = now + ban_s


def source_key(host: str) -> str:
    """What stands for a source: the IPv4 address, or the /64 of an IPv6 address."""
    address = parse_ip(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Address(int(address) >> _IPV6_HOST_BITS << _IPV6_HOST_BITS))
    return host if address is None else str(address)


def _exact(host: str) -> str:
    """The address in its one spelling."""
    return str(parse_ip(host) or host)
