"""Whether PUBLIC_URL is really ours, and whether what stands before the bridge passes requests on unchanged.

The bridge here and the bridge by its public address are asked the same nonce (``bridge.server.nonce``): only the same
process gives the same proof. The path and query of that request hold what careless proxies rewrite: an encoded tilde
and slash, an encoded blank and plus. Carriers sign the URL, so a rewritten one fails their signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from bridge.doctor.findings import Finding, failed, ok, skipped, warning
from bridge.doctor.reach import judge_address, look_at_address
from bridge.doctor.standin import Echo, read_echo
from bridge.doctor.tools import Tools, words_of
from bridge.server.nonce import NONCE_PATH

NAME, TLS_NAME, PROXY_NAME = "PUBLIC_URL", "PUBLIC_URL: TLS", "PUBLIC_URL: proxy"
INSTANCE_NAME = "INSTANCE_URL"

TRICKY_PATH = "/%7Etest%2Fa"
TRICKY_QUERY = "text=a%20b%2Bc&empty="
TRIES = 6
"""Behind a load balancer with several bridges, some of the requests reach the one on this machine."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What came back by the public address."""

    sent: str
    """Path and query below PUBLIC_URL, as sent."""
    here: Echo | None
    """The answer of the bridge on this machine; None = there was none to ask."""
    there: Echo | None = None
    """The answer by PUBLIC_URL."""
    status: int = 0
    """HTTP status where it was no such answer; 0 = no connection."""
    problem: str = ""
    """Words where there was no connection."""
    is_framework_404: bool = False
    """Whether the refusal has the looks of the bridge's own."""


async def look_round(tools: Tools, url: str, bridge_is_here: bool, tries: int = TRIES) -> RoundTrip:
    """Ask here and by this URL. Asks again while another instance answers."""
    trip = RoundTrip("", None)
    for _ in range(tries):
        nonce = tools.new_nonce()
        target = f"{NONCE_PATH}{TRICKY_PATH}?nonce={nonce}&{TRICKY_QUERY}"
        here = None
        if bridge_is_here:
            here = read_echo((await tools.http.get(tools.local_url + target)).content, nonce)
        trip = await _ask(tools, url, target, nonce, here)
        if trip.there is None or here is None or trip.there.proof == here.proof:
            break
    return trip


async def _ask(tools: Tools, url: str, target: str, nonce: str, here: Echo | None) -> RoundTrip:
    try:
        response = await tools.http.get(url + target)
    except httpx.HTTPError as error:
        return RoundTrip(target, here, problem=words_of(error))
    echo = read_echo(response.content, nonce) if response.status_code == 200 else None
    own_404 = response.status_code == 404 and response.content.replace(b" ", b"") == b'{"detail":"NotFound"}'
    return RoundTrip(target, here, echo, response.status_code, is_framework_404=own_404)


def judge_round(trip: RoundTrip, prefix: str) -> list[Finding]:
    """What to make of it; ``prefix`` is the path of PUBLIC_URL."""
    if trip.there is None:
        return [_judge_no_answer(trip, prefix), skipped(PROXY_NAME, "the bridge was not reached by PUBLIC_URL")]
    return [_judge_whose(trip), _judge_target(trip, prefix)]


def _judge_no_answer(trip: RoundTrip, prefix: str) -> Finding:
    if trip.problem:
        return failed(
            NAME,
            f"it cannot be reached from here: {trip.problem}",
            "Check DNS, the proxy, the firewall. If this network cannot reach its own public address, run the doctor "
            "elsewhere with the same settings and --at.",
        )
    if 300 <= trip.status < 400:
        return failed(
            NAME,
            f"it redirects (HTTP {trip.status})",
            "Set PUBLIC_URL, and what the carriers were told, to the address behind the redirect: signatures cover it.",
        )
    if trip.is_framework_404 and prefix:
        return failed(
            NAME,
            f"the bridge is reached with the prefix {prefix} still on its path",
            f"Have the proxy take {prefix} off, or take it out of PUBLIC_URL and of what the carriers were told.",
        )
    if trip.status in (502, 503, 504):
        return failed(
            NAME,
            f"the proxy answers, but does not reach the bridge (HTTP {trip.status})",
            "Point the proxy at the bridge's BRIDGE_HOST:BRIDGE_PORT as seen from the proxy's machine or container.",
        )
    return failed(
        NAME,
        f"something else answers there (HTTP {trip.status})",
        "Point the proxy's host and path of PUBLIC_URL at this bridge, all paths below it.",
    )


