"""Whether settings of SIP make sense together: trunks, addresses, ranges."""

from __future__ import annotations

import pytest

from bridge.doctor.findings import Finding
from bridge.doctor.sip_settings import (
    Peers,
    judge_address,
    judge_range,
    judge_trunks,
    options_of_range,
    peers_of,
)
from bridge.server.sip.media_ports import PortOptions
from bridge.sip.trunks import Inbound, Outbound, Trunk, parse_ip, parse_network
from tests.kit.doctor import told
from tests.kit.server import settings_for

CARRIER = (parse_network("54.172.60.0/30"),)
IN = Trunk("carrier", Inbound(CARRIER))
OUT = Trunk("out", outbound=Outbound("sip.example.com"))
SECRET = Trunk("phone", Inbound(username="phone", passwords=("secret",)))


# --- trunks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trunks", "verdict", "seen", "advice"),
    [
        (
            [IN, OUT, SECRET], "ok", "3 are set: 2 for calls in, 1 for calls out", "",
        ),
        (
            [IN], "ok", "1 is set: 1 for calls in, 0 for calls out",
            "For calls out, and transfers by number, set SIP_OUTBOUND_ADDRESS.",
        ),
        (
            [OUT], "ok", "1 is set: 0 for calls in, 1 for calls out",
            "For calls in set SIP_ALLOWED_ADDRESSES, or SIP_USERNAME and SIP_PASSWORD.",
        ),
        (
            [], "failed", "none is set: nobody can call, and no call can be placed",
            "Set SIP_ALLOWED_ADDRESSES to the carrier's signalling addresses, or SIP_USERNAME and SIP_PASSWORD; for "
            "several carriers make [trunks.NAME] tables.",
        ),
        (
            [IN, Trunk("wide", Inbound((parse_network("0.0.0.0/0"),)))], "warning",
            "wide: anybody on the internet can call, without a password",
            "Narrow the allowed addresses down to the carrier's, or set a user name and password besides.",
        ),
    ],
)  # fmt: skip
def test_trunks(trunks: list[Trunk], verdict: str, seen: str, advice: str) -> None:
    assert told(judge_trunks(trunks, is_auth_on=True)) == (verdict, seen, advice)


def test_a_password_makes_an_open_trunk_a_closed_one() -> None:
    wide = Trunk("wide", Inbound((parse_network("::/0"),), username="u", passwords=("p",)))
    assert judge_trunks([wide], is_auth_on=True).verdict.value == "ok"


def test_without_authentication_no_trunk_is_needed() -> None:
    assert told(judge_trunks([], is_auth_on=False)) == (
        "ok", "none is set; BRIDGE_AUTH is off, so everybody on this machine can call", "",
    )  # fmt: skip


# --- addresses -------------------------------------------------------------------------------------------


def test_where_trunks_are() -> None:
    address = parse_ip("2600:1f18::7")
    assert address is not None
    local = Trunk("local", Inbound((parse_network("127.0.0.1"),)))
    house = Trunk("house", Inbound((parse_network("10.0.0.0/8"),)))
    wide = Trunk("wide", Inbound((parse_network("0.0.0.0/0"),)))
    assert peers_of([IN, OUT, SECRET, local, house, wide], {"out": (address,)}) == Peers(
        public=("carrier", "out", "wide"),
        elsewhere=("carrier", "out", "house", "wide"),
        anywhere=("phone",),
        versions=frozenset({4, 6}),
    )
    assert peers_of([OUT], {}) == Peers(anywhere=("out",))


def address_told(peers: Peers, announced: str = "", **settings: str) -> tuple[str, str, str]:
    chosen = settings_for({"SIP_UDP_PORT": "5060", **settings})
    return told(judge_address(chosen, peers, announced or chosen.sip_announced_host))


PUBLIC = Peers(("carrier",), ("carrier",), versions=frozenset({4}))
HOST_MEND = "Set SIP_HOST to 0.0.0.0, or to an address of this machine that trunks reach."


def test_an_address_that_trunks_reach() -> None:
    assert address_told(PUBLIC, SIP_HOST="0.0.0.0", SIP_EXTERNAL_IP="54.1.2.3") == (
        "ok", "listens on 0.0.0.0, tells trunks 54.1.2.3", "",
    )  # fmt: skip
    private = Peers((), ("house",), versions=frozenset({4}))
    assert address_told(private, SIP_HOST="10.0.0.5")[0] == "ok"


