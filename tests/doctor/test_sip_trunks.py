"""Trunks that calls are placed over: which ways are asked, and what their answers mean."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bridge.auth.sip_digest_client import SipAccount
from bridge.doctor.reach import Trouble
from bridge.doctor.sip_ask import Answer, Asking, Question, Silence
from bridge.doctor.sip_trunks import TrunkSeen, judge_trunk, look_at_trunk, request_uri
from bridge.sip.flow import Flow, Transport
from bridge.sip.trunks import Outbound, Trunk
from tests.kit.doctor import told, udp_peer
from tests.kit.sip_peer import response_to

NOW = 1_800_000_000.0
UDP = Flow(Transport.UDP, "54.1.1.1", 5060)
TLS = Flow(Transport.TLS, "54.1.1.2", 5061, server_name="sip.example.com")
OUTBOUND = Outbound("sip.example.com")
OURS = "54.9.9.9"


def judged(*answers: Answer, outbound: Outbound = OUTBOUND, name: str = "carrier") -> tuple[str, str, str]:
    seen = TrunkSeen(tuple(answer.flow for answer in answers), answers)
    finding = judge_trunk(Trunk(name, outbound=outbound), seen, OURS, NOW)
    assert finding.name == f"SIP trunk {name}"
    return told(finding)


# --- asking ----------------------------------------------------------------------------------------------


def test_the_trunk_itself_is_asked() -> None:
    assert request_uri(OUTBOUND, UDP) == "sip:sip.example.com"
    assert request_uri(Outbound("sip.example.com", 5070), TLS) == "sip:sip.example.com:5070;transport=tls"
    assert request_uri(Outbound("2001:db8::1"), UDP) == "sip:[2001:db8::1]"


async def test_only_ways_that_a_call_would_take_are_asked() -> None:
    asked: list[str] = []

    def reply(text: str) -> Iterator[str]:
        asked.append(text.partition("\r\n")[0])
        yield response_to(text, 200)

    async with udp_peer(reply) as port:
        ways = (Flow(Transport.TCP, "127.0.0.1", port), *([Flow(Transport.UDP, "127.0.0.1", port)] * 6))

        async def find(outbound: Outbound) -> tuple[Flow, ...]:
            return ways

        asking = Asking(lambda: "id", time.monotonic)
        seen = await look_at_trunk(OUTBOUND, find, [Transport.UDP], lambda uri: Question(uri, OURS, "doctor"), asking)
    assert seen.ways == ways
    assert [answer.status for answer in seen.answers] == [200] * 4
    assert asked == ["OPTIONS sip:sip.example.com SIP/2.0"] * 4


# --- verdicts --------------------------------------------------------------------------------------------


def test_a_trunk_that_is_well() -> None:
    assert judged(Answer(UDP, 200, took_ms=12.4)) == (
        "ok", "sip.example.com: UDP 54.1.1.1:5060 answers 200 OK in 12 ms", "",
    )  # fmt: skip
    assert judged(Answer(UDP, 200, seen_as=OURS))[0] == "ok"
    assert judged(Answer(UDP, 200, seen_as="10.0.0.5"))[0] == "ok", "a trunk in the house"


def test_every_way_is_named() -> None:
    assert judged(Answer(TLS, 200, took_ms=3, expires_unix_s=NOW + 90 * 86_400), Answer(UDP, 200, took_ms=1))[1] == (
        "sip.example.com: TLS 54.1.1.2:5061 answers 200 OK in 3 ms; UDP 54.1.1.1:5060 answers 200 OK in 1 ms"
    )


@pytest.mark.parametrize(
    ("status", "verdict", "words", "advice"),
    [
        (
            401, "warning", "401 Unauthorized (it wants credentials, and is there)",
            "It wants a password: if it wants one for calls, too, set outbound_username and outbound_password.",
        ),
        (404, "ok", "404 Not Found (nobody was named, and it is there)", ""),
        (405, "ok", "405 Method Not Allowed (it takes no OPTIONS, and is there)", ""),
        (501, "ok", "501 Not Implemented (it takes no OPTIONS, and is there)", ""),
        (499, "ok", "499", ""),
        (
            403, "warning", "403 Forbidden",
            "It refuses this machine, or OPTIONS alone: enter the address that the bridge is seen from in the trunk's "
            "list at the carrier, then place a call.",
        ),
        (
            503, "warning", "503 Service Unavailable",
            "It is full, draining or out of order: try again in a while, or ask its operator.",
        ),
        (
            500, "warning", "500 Server Internal Error", "It is out of order: ask its operator, or look at its log.",
        ),
    ],
)  # fmt: skip
def test_any_final_response_is_a_sign_of_life(status: int, verdict: str, words: str, advice: str) -> None:
    assert judged(Answer(UDP, status, took_ms=5)) == (
        verdict, f"sip.example.com: UDP 54.1.1.1:5060 answers {words} in 5 ms", advice,
    )  # fmt: skip


def test_credentials_are_for_the_first_call() -> None:
    outbound = Outbound("sip.example.com", account=SipAccount("bridge", "secret"))
    assert judged(Answer(UDP, 407, took_ms=5), outbound=outbound) == (
        "ok",
        "sip.example.com: UDP 54.1.1.1:5060 answers 407 Proxy Authentication Required (it wants credentials, and is "
        "there) in 5 ms; user name and password are tried with the first call only",
        "",
    )


@pytest.mark.parametrize("trouble", [*Silence, *(each for each in Trouble if each.name not in (
    "NO_NAME", "CLOSED", "NO_CONNECTION", "TIME_OUT"))])  # fmt: skip
def test_every_kind_of_silence_has_its_advice(trouble: Silence | Trouble) -> None:
    verdict, seen, advice = judged(Answer(TLS, trouble=trouble))
    assert (verdict, seen) == ("failed", f"sip.example.com: TLS 54.1.1.2:5061: {trouble.value}")
    assert advice.endswith(".")
    assert judged(Answer(UDP, 200), Answer(TLS, trouble=trouble)) == (
        "warning",
        f"sip.example.com: UDP 54.1.1.1:5060 answers 200 OK in 0 ms; TLS 54.1.1.2:5061: {trouble.value}",
        f"Calls may have to take another way, and begin later then. {advice}",
    )


def test_members_are_called_as_they_are_set() -> None:
    silent = Answer(UDP, trouble=Silence.REFUSED)
    assert judged(silent)[2] == (
        "Check outbound_address, its port and outbound_transport: nothing listens there."
    )  # fmt: skip
    assert judged(silent, name="default")[2] == (
        "Check SIP_OUTBOUND_ADDRESS, its port and SIP_OUTBOUND_TRANSPORT: nothing listens there."
    )


def test_a_certificate_near_its_end() -> None:
    assert judged(Answer(TLS, 200, took_ms=1, expires_unix_s=NOW + 13.5 * 86_400)) == (
        "warning",
        "sip.example.com: TLS 54.1.1.2:5061 answers 200 OK in 1 ms; its certificate ends in 13 days",
        "Tell the operator of the trunk.",
    )


def test_a_trunk_that_sees_another_address_than_it_is_told() -> None:
    assert judged(Answer(UDP, 200, took_ms=1, seen_as="54.3.3.3")) == (
        "warning",
        "sip.example.com: UDP 54.1.1.1:5060 answers 200 OK in 1 ms; it sees this machine as 54.3.3.3, and is told "
        "54.9.9.9",
        "Set SIP_EXTERNAL_IP to 54.3.3.3, if what is sent there reaches this machine.",
    )


def test_a_name_that_leads_nowhere() -> None:
    assert judged() == (
        "failed", "sip.example.com is resolved to no address", "Check outbound_address, and this machine's DNS.",
    )  # fmt: skip


def test_a_way_that_the_bridge_does_not_have() -> None:
    def unusable(outbound: Outbound) -> tuple[str, str, str]:
        return told(judge_trunk(Trunk("carrier", outbound=outbound), TrunkSeen((TLS, UDP)), OURS, NOW))

    assert unusable(OUTBOUND) == (
        "failed",
        "sip.example.com is called over TLS or UDP, which the bridge does not have",
        "Set SIP_TLS_PORT or SIP_UDP_PORT: the bridge calls over what it listens to.",
    )
    assert unusable(Outbound("sip.example.com", 5060))[2] == (
        "Set SIP_TLS_PORT or SIP_UDP_PORT: the bridge calls over what it listens to. Or set outbound_transport to what "
        "it does listen to."
    )
