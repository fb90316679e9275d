"""SIP: where the bridge listens, and one trunk without a TOML file. ``[trunks.NAME]`` tables are for several."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, field_validator

from bridge.auth.sip_digest_header import Algorithm
from bridge.calls import trunk_checks as check
from bridge.calls.trunks_file import DEFAULT_TRUNK, TrunkMembers
from bridge.media.format import Encoding
from bridge.settings.base import Lower, Number, Topic, setting
from bridge.settings.storage import MAX_DAYS
from bridge.sip.trunks import LOOPBACK, AnswerWhen, DtmfWay, Network, Trunk, loopback_trunk, parse_ip

MIN_RTP_PORTS = 2
"""One call: audio and its reports."""

_ELSEWHERE = {4: (socket.AF_INET, "192.0.2.1", "127.0.0.1"), 6: (socket.AF_INET6, "2001:db8::1", "::1")}
"""By IP version: family, an address that is nobody's (RFC 5737, RFC 3849), and what is left without a network."""
_PORT: dict[str, Any] = {"ge": 1, "le": 65535, "restart": True}


def _host(text: str) -> str:
    address = parse_ip(text.strip("[]"))
    if address is None:
        raise ValueError("is no address; give one of this machine's such as 192.0.2.7, or 0.0.0.0 for all")
    return str(address)


def _external(text: str) -> str:
    address = parse_ip(text.strip("[]"))
    if address is None or address.is_unspecified:
        raise ValueError("is no address that peers could send to; give one such as 203.0.113.7")
    return str(address)


def _secret(parse: Callable[[object], object]) -> AfterValidator:
    """Check a secret, and keep it as it was given."""

    def checked(value: SecretStr) -> SecretStr:
        parse(value.get_secret_value())
        return value

    return AfterValidator(checked)


def _headers(text: object) -> tuple[tuple[str, str], ...]:
    try:
        document = json.loads(str(text))
    except (ValueError, RecursionError):
        raise ValueError('is no JSON; give a JSON object of texts such as {"X-Token": "..."}') from None
    if not isinstance(document, dict):
        raise ValueError('is no JSON object; give one of texts such as {"X-Token": "..."}')
    return check.headers(document)


