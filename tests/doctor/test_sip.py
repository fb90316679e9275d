"""The checks of SIP together: which there are, and trunks that answer or do not."""

from __future__ import annotations

from pathlib import Path

from bridge.auth.sip_digest_client import SipAccount
from bridge.doctor.findings import Finding
from bridge.doctor.runner import run_checks
from bridge.doctor.sip import sip_checks
from bridge.doctor.tools import Tools
from bridge.simulators.sip_trunk import SipTrunk, SipTrunkOptions
from bridge.sip.flow import Transport
from bridge.sip.trunks import Inbound, Outbound, Trunk, parse_network
from tests.kit.doctor import new_authority, told, tools_for
from tests.kit.sip import SipPorts, free_signalling_port

LOCAL = {"SIP_HOST": "127.0.0.1", "SIP_ALLOWED_ADDRESSES": "127.0.0.1"}


async def look(tools: Tools) -> dict[str, Finding]:
    return {finding.name: finding for finding in await run_checks(sip_checks(tools), lambda line: None)}


async def test_without_a_port_there_is_one_line() -> None:
    async with tools_for(SIP_OUTBOUND_ADDRESS="sip.example.com") as tools:
        (only,) = (await look(tools)).values()
    assert (only.name, *told(only)) == (
        "SIP", "skipped", "none of SIP_UDP_PORT, SIP_TCP_PORT and SIP_TLS_PORT is set: no SIP trunks", "",
    )  # fmt: skip


async def test_which_checks_there_are(tmp_path: Path) -> None:
    ports = {"SIP_UDP_PORT": "5060", "SIP_TCP_PORT": "5060", "SIP_TLS_PORT": "5061"}
    more = tuple(Trunk(f"t{number}", outbound=Outbound("127.0.0.1")) for number in range(21))
    certificate = str(new_authority().certificate_file(tmp_path))
    async with tools_for(None, ports, trunks=more, SIP_TLS_CERT=certificate, SIP_ALLOWED_ADDRESSES="10.0.0.1") as tools:
        checks = sip_checks(tools)
        left_out = await checks[-1].look()
    names = [check.name for check in checks]
    assert names[:8] == [
        "SIP: trunks", "SIP: address", "SIP: UDP port", "SIP: TCP port", "SIP: TLS port", "SIP: RTP ports",
        "SIP: certificate", "SIP trunk t0",
    ]  # fmt: skip
    assert names[-2:] == ["SIP trunk t19", "SIP"]
    assert isinstance(left_out, Finding)
    assert told(left_out) == ("skipped", "1 more trunks place calls; only the first 20 are asked", "")


async def test_a_trunk_that_answers_over_udp_and_tcp() -> None:
    async with SipTrunk() as carrier:
        office = Trunk(
            "office", outbound=Outbound("127.0.0.1", carrier.port, Transport.TCP, SipAccount("office", "secret-word"))
        )
        given = {**LOCAL, **SipPorts.free().settings(), "SIP_OUTBOUND_ADDRESS": carrier.address}
        async with tools_for(None, given, trunks=(office,), BRIDGE_MAX_CALLS="40") as tools:
            found = await look(tools)
        assert (carrier.pings, carrier.violations) == (2, ())
    assert {finding.verdict.value for name, finding in found.items() if name != "SIP: certificate"} == {"ok"}
    assert found["SIP trunk default"].seen.startswith(f"127.0.0.1: UDP {carrier.address} answers 200 OK in ")
    assert found["SIP trunk office"].seen.startswith(f"127.0.0.1: TCP {carrier.address} answers 200 OK in ")
    assert found["SIP trunk office"].seen.endswith("; user name and password are tried with the first call only")
    assert found["SIP: trunks"].seen == "2 are set: 1 for calls in, 2 for calls out"


async def test_a_trunk_over_tls_by_an_authority_of_its_own(tmp_path: Path) -> None:
    authority = new_authority()
    certificate = authority.certificate_file(tmp_path, "127.0.0.1")
    given = {
        **LOCAL, "SIP_TLS_PORT": str(free_signalling_port()), "SIP_TLS_CERT": str(certificate),
        "SIP_OUTBOUND_TRANSPORT": "tls",
    }  # fmt: skip
    trusting = {"SIP_TLS_CA": str(authority.authority_file(tmp_path))}
    async with SipTrunk(SipTrunkOptions(transports=(Transport.TLS,), cert_file=certificate)) as carrier:
        async with tools_for(None, {**given, **trusting}, SIP_OUTBOUND_ADDRESS=carrier.address) as tools:
            good = await look(tools)
        async with tools_for(None, given, SIP_OUTBOUND_ADDRESS=carrier.address) as tools:
            stranger = await look(tools)
    assert good["SIP trunk default"].seen.startswith(f"127.0.0.1: TLS {carrier.address} answers 200 OK in ")
    assert good["SIP: certificate"].verdict.value == "ok"
    assert told(stranger["SIP trunk default"]) == (
        "failed",
        f"127.0.0.1: TLS {carrier.address}: the certificate's chain is not complete",
        "Have the trunk show its whole chain, or put the missing authority into SIP_TLS_CA.",
    )


async def test_a_trunk_that_is_not_there() -> None:
    given = {**LOCAL, "SIP_UDP_PORT": str(free_signalling_port())}
    async with tools_for(None, given, SIP_OUTBOUND_ADDRESS=f"127.0.0.1:{free_signalling_port()}") as tools:
        finding = (await look(tools))["SIP trunk default"]
    assert finding.verdict.value == "failed"
    assert finding.seen.endswith(": nobody listens there")


async def test_addresses_that_names_lead_to_count_too() -> None:
    given = {"SIP_UDP_PORT": "5060", "SIP_HOST": "10.0.0.5", "SIP_OUTBOUND_ADDRESS": "54.172.60.1"}
    async with tools_for(None, given) as tools:
        (check,) = [check for check in sip_checks(tools) if check.name == "SIP: address"]
        finding = await check.look()
    assert isinstance(finding, Finding)
    assert finding.seen.endswith(", which default on the public internet cannot reach")


async def test_no_trunk_at_all() -> None:
    async with tools_for(SIP_UDP_PORT=str(free_signalling_port())) as tools:
        found = await look(tools)
        tools.trunks = (Trunk("own", Inbound((parse_network("127.0.0.1"),))),)
        assert (await look(tools))["SIP: trunks"].verdict.value == "ok"
    assert found["SIP: trunks"].verdict.value == "failed"
