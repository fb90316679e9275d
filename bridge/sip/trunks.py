"""Trunks: who may call over SIP and on what terms, and where calls go out. Data and look-up.

What it is not: the parser of the operator's tables (``bridge.calls.trunks_file``), or the judgement of a request
(``bridge.sip.access``).

Sources: ElevenLabs API reference, SIP trunk phone numbers, inbound and outbound configuration: ``allowed_addresses``
"IP addresses that are allowed to use the trunk", each an address or a CIDR block; ``allowed_numbers`` "phone numbers
that are allowed to use the trunk", which is callers; ``remote_domains`` "domains of remote SIP servers used to
validate TLS certificates"; ``credentials`` for digest authentication; ``address`` "hostname or IP the SIP INVITE is
sent to"; ``headers`` "sent as-is" (texts of the elevenlabs SDK, read 2026-11-21).
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from bridge.auth.sip_digest_client import SipAccount
from bridge.errors import LocalError
from bridge.media.format import Encoding
from bridge.sip.flow import Transport

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK = "loopback"
"""Name of the trunk that everybody on this machine is, where authentication is off."""
ANY_OWN_HEADER = "X-*"
"""Stands for every header whose name begins so."""
_LOOPBACK_NETWORKS = ("127.0.0.0/8", "::1/128")
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_MAPPED_BITS = 96


class AnswerWhen(enum.Enum):
    """When an incoming call is answered."""

    READY = "ready"
    """It rings until the agent is connected: callers pay for no silence."""
    AT_ONCE = "at_once"
    """For carriers that give up on calls that ring."""


class DtmfWay(enum.Enum):
    """How keys are sent towards the caller's side."""

    AUTO = "auto"
    """As telephone-events where they were agreed, else as tones."""
    RFC4733 = "rfc4733"
    """The same: telephone-events come first anyway, and nobody is served by keys that are not sent."""
    INFO = "info"
    """In SIP INFO."""
    INBAND = "inband"
    """As tones in the audio."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """Who may call. Each list that is set must be met, and so must the credentials: both, where both are set.

    Addresses, credentials or a certificate for one of ``remote_domains`` say who the peer is; callers' numbers never
    do. Without any of the three nobody can call.
    """

    allowed_addresses: tuple[Network, ...] = ()
    """Where signalling may come from; empty = anywhere, if credentials or certificate are right."""
    allowed_numbers: tuple[str, ...] = ()
    """Callers that may use the trunk, patterns as ``bridge.calls.numbers.normal_pattern`` writes them; empty = all."""
    numbers: tuple[str, ...] = ()
    """Called numbers that are this trunk's, likewise: tells trunks that share their addresses apart; empty = all."""
    remote_domains: tuple[str, ...] = ()
    """Domains of the peer's servers, lower case, ``*.`` in front for all below; empty = any. See ``access``."""
    username: str = ""
    """Of digest authentication; empty = none is asked for."""
    passwords: tuple[str, ...] = field(default=(), repr=False)
    """Each of them works: for as long as one is being replaced."""

    @property
    def can_identify(self) -> bool:
        """Whether there is anything to know the peer by."""
        return bool(self.allowed_addresses or self.username or self.remote_domains)


@dataclass(frozen=True, slots=True)
class Outbound:
    """Where calls go out."""

    host: str
    """Name or address, lower case; IPv6 without brackets."""
    port: int | None = None
    """None = what DNS says, else the transport's."""
    transport: Transport | None = None
    """None = what DNS says, else UDP."""
    account: SipAccount | None = None
    """Answers the trunk's challenges; None = the trunk knows us by our address."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Go into every INVITE as they are."""
    caller_id: str = ""
    """Number to call from where the order names none."""
    asserts_identity: bool = False
    """Whether P-Asserted-Identity names the caller id, too."""
    codecs: tuple[Encoding, ...] = ()
    """In order of preference; empty = the trunk's."""