def test_a_private_address_is_told_to_a_public_trunk() -> None:
    assert address_told(PUBLIC, SIP_HOST="10.0.0.5") == (
        "warning",
        "listens on 10.0.0.5, tells trunks 10.0.0.5, which carrier on the public internet cannot reach",
        "Set SIP_EXTERNAL_IP to the public address of this machine, and map the SIP and RTP ports there to the same "
        "numbers here: calls stay silent or break off without.",
    )


@pytest.mark.parametrize(
    ("peers", "public_url", "verdict", "seen"),
    [
        (PUBLIC, "", "failed", ": only this machine reaches it, and carrier is elsewhere"),
        (
            Peers(anywhere=("phone",)), "https://bridge.example.com", "failed",
            ": only this machine reaches it, but PUBLIC_URL is for others",
        ),
        (
            Peers(anywhere=("phone",)), "http://127.0.0.1:8080", "warning",
            ": only this machine reaches it, and where phone calls from is not known",
        ),
    ],
)  # fmt: skip
def test_loopback_while_trunks_are_elsewhere(peers: Peers, public_url: str, verdict: str, seen: str) -> None:
    assert address_told(peers, PUBLIC_URL=public_url) == (
        verdict, f"listens on 127.0.0.1, tells trunks 127.0.0.1{seen}", HOST_MEND,
    )  # fmt: skip


def test_loopback_is_right_for_trunks_on_this_machine() -> None:
    proxy = Peers(versions=frozenset({4}))
    seen = "listens on 127.0.0.1, tells trunks 127.0.0.1: for trunks on this machine"
    assert address_told(proxy, PUBLIC_URL="https://bridge.example.com") == ("ok", seen, "")


def test_loopback_is_wanted_without_authentication() -> None:
    assert address_told(PUBLIC, BRIDGE_AUTH="off") == (
        "ok",
        "listens on 127.0.0.1, tells trunks 127.0.0.1: for trials on this machine, as BRIDGE_AUTH is off",
        "",
    )


def test_the_other_kind_of_address() -> None:
    assert address_told(PUBLIC, "2600:1f18::1", SIP_HOST="::") == (
        "failed",
        "listens on ::, tells trunks 2600:1f18::1, which is IPv6; all trunks have IPv4 addresses",
        "Set SIP_HOST to 0.0.0.0, or to an address of this machine of that kind.",
    )
    six = Peers(("carrier",), ("carrier",), versions=frozenset({6}))
    assert address_told(six, "54.1.2.3", SIP_HOST="0.0.0.0")[2].startswith("Set SIP_HOST to ::, ")
    both = Peers(("carrier",), ("carrier",), versions=frozenset({4, 6}))
    assert address_told(both, SIP_HOST="0.0.0.0", SIP_EXTERNAL_IP="2600:1f18::1") == (
        "warning",
        "listens on 0.0.0.0, tells trunks 2600:1f18::1: one is IPv4, the other IPv6",
        "Set SIP_EXTERNAL_IP and SIP_HOST to addresses of the same kind, unless something translates between.",
    )


# --- ports for calls -------------------------------------------------------------------------------------


def test_a_range_that_holds_the_calls() -> None:
    assert judge_range(1000, 10_000, 12_000, 1000) is None


def test_a_range_that_is_too_small() -> None:
    finding = judge_range(50, 10_000, 10_099, 1000)
    assert finding is not None
    assert told(finding) == (
        "warning",
        "10000 to 10099 hold 50 calls, two ports each; BRIDGE_MAX_CALLS is 1000",
        "Set SIP_RTP_PORT_MAX to 11999 (and open it in the firewall), or BRIDGE_MAX_CALLS to 50.",
    )
    late = judge_range(50, 65_000, 65_099, 1000)
    assert late is not None
    assert late.advice == "Begin lower with SIP_RTP_PORT_MIN, or set BRIDGE_MAX_CALLS to 50."


def test_a_range_without_a_pair() -> None:
    none = options_of_range(settings_for({"SIP_RTP_PORT_MIN": "10001", "SIP_RTP_PORT_MAX": "10002"}))
    assert isinstance(none, Finding)
    assert (none.verdict.value, none.advice) == ("failed", "Set SIP_RTP_PORT_MIN and SIP_RTP_PORT_MAX further apart.")
    some = options_of_range(settings_for({"SIP_RTP_PORT_MIN": "10001", "SIP_RTP_PORT_MAX": "10003"}))
    assert isinstance(some, PortOptions)
    assert (some.first_port, some.count) == (10_002, 1)
