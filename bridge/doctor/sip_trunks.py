"""Whether the trunks that calls are placed over are there: name, ways, an answer to OPTIONS, certificate.

The ways are those that a call would take (``bridge.server.sip.resolver``), and only transports that the bridge listens
to count, as with calls. No call is placed, no password is sent: whether a trunk takes the credentials only the first
call shows, since trunks ask for them with calls, if at all with OPTIONS.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bridge.calls.trunks_file import DEFAULT_TRUNK
from bridge.doctor.findings import Finding, failed, ok, warning
from bridge.doctor.reach import DAY_S, EXPIRY_WARNING_DAYS, Trouble
from bridge.doctor.sip_ask import Answer, Asking, Question, Silence, ask, bracketed
from bridge.server.egress_addresses import address_allowed
from bridge.sip.flow import Flow, Transport
from bridge.sip.message import REASONS
from bridge.sip.trunks import Outbound, Trunk, parse_ip

MAX_WAYS = 4
"""Ways of one trunk that are asked; a call would hardly get further."""

Find = Callable[[Outbound], Awaitable[tuple[Flow, ...]]]
"""Looks a trunk's ways up, best first."""

_MEMBER = re.compile(r"\boutbound_[a-z]+\b")
"""Members of a table of the file; the trunk of the settings has them as settings."""

_ADVICE: dict[Silence | Trouble, str] = {
    Silence.REFUSED: "Check outbound_address, its port and outbound_transport: nothing listens there.",
    Silence.TIME_OUT: "Open the firewall to it, and from it (UDP); check address, port and transport, and that the "
    "trunk knows this machine's address. If calls work all the same, it takes no OPTIONS from strangers.",
    Silence.NO_CONNECTION: "Check outbound_address, the route and the firewall; with SIP_HOST on 127.0.0.1 no other "
    "machine can be called.",
    Silence.HUNG_UP: "Check the port (5061 is for TLS, 5060 for the rest), and that the trunk knows this machine's "
    "address.",
    Silence.NOT_SIP: "Check outbound_address and its port.",
    Trouble.EXPIRED: "Have the operator of the trunk renew it; calls over TLS fail.",
    Trouble.NOT_YET: "Set this machine's clock; if it is right, tell the operator of the trunk.",
    Trouble.SELF_SIGNED: "Put the authority that signed it into SIP_TLS_CA; the system's authorities do not know it.",
    Trouble.CHAIN: "Have the trunk show its whole chain, or put the missing authority into SIP_TLS_CA.",
    Trouble.HOSTNAME: "Set outbound_address to the name in the trunk's certificate.",
    Trouble.NO_TLS: "Check that this port is for TLS 1.2 or later; a trunk that wants our certificate needs "
    "SIP_TLS_CERT.",
}


@dataclass(frozen=True, slots=True)
class TrunkSeen:
    """What came of a trunk's ways."""

    ways: tuple[Flow, ...]
    """All that were found."""
    answers: tuple[Answer, ...] = ()
    """Of those that the bridge can use, in their order."""


def trunk_name(trunk: Trunk) -> str:
    """The check's name."""
    return f"SIP trunk {trunk.name}"


def request_uri(outbound: Outbound, flow: Flow) -> str:
    """Whom to ask: the trunk itself, no number."""
    port = "" if outbound.port is None else f":{outbound.port}"
    parameter = "" if flow.transport is Transport.UDP else f";transport={flow.transport.value.lower()}"
    return f"sip:{bracketed(outbound.host)}{port}{parameter}"


async def look_at_trunk(
    outbound: Outbound,
    find: Find,
    served: Sequence[Transport],
    question: Callable[[str], Question],
    asking: Asking,
) -> TrunkSeen:
    """Look the ways up and ask on those that can be used, at the same time. ``question`` takes the Request-URI."""
    ways = await find(outbound)
    usable = [flow for flow in ways if flow.transport in served][:MAX_WAYS]
    answers = await asyncio.gather(*(ask(flow, question(request_uri(outbound, flow)), asking) for flow in usable))
    return TrunkSeen(ways, tuple(answers))


# --- verdicts --------------------------------------------------------------------------------------------


