"""SIP trunks as the TOML file declares them, and the parser that names every mistake. Pure.

    [trunks.twilio]
    allowed_addresses = ["54.172.60.0/30", "54.244.51.0/30"]
    outbound_address = "example.pstn.twilio.com"
    outbound_username = "bridge"
    outbound_password = "..."
    outbound_caller_id = "+15551234567"

    [trunks.pbx]
    username = "bridge"
    password = "new, old"
    codecs = ["PCMA", "PCMU"]

Members have the names of the ``SIP_...`` settings, which make the trunk ``default``; each is checked by the same
function of ``bridge.calls.trunk_checks``. Meaning and sources: ``bridge.sip.trunks``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.auth.sip_digest_client import SipAccount
from bridge.calls import trunk_checks as check
from bridge.errors import ConfigError
from bridge.media.format import Encoding
from bridge.sip.flow import Transport
from bridge.sip.trunks import (
    ANY_OWN_HEADER,
    LOOPBACK,
    AnswerWhen,
    DtmfWay,
    Inbound,
    Network,
    Outbound,
    Trunk,
)

DEFAULT_TRUNK = "default"
"""The trunk that the settings make."""
MAX_TRUNKS = 200
_SHOWN_CHARS = 60
"""How much of a name a message repeats."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class TrunksError(ConfigError):
    """Trunks that do not work; ``mistakes`` names each with its place and the mend."""

    def __init__(self, mistakes: Collection[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


_CHECKS: dict[str, Callable[[object], Any]] = {
    "allowed_addresses": check.addresses,
    "allowed_numbers": check.numbers,
    "numbers": check.numbers,
    "remote_domains": check.domains,
    "username": check.username,
    "password": check.passwords,
    "codecs": check.codecs,
    "answer": check.answer,
    "dtmf": check.dtmf,
    "inband_dtmf": check.switch,
    "variable_headers": check.variable_headers,
    "trust_identity": check.switch,
    "max_calls": check.calls,
    "outbound_address": check.outbound_address,
    "outbound_transport": check.transport,
    "outbound_username": check.username,
    "outbound_password": check.password,
    "outbound_headers": check.headers,
    "outbound_caller_id": check.caller_id,
    "outbound_asserted_identity": check.switch,
    "outbound_codecs": check.codecs,
}


# --- one trunk -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrunkMembers:
    """What an operator wrote about one trunk, each member checked by itself."""

    allowed_addresses: tuple[Network, ...] = ()
    allowed_numbers: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    remote_domains: tuple[str, ...] = ()
    username: str = ""
    password: tuple[str, ...] = field(default=(), repr=False)
    codecs: tuple[Encoding, ...] = (Encoding.ULAW, Encoding.ALAW)
    answer: AnswerWhen = AnswerWhen.READY
    dtmf: DtmfWay = DtmfWay.AUTO
    inband_dtmf: bool = False
    variable_headers: tuple[str, ...] = (ANY_OWN_HEADER,)
    trust_identity: bool = True
    max_calls: int | None = None
    outbound_address: str = ""
    outbound_transport: Transport | None = None
    outbound_username: str = ""
    outbound_password: str = field(default="", repr=False)
    outbound_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    outbound_caller_id: str = ""
    outbound_asserted_identity: bool = False
    outbound_codecs: tuple[Encoding, ...] = ()

    def problems(self, name_of: Callable[[str], str]) -> list[str]:
        """What does not fit together, one sentence each; ``name_of`` says how a member is called there."""
        found = []
        for prefix in ("", "outbound_"):
            user, secret = f"{prefix}username", f"{prefix}password"
            if bool(getattr(self, user)) != bool(getattr(self, secret)):
                given, missing = (user, secret) if getattr(self, user) else (secret, user)
                found.append(f"{name_of(missing)} is missing; {name_of(given)} is of no use without it")
        inbound = self._inbound()
        if (inbound.allowed_numbers or inbound.numbers) and not inbound.can_identify:
            given = "allowed_numbers" if inbound.allowed_numbers else "numbers"
            found.append(
                f"{name_of(given)} alone lets nobody call, since numbers prove nothing; give "
                f"{name_of('allowed_addresses')}, {name_of('username')} and {name_of('password')}, or both"
            )
        of_outbound = [each for each in _CHECKS if each.startswith("outbound_") and getattr(self, each)]
        if not self.outbound_address and of_outbound:
            found.append(f"{name_of('outbound_address')} is missing; {name_of(of_outbound[0])} is of no use without it")
        if self.outbound_asserted_identity and not self.outbound_caller_id:
            found.append(f"{name_of('outbound_caller_id')} is missing; there is no identity to assert without it")
        return found

    @property
    def is_empty(self) -> bool:
        """Whether neither direction works."""
        return not self._inbound().can_identify and not self.outbound_address

    def trunk(self, name: str) -> Trunk:
        """The trunk; only where there are no ``problems``."""
        inbound = self._inbound()
        return Trunk(
            name,
            inbound if inbound.can_identify else None,
            self._outbound() if self.outbound_address else None,
            codecs=self.codecs,
            answer_when=self.answer,
            dtmf=self.dtmf,
            detects_tones=self.inband_dtmf,
            variable_headers=self.variable_headers,
            trusts_identity=self.trust_identity,
            max_calls=self.max_calls,
        )

    def _inbound(self) -> Inbound:
        return Inbound(
            self.allowed_addresses,
            self.allowed_numbers,
            self.numbers,
            self.remote_domains,
            self.username,
            self.password,
        )

    def _outbound(self) -> Outbound:
        host, port = check.split_address(self.outbound_address)
        account = SipAccount(self.outbound_username, self.outbound_password) if self.outbound_username else None
        return Outbound(
            host,
            port,
            self.outbound_transport,
            account,
            self.outbound_headers,
            self.outbound_caller_id,
            self.outbound_asserted_identity,
            self.outbound_codecs,
        )


# --- all of them -----------------------------------------------------------------------------------------


def parse_trunks(document: object, default: Trunk | None = None) -> tuple[Trunk, ...]:
    """The trunks of ``[trunks.NAME]``, after ``default``, which the settings made. Raises ``TrunksError``."""
    if not isinstance(document, Mapping):
        raise TrunksError(["trunks must be tables such as [trunks.twilio]"])
    if len(document) > MAX_TRUNKS:
        raise TrunksError([f"trunks are {len(document)}; there may be {MAX_TRUNKS}"])
    mistakes: list[str] = []
    found = [] if default is None else [default]
    for name, table in document.items():
        place = f"trunks.{_clipped(str(name))}"
        if not _NAME.fullmatch(str(name)):
            mistakes.append(f"{place} is no trunk's name; use up to 64 letters, digits, underscores and hyphens")
        elif str(name) == LOOPBACK:
            mistakes.append(f"{place} has the name of the bridge's own trunk for this machine; give it another")
        elif default is not None and str(name) == default.name:
            mistakes.append(f"{place} is the trunk that the SIP_ settings make; give it another name, or unset them")
        elif (trunk := _trunk(str(name), table, place, mistakes)) is not None:
            found.append(trunk)
    _compare(found, mistakes)
    if mistakes:
        raise TrunksError(mistakes)
    return tuple(found)


def _trunk(name: str, table: object, place: str, mistakes: list[str]) -> Trunk | None:
    before = len(mistakes)
    if not isinstance(table, Mapping):
        mistakes.append(f"{place} is no table")
        return None
    found: dict[str, Any] = {}
    for key, value in table.items():
        member = str(key).lower()
        if member not in _CHECKS:
            mistakes.append(f"{place}.{_clipped(str(key))} is no member of it{_nearest(member)}")
            continue
        try:
            found[member] = _CHECKS[member](value)
        except ValueError as problem:
            mistakes.append(f"{place}.{member} {problem}")
    if len(mistakes) > before:
        return None
    members = TrunkMembers(**found)
    mistakes += members.problems(lambda member: f"{place}.{member}")
    if len(mistakes) == before and members.is_empty:
        mistakes.append(f"{place} takes and places no calls; give allowed_addresses, username, or outbound_address")
    return members.trunk(name) if len(mistakes) == before else None


def _compare(trunks: Collection[Trunk], mistakes: list[str]) -> None:
    """Trunks that nothing tells apart: calls of the second would come in as the first's."""
    users: dict[str, str] = {}
    sources: dict[Network, str] = {}
    for trunk in trunks:
        inbound = trunk.inbound or Inbound()
        if inbound.username and (other := users.setdefault(inbound.username, trunk.name)) != trunk.name:
            mistakes.append(f"trunks.{trunk.name}.username is that of trunks.{other}; give each its own")
        for network in () if inbound.username or inbound.numbers else inbound.allowed_addresses:
            if (other := sources.setdefault(network, trunk.name)) != trunk.name:
                mistakes.append(
                    f"trunks.{trunk.name}.allowed_addresses has {network}, as trunks.{other} has; tell them apart by "
                    "numbers, or by username and password"
                )


def _clipped(text: str) -> str:
    return text if text.isprintable() and len(text) <= _SHOWN_CHARS else repr(text[:_SHOWN_CHARS])


def _nearest(member: str) -> str:
    near = difflib.get_close_matches(member, _CHECKS, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(_CHECKS)}"
