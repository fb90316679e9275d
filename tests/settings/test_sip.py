"""The SIP settings: the trunk that they make, and what is said about those that do not work."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from pydantic import ValidationError

from bridge.auth.sip_digest_client import SipAccount
from bridge.auth.sip_digest_header import Algorithm
from bridge.media.format import Encoding
from bridge.settings.server import ServerSettings
from bridge.settings.sip import SipSettings
from bridge.sip.flow import Transport
from bridge.sip.trunks import AnswerWhen, DtmfWay, Inbound, Outbound, Trunk


class Both(SipSettings, ServerSettings):
    """As ``bridge.config.Settings`` has them: the server's come first."""


def made(**values: str) -> SipSettings:
    return SipSettings.model_validate(values)


def said(**values: str) -> list[str]:
    """What is wrong, each with its setting."""
    with pytest.raises(ValidationError) as caught:
        Both.model_validate(values)
    return [f"{error['loc'][0]} {error.get('ctx', {}).get('error', error['msg'])}" for error in caught.value.errors()]


def test_without_any_there_is_no_sip() -> None:
    settings = SipSettings()
    assert not settings.has_sip
    assert settings.default_trunk is None
    assert settings.sip_problems == []
    assert (settings.sip_rtp_port_min, settings.sip_rtp_port_max) == (10_000, 20_000)
    assert settings.sip_host == settings.sip_announced_host == "127.0.0.1"
    assert settings.sip_message_log == "all"


def test_algorithms_of_challenges() -> None:
    assert SipSettings().sip_digest_algorithms == (Algorithm.MD5, Algorithm.SHA_256)
    assert made(sip_digest_algorithms="sha256").sip_digest_algorithms == (Algorithm.SHA_256,)
    assert made(sip_digest_algorithms="SHA-256, md5").sip_digest_algorithms == (Algorithm.SHA_256, Algorithm.MD5)


@pytest.mark.parametrize("port", ["sip_udp_port", "sip_tcp_port"])
def test_a_port_switches_it_on(port: str) -> None:
    assert made(**{port: "5060"}).has_sip


def test_tls(tmp_path: Path) -> None:
    settings = made(sip_tls_port="5061", sip_tls_cert=str(tmp_path / "c.pem"))
    assert settings.has_sip
    assert settings.sip_tls_cert == tmp_path / "c.pem"
    assert said(sip_tls_port="5061") == ["sip_tls_port is set without SIP_TLS_CERT; give the PEM file of a certificate"]


def test_the_default_trunk_with_everything() -> None:
    trunk = made(
        sip_allowed_addresses="192.0.2.0/24, 2001:db8::1",
        sip_allowed_numbers="+49*",
        sip_remote_domains="SIP.example.com",
        sip_username="bridge",
        sip_password="new, old",
        sip_codecs="PCMA",
        sip_answer="AT_ONCE",
        sip_dtmf="info",
        sip_inband_dtmf="on",
        sip_variable_headers="X-Contact-ID",
        sip_trust_identity="off",
        sip_max_calls="7",
        sip_outbound_address="sip.example.com:5070",
        sip_outbound_transport="TCP",
        sip_outbound_username="us",
        sip_outbound_password="pa,ss",
        sip_outbound_headers='{"X-Token": "t0"}',
        sip_outbound_caller_id="+49 30 111",
        sip_outbound_asserted_identity="on",
    ).default_trunk
    assert trunk == Trunk(
        "default",
        Inbound(
            (ipaddress.ip_network("192.0.2.0/24"), ipaddress.ip_network("2001:db8::1/128")),
            ("+49*",),
            (),
            ("sip.example.com",),
            "bridge",
            ("new", "old"),
        ),
        Outbound(
            "sip.example.com",
            5070,
            Transport.TCP,
            SipAccount("us", "pa,ss"),
            (("X-Token", "t0"),),
            "+4930111",
            True,
        ),
        codecs=(Encoding.ALAW,),
        answer_when=AnswerWhen.AT_ONCE,
        dtmf=DtmfWay.INFO,
        detects_tones=True,
        variable_headers=("X-Contact-ID",),
        trusts_identity=False,
        max_calls=7,
    )