def judge_trunk(trunk: Trunk, seen: TrunkSeen, announced: str, now_unix_s: float) -> Finding:
    """What to make of it. ``announced``: the address that trunks are told."""
    assert trunk.outbound is not None, "others are not looked at"
    finding = _judge(trunk_name(trunk), trunk.outbound, seen, announced, now_unix_s)
    if trunk.name != DEFAULT_TRUNK:
        return finding
    return replace(finding, advice=_MEMBER.sub(lambda member: f"SIP_{member[0].upper()}", finding.advice))


def _judge(name: str, outbound: Outbound, seen: TrunkSeen, announced: str, now_unix_s: float) -> Finding:
    host = outbound.host
    if not seen.ways:
        return failed(name, f"{host} is resolved to no address", "Check outbound_address, and this machine's DNS.")
    if not seen.answers:
        return _judge_unusable(name, seen.ways, outbound)
    words = f"{host}: " + "; ".join(_words(answer) for answer in seen.answers)
    silent = next((answer.trouble for answer in seen.answers if answer.trouble is not None), None)
    if silent is not None and not any(answer.status for answer in seen.answers):
        return failed(name, words, _ADVICE[silent])
    if outbound.account is not None:
        words += "; user name and password are tried with the first call only"
    if silent is not None:
        return warning(name, words, f"Calls may have to take another way, and begin later then. {_ADVICE[silent]}")
    ends = [answer.expires_unix_s for answer in seen.answers if answer.expires_unix_s is not None]
    days = int((min(ends) - now_unix_s) // DAY_S) if ends else EXPIRY_WARNING_DAYS
    if days < EXPIRY_WARNING_DAYS:
        return warning(name, f"{words}; its certificate ends in {days} days", "Tell the operator of the trunk.")
    if advice := _worry(seen.answers[0].status, has_account=outbound.account is not None):
        return warning(name, words, advice)
    return _judge_own_address(name, words, seen, announced)


def _judge_own_address(name: str, words: str, seen: TrunkSeen, announced: str) -> Finding:
    """Whether the trunk sees us at the address that it is told; private ones differ for good reasons."""
    for answer in seen.answers:
        address = parse_ip(answer.seen_as)
        if address is not None and address_allowed(address) and address != parse_ip(announced):
            return warning(
                name,
                f"{words}; it sees this machine as {address}, and is told {announced}",
                f"Set SIP_EXTERNAL_IP to {address}, if what is sent there reaches this machine.",
            )
    return ok(name, words)


def _worry(status: int, *, has_account: bool) -> str:
    """Advice where a status says that calls may not work; empty = it says nothing of the kind.

    404, 405, 480, 501 and the like are about OPTIONS, or about nobody having been named.
    """
    if status in (401, 407) and not has_account:
        return "It wants a password: if it wants one for calls, too, set outbound_username and outbound_password."
    if status == 403:
        return (
            "It refuses this machine, or OPTIONS alone: enter the address that the bridge is seen from in the trunk's "
            "list at the carrier, then place a call."
        )
    if status == 503:
        return "It is full, draining or out of order: try again in a while, or ask its operator."
    if status >= 500 and status not in (501, 505):
        return "It is out of order: ask its operator, or look at its log."
    return ""


def _judge_unusable(name: str, ways: Sequence[Flow], outbound: Outbound) -> Finding:
    wanted = list(dict.fromkeys(flow.transport.value for flow in ways))
    settings = " or ".join(f"SIP_{each}_PORT" for each in wanted)
    mend = f"Set {settings}: the bridge calls over what it listens to."
    if outbound.transport is None and outbound.port is not None:
        mend += " Or set outbound_transport to what it does listen to."
    return failed(name, f"{outbound.host} is called over {' or '.join(wanted)}, which the bridge does not have", mend)


def _words(answer: Answer) -> str:
    flow = answer.flow
    way = f"{flow.transport.value} {bracketed(flow.host)}:{flow.port}"
    if answer.trouble is not None:
        return f"{way}: {answer.trouble.value}"
    return f"{way} answers {_status_words(answer.status)} in {answer.took_ms:.0f} ms"


_EXPLAINED = {
    401: "it wants credentials, and is there",
    407: "it wants credentials, and is there",
    404: "nobody was named, and it is there",
    405: "it takes no OPTIONS, and is there",
    501: "it takes no OPTIONS, and is there",
}


def _status_words(status: int) -> str:
    phrase = REASONS.get(status, "")  # not the peer's own, which may be anything
    explained = f" ({_EXPLAINED[status]})" if status in _EXPLAINED else ""
    return f"{status} {phrase}".rstrip() + explained