def _judge_whose(trip: RoundTrip) -> Finding:
    assert trip.there is not None, "asked before"
    if trip.here is None:
        return warning(
            NAME,
            "a bridge answers; whether it is this one cannot be told, as none could be asked here",
            "Run the doctor on the bridge's machine, or give --at its address.",
        )
    if trip.here.proof != trip.there.proof:
        return warning(
            NAME,
            "a bridge answers, but another process than the one on this machine",
            "Right behind a load balancer with several bridges; otherwise point PUBLIC_URL's proxy at this one.",
        )
    return ok(NAME, "leads to this bridge")


def _judge_target(trip: RoundTrip, prefix: str) -> Finding:
    assert trip.there is not None, "asked before"
    got_path, _, got_query = trip.there.target.partition("?")
    path, _, query = trip.sent.partition("?")
    if got_query != query:
        return failed(
            PROXY_NAME,
            "it rewrites the query of requests",
            "Have the proxy pass the query on as it came: carriers sign it, and their webhooks are refused.",
        )
    if prefix and got_path.startswith(prefix + "/"):
        return failed(
            PROXY_NAME,
            f"it leaves the prefix {prefix} on the path",
            f"Have the proxy take {prefix} off (nginx: location {prefix}/ with proxy_pass http://BRIDGE:PORT/).",
        )
    if got_path != path:
        return warning(
            PROXY_NAME,
            "it rewrites encoded characters of the path",
            "Have the proxy pass the path on raw (nginx: proxy_pass with $request_uri): signatures cover its letters.",
        )
    return ok(PROXY_NAME, "passes path and query on unchanged")


def judge_instance(trip: RoundTrip) -> Finding:
    """What to make of a round trip by INSTANCE_URL, which must lead to this very process."""
    if trip.there is None:
        seen = trip.problem or f"HTTP {trip.status}"
        return failed(
            INSTANCE_NAME,
            f"no bridge is reached by it from here: {seen}",
            "Route INSTANCE_URL to this process, with TLS: webhooks in the middle of a call come there.",
        )
    if trip.here is None:
        return skipped(INSTANCE_NAME, "a bridge answers; whether it is this one cannot be told")
    if trip.here.proof != trip.there.proof:
        return failed(
            INSTANCE_NAME,
            "another process than the one on this machine answers",
            "Give each process an INSTANCE_URL of its own; only PUBLIC_URL is shared.",
        )
    return ok(INSTANCE_NAME, "leads to this very process")


# --- the checks ------------------------------------------------------------------------------------------


def unset(tools: Tools) -> Finding:
    """What is said where PUBLIC_URL is not set."""
    return warning(
        NAME,
        f"it is not set; {tools.settings.public_base_url} is used, which only this machine can reach",
        "Set PUBLIC_URL to the https address that carriers are told, with a proxy and a certificate there.",
    )


async def check_public(tools: Tools, bridge_is_here: bool) -> list[Finding]:
    """The round trip."""
    if tools.settings.public_url is None:
        return [unset(tools)]
    url = tools.settings.public_base_url
    return judge_round(await look_round(tools, url, bridge_is_here), urlsplit(url).path)


async def check_instance(tools: Tools, bridge_is_here: bool) -> Finding:
    """The round trip by INSTANCE_URL."""
    url = tools.settings.instance_url
    if url is None:
        return skipped(INSTANCE_NAME, "it is not set: PUBLIC_URL leads to the only process")
    return judge_instance(await look_round(tools, url, bridge_is_here, tries=1))


async def check_public_tls(tools: Tools) -> Finding:
    """Certificate, TLS version and address of PUBLIC_URL."""
    url = tools.settings.public_url
    if url is None:
        return skipped(TLS_NAME, "PUBLIC_URL is not set")
    if url.startswith("http:"):
        return failed(
            TLS_NAME,
            "PUBLIC_URL is no https address",
            "Put a proxy with a certificate before the bridge and set PUBLIC_URL to https://: carriers take wss only.",
        )
    reached = await look_at_address(url, tools.tls, tools.resolver)
    host = urlsplit(url).hostname or ""
    finding = judge_address(TLS_NAME, "PUBLIC_URL", host, reached, tools.unix())
    if reached.trouble is None and reached.private and not finding.advice:
        return warning(
            TLS_NAME,
            f"{finding.seen}, but from here the name leads to a private address",
            "Make sure that the public DNS gives carriers a public one.",
        )
    return finding