def _revealed(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""


def _own_address(version: int) -> str:
    """The address that this machine would send from to anywhere else; nothing is sent for that."""
    family, elsewhere, loopback = _ELSEWHERE[version]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((elsewhere, 9))
        except OSError:  # no network
            return loopback
        return str(probe.getsockname()[0])


class SipSettings(Topic):
    """SIP trunks."""

    sip_host: Annotated[str, AfterValidator(_host)] = setting(
        "127.0.0.1",
        "Address to listen on for SIP and RTP. `0.0.0.0` or `::` for all; the default keeps a fresh trial off the "
        "network.",
        restart=True,
    )
    sip_udp_port: int | None = setting(None, "Port for SIP over UDP, commonly 5060. Unset: off.", **_PORT)
    sip_tcp_port: int | None = setting(None, "Port for SIP over TCP, commonly 5060. Unset: off.", **_PORT)
    sip_tls_cert: Path | None = setting(
        None, "PEM file with the certificate for SIP over TLS and those that lead to its authority.", restart=True
    )
    sip_tls_key: Path | None = setting(
        None, "PEM file with its private key, without a password. Unset: it is in `SIP_TLS_CERT`.", restart=True
    )
    sip_tls_ca: Path | None = setting(
        None, "PEM file with authorities that are trusted for trunks, besides those of the system.", restart=True
    )
    sip_tls_client_ca: Path | None = setting(
        None,
        "PEM file with authorities of callers: then whoever connects over TLS must show a certificate of theirs. "
        "Unset: none is asked for.",
        restart=True,
    )
    sip_tls_port: int | None = setting(None, "Port for SIP over TLS, commonly 5061. Unset: off.", **_PORT)
    sip_external_ip: Annotated[str, AfterValidator(_external)] | None = setting(
        None,
        "Address that trunks reach the bridge at, where that is not the machine's own: it goes into SIP and SDP. "
        "Unset: `SIP_HOST`, or the machine's own address where that is `0.0.0.0` or `::`.",
        restart=True,
    )
    sip_rtp_port_min: int = setting(10_000, "First port for RTP; a call takes two.", ge=1024, le=65_534, restart=True)
    sip_rtp_port_max: int = setting(20_000, "Last port for RTP.", ge=1025, le=65_535, restart=True)
    sip_allowed_addresses: Annotated[tuple[Network, ...], BeforeValidator(check.addresses)] = setting(
        (),
        "Addresses and CIDR blocks that may call, with commas between them: the carrier's signalling addresses. Unset: "
        "any, if it has the password; without that nobody.",
    )
    sip_allowed_numbers: Annotated[tuple[str, ...], BeforeValidator(check.numbers)] = setting(
        (), "Callers that may use the trunk, patterns such as `+4930*`. Unset: all."
    )
    sip_remote_domains: Annotated[tuple[str, ...], BeforeValidator(check.domains)] = setting(
        (),
        "Domains of the carrier's servers, such as `sip.example.com, *.example.net`: its certificate must be good for "
        "one of them (`SIP_TLS_CLIENT_CA`), or, where it shows none, From, Contact or Via must name one. Unset: any.",
    )
    sip_username: Annotated[str, AfterValidator(check.username)] | None = setting(
        None,
        "User name that callers must know (digest authentication), besides being at an allowed address where those are "
        "set.",
    )
    sip_password: Annotated[SecretStr, _secret(check.passwords)] | None = setting(
        None, "Its password; several with commas between them while it is changed."
    )
    sip_realm: str = setting(
        "bridge",
        "Realm of our challenges; passwords that clients keep hashed go with it.",
        pattern=r"^[A-Za-z0-9._:@-]{1,64}$",
        expected="up to 64 letters, digits, dots, colons, hyphens and underscores",
        restart=True,
    )
    sip_digest_algorithms: Annotated[tuple[Algorithm, ...], BeforeValidator(check.algorithms)] = setting(
        ("MD5", "SHA-256"),
        "Algorithms of our challenges, in this order. Many phones and test tools read the first challenge only, or "
        "give up on one that they do not know: `MD5` alone serves those, `SHA-256` alone where all peers can do it.",
        restart=True,
    )
    sip_unknown: Annotated[Literal["reject", "silent"], Lower] = setting(
        "reject",
        "What callers get that belong to no trunk: `reject` = 403; `silent` = nothing, so that scanners do not learn "
        "that somebody is here.",
    )
    sip_codecs: Annotated[tuple[Encoding, ...], BeforeValidator(check.codecs)] = setting(
        ("PCMU", "PCMA"), "Codecs in order of preference. `PCMA, PCMU` in Europe, and agents with `alaw_8000`."
    )
    sip_answer: Annotated[Literal["ready", "at_once"], Lower] = setting(
        "ready",
        "When calls are answered: `ready` = when the agent is connected, it rings until then; `at_once` for carriers "
        "that give up on ringing.",
    )
    sip_dtmf: Annotated[Literal["auto", "rfc4733", "info", "inband"], Lower] = setting(
        "auto",
        "How keys are sent: `auto` or `rfc4733` = as telephone-events where the trunk takes them, else as tones; "
        "`info` = in SIP INFO; `inband` = as tones.",
    )
    sip_inband_dtmf: bool = setting(
        False, "`on` also looks for tones in the caller's audio until a telephone-event has come."
    )
    sip_variable_headers: Annotated[tuple[str, ...], BeforeValidator(check.variable_headers)] = setting(
        ("X-*",),
        "Headers of the INVITE that become variables of the agent: `X-Contact-ID` is `sip_contact_id`. `X-*` = all "
        "of these whose names do not sound of secrets; `none` = no header.",
    )
    sip_trust_identity: bool = setting(
        True, "`off` goes by From alone, not by the trunk's P-Asserted-Identity, as to who calls."
    )
    sip_max_calls: int | None = setting(
        None,
        "Calls of the trunk at once, both directions. Unset: no limit of its own.",
        unit="calls",
        ge=1,
        le=check.MAX_CONCURRENCY,
    )
    sip_when_full: Annotated[Literal["busy", "unavailable"], Lower] = setting(
        "busy",
        "What a caller gets while all slots are taken: `busy` = 486, the busy tone; `unavailable` = 503 with "
        "Retry-After, on which carriers try their next gateway.",
    )
    sip_first_media_timeout_s: Number = setting(
        30, "A call ends when no audio has come so long after the answer.", unit="s", gt=0, le=3600
    )
    sip_rtp_timeout_s: Number = setting(
        30, "A call ends when its audio stops for so long; not while it is on hold.", unit="s", gt=0, le=3600
    )
    sip_outbound_address: Annotated[str, AfterValidator(check.outbound_address)] | None = setting(
        None, "Host or address that calls are placed to, `sip.example.com` or with a port. Unset: none are placed."
    )
    sip_outbound_transport: Annotated[Literal["auto", "udp", "tcp", "tls"], Lower] = setting(
        "auto", "What carries them; `auto` = what DNS says, else UDP."
    )
    sip_outbound_username: Annotated[str, AfterValidator(check.username)] | None = setting(
        None, "User name for the trunk's challenges. Unset: the trunk knows the bridge by its address."
    )
    sip_outbound_password: Annotated[SecretStr, _secret(check.password)] | None = setting(None, "Its password.")
    sip_outbound_headers: Annotated[SecretStr, _secret(_headers)] | None = setting(
        None, 'Headers that go into every INVITE as they are: a JSON object such as `{"X-Token": "..."}`.'
    )
    sip_outbound_caller_id: Annotated[str, AfterValidator(check.caller_id)] | None = setting(
        None, "Number to call from where a request names none."
    )
    sip_outbound_asserted_identity: bool = setting(
        False, "`on` names the caller id in P-Asserted-Identity too, for trunks that go by that."
    )
    sip_message_log: Annotated[Literal["errors", "all", "off"], Lower] = setting(
        "all",
        "Which calls leave their SIP messages for `/v1/calls/{id}/sip-messages`: those that ended badly (`errors`), "
        "`all`, or none. Passwords and pressed keys are left out.",
    )
    retention_sip_messages_days: int = setting(
        30, "How long these are kept. 0 = none are written.", unit="days", ge=0, le=MAX_DAYS, restart=True
    )

    @field_validator("sip_host")
    @classmethod
    def _sip_auth_off_on_loopback_only(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("bridge_auth") == "off" and not ipaddress.ip_address(value).is_loopback:
            raise ValueError(
                "is an address that others reach while BRIDGE_AUTH is off; set it to 127.0.0.1, or BRIDGE_AUTH to on"
            )
        return value

    @field_validator("sip_tls_port")
    @classmethod
    def _tls_needs_a_certificate(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and "sip_tls_cert" in info.data and info.data["sip_tls_cert"] is None:
            raise ValueError("is set without SIP_TLS_CERT; give the PEM file of a certificate")
        return value

    @field_validator("sip_rtp_port_max")
    @classmethod
    def _ports_for_a_call(cls, value: int, info: ValidationInfo) -> int:
        least = info.data.get("sip_rtp_port_min")
        if least is not None and value - least + 1 < MIN_RTP_PORTS:
            raise ValueError(f"leaves no two ports from SIP_RTP_PORT_MIN on; give more than {least}")
        return value

    @property
    def has_sip(self) -> bool:
        """Whether any transport of SIP is on."""
        return any(port is not None for port in (self.sip_udp_port, self.sip_tcp_port, self.sip_tls_port))

    @property
    def sip_announced_host(self) -> str:
        """Where peers reach us: numeric, IPv6 without brackets."""
        if self.sip_external_ip:
            return self.sip_external_ip
        address = ipaddress.ip_address(self.sip_host)
        return _own_address(address.version) if address.is_unspecified else self.sip_host

    @property
    def default_trunk(self) -> Trunk | None:
        """The trunk that the settings make; None = they name nobody."""
        members = self._members
        return None if members.is_empty or self.sip_problems else members.trunk(DEFAULT_TRUNK)

    @property
    def local_trunk(self) -> Trunk:
        """Everybody on this machine, on the terms of the settings: for trials without authentication."""
        return replace(self._members.trunk(LOOPBACK), inbound=loopback_trunk().inbound)

    @property
    def sip_problems(self) -> list[str]:
        """What does not fit together, one sentence each."""
        return self._members.problems(lambda member: f"SIP_{member.upper()}")

    @property
    def _members(self) -> TrunkMembers:
        secrets: dict[str, Any] = {}
        if self.sip_password is not None:
            secrets["password"] = check.passwords(self.sip_password.get_secret_value())
        if self.sip_outbound_headers is not None:
            secrets["outbound_headers"] = _headers(self.sip_outbound_headers.get_secret_value())
        return TrunkMembers(
            allowed_addresses=self.sip_allowed_addresses,
            allowed_numbers=self.sip_allowed_numbers,
            remote_domains=self.sip_remote_domains,
            username=self.sip_username or "",
            codecs=self.sip_codecs,
            answer=AnswerWhen(self.sip_answer),
            dtmf=DtmfWay(self.sip_dtmf),
            inband_dtmf=self.sip_inband_dtmf,
            variable_headers=self.sip_variable_headers,
            trust_identity=self.sip_trust_identity,
            max_calls=self.sip_max_calls,
            outbound_address=self.sip_outbound_address or "",
            outbound_transport=check.transport(self.sip_outbound_transport),
            outbound_username=self.sip_outbound_username or "",
            outbound_password=_revealed(self.sip_outbound_password),
            outbound_caller_id=self.sip_outbound_caller_id or "",
            outbound_asserted_identity=self.sip_outbound_asserted_identity,
            **secrets,
        )