def test_secrets_are_not_shown() -> None:
    settings = made(sip_password="hunter2", sip_outbound_password="hunter3", sip_outbound_headers='{"X-A": "hunter4"}')
    assert "hunter" not in repr(settings)


def test_what_does_not_fit_together() -> None:
    assert made(sip_username="u").sip_problems == [
        "SIP_PASSWORD is missing; SIP_USERNAME is of no use without it",
    ]
    assert made(sip_username="u").default_trunk is None
    assert made(sip_outbound_caller_id="+1").sip_problems == [
        "SIP_OUTBOUND_ADDRESS is missing; SIP_OUTBOUND_CALLER_ID is of no use without it"
    ]


def test_the_address_that_peers_are_told() -> None:
    assert made(sip_host="192.0.2.7").sip_announced_host == "192.0.2.7"
    assert made(sip_host="[2001:db8::7]").sip_announced_host == "2001:db8::7"
    assert made(sip_host="0.0.0.0", sip_external_ip="203.0.113.7").sip_announced_host == "203.0.113.7"
    for anywhere in ("0.0.0.0", "::"):
        own = ipaddress.ip_address(made(sip_host=anywhere).sip_announced_host)
        assert own.version == ipaddress.ip_address(anywhere).version
        assert not own.is_unspecified


def test_a_machine_without_a_network_tells_its_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Offline:
        def __init__(self, *_: object) -> None: ...

        def __enter__(self) -> Offline:
            return self

        def __exit__(self, *_: object) -> None: ...

        def connect(self, _: object) -> None:
            raise OSError("network is unreachable")

    monkeypatch.setattr("bridge.settings.sip.socket.socket", Offline)
    assert made(sip_host="0.0.0.0").sip_announced_host == "127.0.0.1"
    assert made(sip_host="::").sip_announced_host == "::1"


def test_with_authentication_off_nobody_else_gets_in() -> None:
    refused = "sip_host is an address that others reach while BRIDGE_AUTH is off; set it to 127.0.0.1, or "
    assert said(bridge_auth="off", sip_host="0.0.0.0") == [refused + "BRIDGE_AUTH to on"]
    Both.model_validate({"bridge_auth": "off", "sip_host": "::1"})
    Both.model_validate({"bridge_auth": "on", "sip_host": "0.0.0.0"})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("sip_host", "sip.example.com", "is no address; give one of this machine's such as 192.0.2.7"),
        ("sip_external_ip", "0.0.0.0", "is no address that peers could send to; give one such as 203.0.113.7"),
        ("sip_external_ip", "sip.example.com", "is no address that peers could send to"),
        ("sip_rtp_port_max", "10000", "leaves no two ports from SIP_RTP_PORT_MIN on; give more than 10000"),
        ("sip_allowed_addresses", "carrier", "has 'carrier', which is no address or block; give a list of addresses"),
        ("sip_codecs", "G722", "is 'G722'; give PCMU, PCMA or both, the preferred one first"),
        ("sip_digest_algorithms", "SHA-512-256", "is 'SHA-512-256'; give MD5, SHA-256 or both, in the order in which"),
        ("sip_digest_algorithms", "MD5, x", "is 'MD5, x'; give MD5, SHA-256 or both"),
        ("sip_outbound_address", "sip:a@b", "is 'sip:a@b'; give a host name or address such as sip.example.com"),
        ("sip_outbound_headers", "{", "is no JSON; give a JSON object of texts such as"),
        ("sip_outbound_headers", "[]", "is no JSON object; give one of texts such as"),
        ("sip_outbound_headers", '{"To": "hunter2"}', "cannot be sent: header To cannot be set: it carries the call"),
        ("sip_password", ",", "is none that works; give up to 256 printable characters, or up to 4 passwords"),
    ],
)
def test_mistakes(name: str, value: str, words: str) -> None:
    (found,) = said(**{name: value})
    assert found.startswith(f"{name} {words}")
    assert "hunter2" not in found
