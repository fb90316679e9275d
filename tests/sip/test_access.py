"""The gate: who is let in on which terms, what strangers get, and that nobody can have a carrier banned."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from bridge.auth.sip_digest import DigestOptions, DigestServer, DigestVerdict
from bridge.auth.sip_digest_client import ChallengeKind, DigestClient, SipAccount
from bridge.calls.number_list import is_listed
from bridge.errors import LocalError
from bridge.sip.access import AccessGate, AccessOptions, AccessTools, Refusal, Unknown, is_domain
from bridge.sip.envelope import Envelope, read_request
from bridge.sip.flow import Flow, Transport
from bridge.sip.headers import Headers
from bridge.sip.message import Request
from bridge.sip.trunks import Inbound, Trunk, Trunks, parse_network
from bridge.sip.ua_options import Admit, Deny, Drop, Verdict

CARRIER, STRANGER, PBX = "192.0.2.10", "203.0.113.66", "198.51.100.5"
SECRET = b"0123456789abcdef"
ACCOUNT = SipAccount("pbx", "right")


class Bench:
    """A gate with its clock, and everything that was refused."""

    def __init__(self, *trunks: Trunk, unknown: Unknown = Unknown.REJECT, loopback: bool = False) -> None:
        self.unix_s = 1_800_000_000.0
        self.now = 0.0
        self.certificates: dict[int, tuple[str, ...]] = {}
        self.refused: list[Refusal] = []
        self.bans: list[str] = []
        self._drawn = 0
        tools = AccessTools(
            DigestServer(DigestOptions("bridge"), SECRET),
            SECRET,
            self._chance,
            lambda: self.unix_s,
            is_listed,
            lambda flow: self.certificates.get(flow.connection, ()),
            lambda refusal, flow: self.refused.append(refusal),
            lambda flow: self.bans.append(flow.host),
        )
        self.gate = AccessGate(Trunks(trunks, trust_loopback=loopback), tools, AccessOptions(unknown))

    def _chance(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(count, "big")

    def judge(self, message: Request, flow: Flow) -> Verdict:
        envelope = read_request(message)
        assert isinstance(envelope, Envelope)
        return self.gate.judge(message, envelope, flow, self.now)

    def log_in(self, flow: Flow, account: SipAccount = ACCOUNT, answered_from: Flow | None = None) -> Verdict:
        """Ask, answer the challenge, and give what comes of it."""
        client = DigestClient(account)
        challenge = self.judge(request(), flow)
        assert isinstance(challenge, Deny)
        assert client.challenged(ChallengeKind.USER, challenges(challenge), 0)
        return self.judge(
            request(fields=client.fields("INVITE", "sip:+4930111@bridge.example", "c0ffee")), answered_from or flow
        )


def challenges(deny: Deny) -> list[str]:
    return [value for name, value in deny.rejection.fields if name == "WWW-Authenticate"]


def udp(host: str, port: int = 5060) -> Flow:
    return Flow(Transport.UDP, host, port)


def tcp(host: str) -> Flow:
    return Flow(Transport.TCP, host, 40_000, connection=1)


def tls(host: str, connection: int = 7) -> Flow:
    return Flow(Transport.TLS, host, 40_001, connection=connection)


def request(
    method: str = "INVITE",
    *,
    uri: str = "sip:+4930111@bridge.example",
    from_: str = "<sip:+4915112345@carrier.example>",
    via: str = "edge.carrier.example",
    contact: str = "<sip:edge@192.0.2.10>",
    fields: tuple[tuple[str, str], ...] = (),
) -> Request:
    headers = [
        ("Via", f"SIP/2.0/UDP {via};branch=z9hG4bKa1"),
        ("From", f"{from_};tag=1"),
        ("To", f"<{uri}>"),
        ("Call-ID", "a84b4c76e66710"),
        ("CSeq", f"1 {method}"),
        ("Contact", contact),
        *fields,
    ]
    return Request(method, uri, Headers(headers))


def trunk(name: str, *networks: str, secured: bool = False, **inbound: object) -> Trunk:
    credentials: dict[str, object] = {"username": ACCOUNT.username, "passwords": ("right",)} if secured else {}
    addresses = tuple(parse_network(text) for text in networks)
    return Trunk(name, Inbound(addresses, **{**credentials, **inbound}))  # type: ignore[arg-type]


def status(verdict: Verdict) -> int:
    """What is answered; 0 = nothing, 200 = admitted."""
    match verdict:
        case Admit():
            return 200
        case Deny(rejection):
            return rejection.status
        case Drop():
            return 0


# --- addresses -------------------------------------------------------------------------------------------


def test_an_allowed_address_is_admitted() -> None:
    carrier = trunk("carrier", "192.0.2.0/24")
    bench = Bench(carrier)
    assert bench.judge(request(), udp(CARRIER)) == Admit(carrier)
    assert bench.judge(request(), tcp("::ffff:192.0.2.10")) == Admit(carrier)
    assert bench.refused == []


def test_an_allowed_ipv6_address() -> None:
    carrier = trunk("carrier", "2001:db8:1::/48")
    bench = Bench(carrier)
    assert bench.judge(request(), udp("2001:db8:1::10")) == Admit(carrier)
    assert status(bench.judge(request(), udp("2001:db8:2::10"))) == 403


@pytest.mark.parametrize(("unknown", "answered"), [(Unknown.REJECT, 403), (Unknown.SILENT, 0)])
def test_unknown_sources(unknown: Unknown, answered: int) -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24"), unknown=unknown)
    for method in ("INVITE", "OPTIONS", "REGISTER"):
        assert status(bench.judge(request(method), udp(STRANGER))) == answered
    assert bench.refused == [Refusal.UNKNOWN_SOURCE] * 3
    assert bench.gate.refusals[Refusal.UNKNOWN_SOURCE] == 3


def test_without_trunks_nobody_calls() -> None:
    assert status(Bench().judge(request(), udp("127.0.0.1"))) == 403
    assert status(Bench(loopback=True).judge(request(), udp("127.0.0.1"))) == 200
    assert status(Bench(loopback=True).judge(request(), udp(STRANGER))) == 403


# --- credentials -----------------------------------------------------------------------------------------


def test_credentials_from_anywhere() -> None:
    pbx = trunk("pbx", secured=True)
    bench = Bench(pbx)
    challenge = bench.judge(request(), udp(PBX))
    assert isinstance(challenge, Deny)
    assert challenge.rejection.status == 401
    values = challenges(challenge)
    assert [value.partition("algorithm=")[2].split(",")[0] for value in values] == ["SHA-256", "MD5"]
    assert all('realm="bridge"' in value for value in values)
    assert bench.log_in(udp(PBX)) == Admit(pbx)
    assert set(bench.refused) == {Refusal.CHALLENGED}


def test_a_phone_that_chokes_on_sha_256_gets_md5_alone() -> None:
    bench = Bench(trunk("pbx", secured=True))
    for agent, count in (("baresip v1.0.0 (x86_64/linux)", 1), ("baresip v3.1.0", 2), ("other baresip v1.0", 2)):
        challenge = bench.judge(request(fields=(("User-Agent", agent),)), udp(PBX))
        assert isinstance(challenge, Deny)
        assert len(challenges(challenge)) == count
        assert "algorithm=MD5," in challenges(challenge)[-1]


def test_wrong_credentials_are_challenged_again() -> None:
    bench = Bench(trunk("pbx", secured=True))
    for account in (SipAccount("pbx", "wrong"), SipAccount("nobody", "right")):
        assert status(bench.log_in(udp(PBX), account)) == 401
    assert bench.gate.refusals[Refusal.WRONG_CREDENTIALS] == 2


def test_after_a_wrong_password_the_nonce_stays_the_same() -> None:
    bench = Bench(trunk("pbx", secured=True))
    first = bench.judge(request(), udp(PBX))
    assert isinstance(first, Deny)
    client = DigestClient(SipAccount("pbx", "wrong"))
    client.challenged(ChallengeKind.USER, challenges(first), 0)
    fields = client.fields("INVITE", "sip:+4930111@bridge.example", "c")
    again = bench.judge(request(fields=fields), udp(PBX))
    assert isinstance(again, Deny)
    assert challenges(again) == challenges(first)
    elsewhere = bench.judge(request(fields=fields), udp(STRANGER))
    assert isinstance(elsewhere, Deny)
    assert challenges(elsewhere) != challenges(first), "it was made for another address"


def test_both_where_both_are_set() -> None:
    both = trunk("both", "192.0.2.0/24", secured=True)
    bench = Bench(both)
    assert status(bench.judge(request(), udp(CARRIER))) == 401
    assert bench.log_in(udp(CARRIER)) == Admit(both)
    # the right password from a wrong address is worth nothing
    stolen = DigestClient(ACCOUNT)
    challenge = bench.judge(request(), udp(CARRIER))
    assert isinstance(challenge, Deny)
    stolen.challenged(ChallengeKind.USER, challenges(challenge), 0)
    answer = request(fields=stolen.fields("INVITE", "sip:+4930111@bridge.example", "c"))
    assert status(bench.judge(answer, udp(STRANGER))) == 403
    assert status(bench.judge(answer, udp(CARRIER))) == 200


def test_each_password_of_a_ring_works() -> None:
    pbx = trunk("pbx", secured=True, passwords=("new", "old"))
    for password in ("new", "old"):
        assert Bench(pbx).log_in(udp(PBX), SipAccount("pbx", password)) == Admit(pbx)
    assert status(Bench(pbx).log_in(udp(PBX), SipAccount("pbx", "older"))) == 401


@pytest.mark.parametrize("username", ["few", "many", "nobody", ""])
def test_every_refusal_costs_the_same_number_of_hashes(username: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []
    check = DigestServer.check

    def counted(
        self: DigestServer, values: Iterable[str], method: str, password_of: Callable[[str], str | None], now_s: float
    ) -> DigestVerdict:
        checks.append(method)
        return check(self, values, method, password_of, now_s)

    monkeypatch.setattr(DigestServer, "check", counted)
    bench = Bench(
        trunk("many", username="many", passwords=("a", "b", "c")), trunk("few", username="few", passwords=("d",))
    )
    challenge = bench.judge(request(), udp(PBX))
    assert isinstance(challenge, Deny)
    client = DigestClient(SipAccount(username, "wrong"))
    client.challenged(ChallengeKind.USER, challenges(challenge), 0)
    checks.clear()
    fields = client.fields("INVITE", "sip:+4930111@bridge.example", "c")
    assert status(bench.judge(request(fields=fields), udp(PBX))) == 401
    assert len(checks) == 3


def test_the_user_says_which_trunk_it_is() -> None:
    one, other = (trunk(name, username=name, passwords=("right",)) for name in ("one", "other"))
    bench = Bench(one, other)
    assert bench.log_in(udp(PBX), SipAccount("other", "right")) == Admit(other)
    assert bench.log_in(udp(PBX), SipAccount("one", "right")) == Admit(one)


def test_old_and_used_nonces_are_stale() -> None:
    bench = Bench(trunk("pbx", secured=True))
    client = DigestClient(ACCOUNT)
    challenge = bench.judge(request(), udp(PBX))
    assert isinstance(challenge, Deny)
    client.challenged(ChallengeKind.USER, challenges(challenge), 0)
    answer = request(fields=client.fields("INVITE", "sip:+4930111@bridge.example", "c"))
    assert status(bench.judge(answer, udp(PBX))) == 200
    again = bench.judge(answer, udp(PBX))
    assert isinstance(again, Deny)
    assert all("stale=true" in value for value in challenges(again))
    bench.unix_s += 3600
    late = bench.judge(request(fields=client.fields("INVITE", "sip:+4930111@bridge.example", "c")), udp(PBX))
    assert isinstance(late, Deny)
    assert all("stale=true" in value for value in challenges(late))


def test_health_checks_of_a_carrier_need_no_credentials() -> None:
    both = trunk("both", "192.0.2.0/24", secured=True, allowed_numbers=("+1*",))
    bench = Bench(both)
    assert bench.judge(request("OPTIONS"), udp(CARRIER)) == Admit(both)
    assert status(bench.judge(request("REGISTER"), udp(CARRIER))) == 401
    assert status(Bench(trunk("pbx", secured=True)).judge(request("OPTIONS"), udp(STRANGER))) == 401


def test_the_most_specific_network_decides_alone() -> None:
    bench = Bench(trunk("open", "192.0.2.0/24"), trunk("closed", "192.0.2.10", secured=True))
    assert status(bench.judge(request(), udp(CARRIER))) == 401
    assert status(bench.judge(request(), udp("192.0.2.11"))) == 200


def test_trunks_at_the_same_address_with_and_without_credentials() -> None:
    plain, closed = trunk("plain", "192.0.2.0/24"), trunk("closed", "192.0.2.0/24", secured=True)
    bench = Bench(closed, plain)
    assert bench.judge(request(), udp(CARRIER)) == Admit(plain)
    other_realm = ("Authorization", 'Digest username="x", realm="elsewhere", nonce="n", uri="sip:a@b", response="0"')
    assert bench.judge(request(fields=(other_realm,)), udp(CARRIER)) == Admit(plain)
    secured = Bench(closed)
    challenge = secured.judge(request(), udp(CARRIER))
    assert isinstance(challenge, Deny)
    client = DigestClient(ACCOUNT)
    client.challenged(ChallengeKind.USER, challenges(challenge), 0)
    fields = client.fields("INVITE", "sip:+4930111@bridge.example", "c")
    assert bench.judge(request(fields=fields), udp(CARRIER)) == Admit(closed)


# --- numbers and domains ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_", "admitted"),
    [
        ("<sip:+4915112345@carrier.example;user=phone>", True),
        ('"Bob" <sip:004915112345@carrier.example>', True),
        ("<tel:+49-151-12345>", True),
        ("<sip:%2B4915112345@carrier.example>", True),
        ("<sip:+4815112345@carrier.example>", False),
        ("<sip:anonymous@anonymous.invalid>", False),
    ],
)
def test_allowed_numbers_are_callers(from_: str, admitted: bool) -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24", allowed_numbers=("+49*",)))
    verdict = bench.judge(request(from_=from_), udp(CARRIER))
    assert status(verdict) == (200 if admitted else 403)
    if not admitted:
        assert verdict == Deny(verdict.rejection)  # type: ignore[union-attr]
        assert bench.refused == [Refusal.CALLER]


def test_the_asserted_identity_counts_where_it_is_believed() -> None:
    asserted = (("P-Asserted-Identity", "<tel:+4915112345>"),)
    withheld = request(from_="<sip:anonymous@anonymous.invalid>", fields=asserted)
    inbound = Inbound((parse_network("192.0.2.0/24"),), ("+49*",))
    assert status(Bench(Trunk("a", inbound)).judge(withheld, udp(CARRIER))) == 200
    assert status(Bench(Trunk("a", inbound, trusts_identity=False)).judge(withheld, udp(CARRIER))) == 403


def test_called_numbers_tell_trunks_apart() -> None:
    berlin = trunk("berlin", "192.0.2.0/24", numbers=("+4930*",))
    paris = trunk("paris", "192.0.2.0/24", numbers=("+33*",))
    rest = trunk("rest", "192.0.2.0/24")
    assert Bench(berlin, paris).judge(request(uri="sip:+331234@b.example"), udp(CARRIER)) == Admit(paris)
    assert status(Bench(berlin, paris).judge(request(uri="sip:+441234@b.example"), udp(CARRIER))) == 404
    assert Bench(berlin, rest).judge(request(uri="sip:+441234@b.example"), udp(CARRIER)) == Admit(rest)
    assert Bench(berlin, rest).judge(request(uri="sip:+4930111@b.example"), udp(CARRIER)) == Admit(berlin)


def test_strangers_do_not_learn_which_numbers_there_are() -> None:
    bench = Bench(trunk("pbx", secured=True, numbers=("+33*",)))
    assert status(bench.judge(request(), udp(STRANGER))) == 401
    assert status(bench.log_in(udp(PBX))) == 404
    assert bench.refused[-1] is Refusal.CALLED


@pytest.mark.parametrize(
    ("parts", "admitted"),
    [
        ({"from_": "<sip:+49151@sip.carrier.example>", "via": "10.0.0.1"}, True),
        ({"via": "sip.carrier.example"}, True),
        ({"contact": "<sip:x@SIP.carrier.example:5080>"}, True),
        ({"from_": "<sip:+49151@sub.carrier.net>"}, True),
        ({"contact": "<sip:x@[2001:db8::5]>"}, True),
        ({"from_": "<tel:+49151>"}, False),
        ({"from_": "<sip:+49151@carrier.net>"}, False),
        ({"from_": "<sip:+49151@evilsip.carrier.example>"}, False),
    ],
)
def test_domains_without_a_certificate(parts: dict[str, str], admitted: bool) -> None:
    domains = ("sip.carrier.example", "*.carrier.net", "2001:db8::5")
    bench = Bench(trunk("carrier", "192.0.2.0/24", remote_domains=domains))
    parts = {"from_": "<sip:+49151@other.example>", "via": "other.example", "contact": "<sip:x@192.0.2.10>", **parts}
    assert status(bench.judge(request(**parts), udp(CARRIER))) == (200 if admitted else 403)  # type: ignore[arg-type]
    assert bench.refused == ([] if admitted else [Refusal.DOMAIN])


def test_a_certificate_counts_more_than_what_a_peer_says_of_itself() -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24", remote_domains=("sip.carrier.example",)))
    bench.certificates = {7: ("sip.carrier.example",), 8: ("sip.evil.example",)}
    claims = request(from_="<sip:+49151@sip.carrier.example>")
    assert status(bench.judge(request(from_="<sip:+49151@other.example>"), tls(CARRIER, 7))) == 200
    assert status(bench.judge(claims, tls(CARRIER, 8))) == 403
    assert status(bench.judge(claims, tls(CARRIER, 9))) == 200  # it showed none


def test_a_domain_alone_lets_in_with_a_certificate_only() -> None:
    named = trunk("named", remote_domains=("sip.carrier.example",))
    bench = Bench(named)
    bench.certificates = {7: ("sip.carrier.example",), 8: ("sip.evil.example",)}
    claims = request(from_="<sip:+49151@sip.carrier.example>")
    assert bench.judge(claims, tls(STRANGER, 7)) == Admit(named)
    assert status(bench.judge(claims, tls(STRANGER, 8))) == 403
    assert status(bench.judge(claims, tls(STRANGER, 9))) == 403
    assert status(bench.judge(claims, tcp(STRANGER))) == 403
    assert status(bench.judge(claims, Flow(Transport.UDP, STRANGER, 5060, connection=7))) == 403


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("example.com", True),
        ("EXAMPLE.com.", True),
        ("a.example.com", False),
        ("a.example.net", True),
        ("example.net", False),
        ("aexample.net", False),
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("[2001:db8:0::1]", True),
    ],
)
def test_domains_and_what_is_below_them(name: str, fits: bool) -> None:
    assert is_domain(("example.com", "*.example.net", "192.0.2.1", "2001:db8::1"), name) is fits


# --- scanners --------------------------------------------------------------------------------------------


def refusals(bench: Bench, flow: Flow, count: int = 40) -> list[int]:
    return [status(bench.judge(request(), flow)) for _ in range(count)]


def test_a_scanner_is_banned_for_a_time() -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24"))
    assert refusals(bench, udp(STRANGER)) == [403] * 20 + [0] * 20
    assert (bench.gate.bans, bench.gate.banned(bench.now)) == (1, 1)
    assert bench.gate.is_banned(STRANGER, bench.now)
    assert not bench.gate.may_answer(udp(STRANGER), bench.now)
    assert bench.refused.count(Refusal.BANNED) == 21
    bench.now = 60.0
    assert status(bench.judge(request(), udp(STRANGER))) == 403


def test_a_carrier_is_not_banned_by_what_a_stranger_sends_in_its_name() -> None:
    carrier = trunk("carrier", "192.0.2.0/24", secured=True, allowed_numbers=("+1*",))
    bench = Bench(carrier)
    guess = 'Digest username="pbx", realm="bridge", nonce="x", uri="x", response="0", qop=auth, nc=1, cnonce="c"'
    forged = request(fields=(("Authorization", guess),))
    for _ in range(200):
        bench.judge(forged, udp(CARRIER))
        bench.judge(request(), udp(CARRIER))
        assert bench.gate.may_answer(udp(CARRIER), bench.now)
    assert not bench.gate.is_banned(CARRIER, bench.now)
    assert bench.gate.bans == 0
    assert bench.gate.refusals[Refusal.WRONG_CREDENTIALS] == 200
    assert status(bench.log_in(udp(CARRIER))) == 403  # of its number, that is: the credentials were taken


def test_where_carriers_may_come_from_anywhere_a_forged_source_bans_nobody() -> None:
    pbx = trunk("pbx", secured=True)
    bench = Bench(pbx)
    guess = DigestClient(SipAccount("pbx", "wrong"))
    # the stranger gets his challenge at his own address, and answers it with the carrier's on the envelope
    challenge = bench.judge(request(), udp(STRANGER))
    assert isinstance(challenge, Deny)
    guess.challenged(ChallengeKind.USER, challenges(challenge), 0)
    for _ in range(200):
        fields = guess.fields("INVITE", "sip:+4930111@bridge.example", "c")
        bench.judge(request(fields=fields), udp(PBX))
        bench.gate.may_answer(udp(PBX), bench.now)
    assert not bench.gate.is_banned(PBX, bench.now)
    assert Refusal.THROTTLED in bench.refused
    assert bench.log_in(udp(PBX)) == Admit(pbx)


def test_a_guesser_who_reads_his_challenges_is_banned() -> None:
    bench = Bench(trunk("pbx", secured=True))
    answers = []
    for number in range(6):
        answers.append(status(bench.log_in(udp(STRANGER), SipAccount("pbx", f"guess{number}"))))
    assert answers == [401] * 5 + [0]
    assert bench.gate.is_banned(STRANGER, bench.now)
    assert refusals(bench, udp(STRANGER), 3) == [0, 0, 0]


def test_guesses_with_invented_nonces_ban_nobody_over_datagrams() -> None:
    bench = Bench(trunk("pbx", secured=True))
    invented = 'Digest username="pbx", realm="bridge", nonce="made up", uri="sip:x", response="0", qop=auth, nc=1, '
    guess = request(fields=(("Authorization", "Basic x"), ("Authorization", invented + 'cnonce="c"')))
    assert [status(bench.judge(guess, udp(PBX))) for _ in range(7)] == [401] * 5 + [0, 0]
    assert bench.refused[-1] is Refusal.THROTTLED
    assert status(bench.log_in(udp(PBX))) == 200
    assert [status(bench.judge(guess, tcp(STRANGER))) for _ in range(7)] == [401] * 5 + [0, 0]
    assert Refusal.BANNED in bench.refused
    assert bench.bans == [STRANGER]


def test_on_a_connection_the_address_is_proven() -> None:
    bench = Bench(trunk("pbx", secured=True))
    bad = request(fields=(("Authorization", "nonsense"),))
    assert [status(bench.judge(bad, tcp(STRANGER))) for _ in range(3)] == [401] * 3  # no guess: nothing to check
    for _ in range(21):
        bench.gate.may_answer(tcp(STRANGER), bench.now)
    assert bench.gate.is_banned(STRANGER, bench.now)


def test_challenges_to_an_unknown_source_are_bounded() -> None:
    bench = Bench(trunk("pbx", secured=True))
    assert refusals(bench, udp(PBX), 150) == [401] * 100 + [0] * 50
    assert bench.refused[-1] is Refusal.THROTTLED
    bench.now = 1.0
    assert refusals(bench, udp(PBX), 30) == [401] * 20 + [0] * 10
    bench.now = 2.0
    assert status(bench.log_in(udp(PBX))) == 200
    assert refusals(bench, udp(PBX), 150) == [401] * 150  # known by now
    assert bench.gate.is_trusted(PBX, bench.now)


def test_right_credentials_from_another_address_than_the_challenge_went_to() -> None:
    bench = Bench(trunk("pbx", secured=True))
    assert status(bench.log_in(udp(PBX), answered_from=udp("198.51.100.6"))) == 200
    assert not bench.gate.is_trusted("198.51.100.6", bench.now)


def test_a_connections_first_success_makes_it_known() -> None:
    bench = Bench(trunk("pbx", secured=True))
    assert status(bench.log_in(tcp(PBX))) == 200
    assert bench.gate.is_trusted(PBX, bench.now)


def test_who_gets_answers_to_what_cannot_be_judged() -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24"))
    assert bench.gate.may_answer(udp(CARRIER), 0)
    assert [bench.gate.may_answer(udp(STRANGER), 0) for _ in range(21)] == [True] * 20 + [False]
    silent = Bench(trunk("carrier", "192.0.2.0/24"), unknown=Unknown.SILENT)
    assert silent.gate.may_answer(udp(CARRIER), 0)
    assert not silent.gate.may_answer(udp(STRANGER), 0)


def test_new_trunks_are_gone_by_at_once() -> None:
    bench = Bench(trunk("carrier", "192.0.2.0/24"))
    refusals(bench, udp(STRANGER))
    assert bench.bans == [STRANGER]
    bench.gate.replace_trunks(Trunks([trunk("carrier", "192.0.2.0/24")]))
    assert bench.gate.is_banned(STRANGER, 0)  # nothing has changed
    bench.gate.replace_trunks(Trunks([trunk("other", "198.51.100.0/24")]))
    assert not bench.gate.is_banned(STRANGER, 0)
    assert status(bench.judge(request(), udp(CARRIER))) == 403
    assert status(bench.judge(request(), udp(PBX))) == 200


def test_a_gate_needs_a_secret() -> None:
    tools = AccessTools(DigestServer(DigestOptions("bridge"), SECRET), b"short", bytes, lambda: 0.0, is_listed)
    with pytest.raises(LocalError, match="an access gate needs a secret of 16 bytes"):
        AccessGate(Trunks(), tools)
    assert "short" not in repr(tools)