@dataclass(frozen=True, slots=True)
class Trunk:
    """One trunk."""

    name: str
    inbound: Inbound | None = None
    """None = it takes no calls."""
    outbound: Outbound | None = None
    """None = it places no calls."""
    codecs: tuple[Encoding, ...] = (Encoding.ULAW, Encoding.ALAW)
    """In order of preference."""
    answer_when: AnswerWhen = AnswerWhen.READY
    dtmf: DtmfWay = DtmfWay.AUTO
    detects_tones: bool = False
    """Whether tones are looked for in the caller's audio where telephone-events were not agreed."""
    variable_headers: tuple[str, ...] = (ANY_OWN_HEADER,)
    """Headers of the INVITE that become variables of the agent; ``X-*`` = all of these. Any case."""
    trusts_identity: bool = True
    """Whether its P-Asserted-Identity says who calls (RFC 3325)."""
    max_calls: int | None = None
    """Calls at once, both directions; None = no limit of its own."""

    @property
    def outbound_codecs(self) -> tuple[Encoding, ...]:
        """What is offered in calls that are placed."""
        return (self.outbound.codecs if self.outbound else ()) or self.codecs


def loopback_trunk() -> Trunk:
    """The trunk that everybody on this machine is, where authentication is off."""
    networks = tuple(ipaddress.ip_network(text) for text in _LOOPBACK_NETWORKS)
    return Trunk(LOOPBACK, Inbound(allowed_addresses=networks))


def parse_ip(text: str) -> IpAddress | None:
    """An address as sockets name it; IPv4 in IPv6 (``::ffff:192.0.2.1``) comes as IPv4, zones are dropped."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> Network:
    """An address or CIDR block; IPv4 in IPv6 comes as IPv4. Raises ``ValueError``, also where host bits are set."""
    network = ipaddress.ip_network(text)
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = ipaddress.IPv4Address(int(network.network_address) & 0xFFFFFFFF)
        return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


class Trunks:
    """All trunks, found by name, by source address and by what a request proves. Never changes."""

    def __init__(self, trunks: Iterable[Trunk] = (), *, trust_loopback: bool = False) -> None:
        """``trust_loopback``: with ``loopback_trunk`` for sources on this machine that no other trunk names."""
        known = list(trunks)
        if trust_loopback and all(trunk.name != LOOPBACK for trunk in known):
            known.append(loopback_trunk())
        self._by_name = {trunk.name: trunk for trunk in known}
        if len(self._by_name) < len(known):
            raise LocalError("two trunks have the same name")
        self._networks: dict[int, dict[tuple[int, int], list[Trunk]]] = {}
        for trunk in known:
            for network in trunk.inbound.allowed_addresses if trunk.inbound else ():
                # By prefix length; the key is IP version and network, so that a look-up is a few dictionary accesses.
                same_length = self._networks.setdefault(network.prefixlen, {})
                key = (network.version, int(network.network_address))
                same_length.setdefault(key, []).append(trunk)
        self._lengths = sorted(self._networks, reverse=True)
        self.anywhere = tuple(
            trunk for trunk in known if trunk.inbound and trunk.inbound.can_identify and not _is_bound(trunk.inbound)
        )
        """Trunks whose calls may come from any address: credentials or a certificate say who it is."""
        self.most_passwords = max((len(trunk.inbound.passwords) for trunk in known if trunk.inbound), default=0)

    def __iter__(self) -> Iterator[Trunk]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def named(self, name: str) -> Trunk | None:
        """The trunk of this name."""
        return self._by_name.get(name)

    def at(self, host: str) -> tuple[Trunk, ...]:
        """Trunks whose ``allowed_addresses`` have this source, by the most specific network; several if they share it.

        Less specific ones do not count then: who allows 192.0.2.7 with a password must not find it let in by another
        trunk's 192.0.2.0/24 without one.
        """
        address = parse_ip(host)
        if address is None:
            return ()
        bits = address.max_prefixlen
        for length in self._lengths:
            if length <= bits:
                key = (address.version, int(address) >> (bits - length) << (bits - length))
                if found := self._networks[length].get(key):
                    return tuple(found)
        return ()

    def callable(self) -> tuple[Trunk, ...]:
        """Trunks that calls can be placed over."""
        return tuple(trunk for trunk in self if trunk.outbound is not None)


def _is_bound(inbound: Inbound) -> bool:
    return bool(inbound.allowed_addresses)
