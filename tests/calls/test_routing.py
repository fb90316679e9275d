"""Routing as a table: which route fits, which agent takes the call, and which rules hold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.admission import AgentLimits
from bridge.calls.keypad import KeypadMode, KeypadOptions
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.routing import (
    MAX_MISTAKES,
    MAX_ROUTES,
    Defaults,
    OverflowPolicy,
    Resolved,
    RoutingError,
    RoutingTable,
    decode_route,
    encode_route,
    parse_routing,
)
from bridge.calls.rules import Overflow, Route, Rules

CARRIERS = ("twilio", "genesys", "sip")
DEFAULTS = Defaults(agent_id="agent_0", environment="production", branch="branch_0", personalization=True)


def table(*routes: dict[str, Any], **agents: dict[str, Any]) -> RoutingTable:
    return parse_routing({"routes": list(routes), "agents": agents}, Defaults(), CARRIERS)


def mistakes(document: dict[str, Any], defaults: Defaults | None = None) -> tuple[str, ...]:
    with pytest.raises(RoutingError) as caught:
        parse_routing(document, defaults, CARRIERS)
    return caught.value.mistakes


# --- which route ---------------------------------------------------------------------------------------------

ROUTES = table(
    {"number": "*"},
    {"number": "+49*"},
    {"number": "+4930*"},
    {"number": "+4930*", "provider": "genesys"},
    {"number": "+4930123456"},
    {"number": "+4930123456", "provider": "twilio"},
    {"number": "*", "provider": "sip"},
    {"number": "sip:sales@*"},
    {"number": "sip:*@pbx.example"},
    {"number": "110"},
)


@pytest.mark.parametrize(
    ("provider", "called", "key"),
    [
        ("twilio", "+4930123456", ("+4930123456", "twilio")),
        ("genesys", "+4930123456", ("+4930123456", "")),
        ("genesys", "+4930999999", ("+4930*", "genesys")),
        ("twilio", "+4930999999", ("+4930*", "")),
        ("twilio", "+4989123456", ("+49*", "")),
        ("twilio", "+15550100", ("*", "")),
        ("sip", "+15550100", ("*", "sip")),
        ("sip", "+4989123456", ("+49*", "")),
        ("twilio", "0049 30 / 123456", ("+4930123456", "twilio")),
        ("genesys", "tel:+49-30-123456", ("+4930123456", "")),
        ("twilio", "4930123456", ("+4930123456", "twilio")),
        ("sip", "sip:+4930123456@trunk.example", ("+4930123456", "")),
        ("sip", "sip:Sales@anywhere;transport=tcp", ("sip:sales@*", "")),
        ("sip", "sip:other@pbx.example:5060", ("sip:*@pbx.example", "")),
        ("sip", "sip:sales@pbx.example", ("sip:*@pbx.example", "")),
        ("twilio", "110", ("110", "")),
        ("twilio", "", ("*", "")),
        ("twilio", "x" * 1000, ("*", "")),
    ],
)
def test_the_best_route_is_found(provider: str, called: str, key: tuple[str, str]) -> None:
    found = ROUTES.find(provider, called)
    assert found is not None
    assert found.key == key


def test_without_a_route_that_fits_there_is_none() -> None:
    assert table({"number": "+49*"}).find("twilio", "+15550100") is None
    assert table({"number": "*", "provider": "sip"}).find("twilio", "+15550100") is None
    assert RoutingTable().find("twilio", "") is None


def test_of_equally_good_routes_the_first_in_the_file_counts() -> None:
    routes = table({"number": "+49*1", "agent": "a"}, {"number": "+4*91", "agent": "b"})
    found = routes.find("twilio", "+4991")
    assert found is not None
    assert found.agent == "a"


def test_the_databases_route_comes_before_the_files() -> None:
    merged = ROUTES.with_database([Route(number="+49*", agent="db"), Route(number="+43*", agent="at")])
    for called, agent in (("+4989123456", "db"), ("+4930123456", ""), ("+431234", "at")):
        found = merged.find("genesys", called)
        assert found is not None
        assert found.agent == agent
    assert [entry.source for entry in merged.listed() if entry.route.number == "+49*"] == ["database"]
    assert merged.with_database([]) == ROUTES


def test_a_route_of_the_database_for_one_carrier_replaces_no_other() -> None:
    merged = table({"number": "*", "agent": "f"}).with_database([Route(number="*", provider="sip", agent="d")])
    assert [(entry.route.agent, entry.source) for entry in merged.listed()] == [("d", "database"), ("f", "file")]


def test_routes_are_listed_in_the_order_in_which_they_are_tried() -> None:
    assert [entry.route.key for entry in ROUTES.listed()] == [
        ("+4930123456", "twilio"), ("+4930123456", ""), ("110", ""), ("sip:*@pbx.example", ""), ("sip:sales@*", ""),
        ("+4930*", "genesys"), ("+4930*", ""), ("+49*", ""), ("*", "sip"), ("*", ""),
    ]  # fmt: skip


# --- which agent ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route_agent", "hint", "default", "agent"),
    [
        ("", "", "agent_0", "agent_0"),
        ("agent_r", "", "agent_0", "agent_r"),
        ("agent_r", "agent_h", "agent_0", "agent_h"),
        ("", "agent_h", "", "agent_h"),
        ("", "", "", ""),
    ],
)
def test_the_address_names_the_agent_then_the_route_then_the_settings(
    route_agent: str, hint: str, default: str, agent: str
) -> None:
    routes = table({"number": "*", "agent": route_agent})
    assert routes.resolve("genesys", "+49301", hint, Defaults(agent_id=default)).agent_id == agent


def test_without_an_agent_the_problem_is_said() -> None:
    assert RoutingTable().resolve("twilio", "+1", "", Defaults()) == Resolved(
        "", problem="no route names an agent, and ELEVENLABS_AGENT_ID is not set"
    )


@pytest.mark.parametrize("hint", ["../admin", "a b", "x" * 129, "agent?x=1"])
def test_an_address_that_names_no_id_reaches_nobody(hint: str) -> None:
    resolved = ROUTES.resolve("genesys", "+4930999999", hint, DEFAULTS)
    assert resolved == Resolved("", route="+4930*", problem="what the carrier's address names is no agent's id")


# --- which rules ---------------------------------------------------------------------------------------------


def test_without_rules_the_settings_hold() -> None:
    defaults = Defaults(
        "agent_0", "staging", "branch_0", AgentLimits(7, 70, True), Overflow.DIVERT, 9.0, "+4930123456", True, True
    )
    assert RoutingTable().resolve("twilio", "+1", "", defaults) == Resolved(
        "agent_0", "staging", "branch_0", "", AgentLimits(7, 70, True),
        OverflowPolicy(Overflow.DIVERT, 9.0, "+4930123456"), True, True,
    )  # fmt: skip


def test_a_route_goes_before_the_agent_and_the_agent_before_the_settings() -> None:
    routes = table(
        {"number": "+49*", "agent": "a", "concurrency": 1, "overflow": "queue", "language": "de", "recording": True},
        {"number": "+43*", "agent": "a"},
        a={"concurrency": 2, "daily_limit": 20, "burst": True, "overflow_queue_s": 5, "environment": "staging",
           "branch": "branch_a", "personalization": False},
    )  # fmt: skip
    assert routes.resolve("twilio", "+491", "", DEFAULTS) == Resolved(
        "a", "staging", "branch_a", "de", AgentLimits(1, 20, True), OverflowPolicy(Overflow.QUEUE, 5.0), True, False,
        "+49*",
    )  # fmt: skip
    assert routes.resolve("twilio", "+431", "", DEFAULTS) == Resolved(
        "a", "staging", "branch_a", "", AgentLimits(2, 20, True), OverflowPolicy(Overflow.REJECT, 5.0), False, False,
        "+43*",
    )  # fmt: skip


def test_what_becomes_of_keys_machines_and_transfers_is_taken_member_by_member() -> None:
    routes = table(
        {"number": "+49*", "agent": "a", "dtmf_to_agent": "each", "dtmf_end_key": "none", "redact_dtmf": True,
         "voicemail_action": "hang_up", "fallback_to": "+4930123456"},
        {"number": "+43*"},
        a={"dtmf_to_agent": "off", "dtmf_pause_s": 4, "dtmf_length": 6, "dtmf_inband": True, "dtmf_end_key": "*",
           "voicemail_message": "Bye.", "transfer_allow": ["+49*"]},
    )  # fmt: skip
    defaults = Defaults(
        "agent_0", transfer_allow=("+1*",), fallback_to="sip:desk@pbx", keypad_inband=False,
        machine=MachineOptions(MachineAction.LEAVE_MESSAGE, "Hello."),
        keypad=KeypadOptions(KeypadMode.UPDATE, 1.0, 3, "", False),
    )  # fmt: skip
    assert routes.resolve("twilio", "+491", "", defaults) == Resolved(
        "a", route="+49*", transfer_allow=("+49*",), fallback_to="+4930123456",
        machine=MachineOptions(MachineAction.HANG_UP, "Bye."),
        keypad=KeypadOptions(KeypadMode.EACH, 4.0, 6, "", True), keypad_inband=True,
    )  # fmt: skip
    assert routes.resolve("twilio", "+431", "", defaults) == Resolved(
        "agent_0", route="+43*", transfer_allow=("+1*",), fallback_to="sip:desk@pbx",
        machine=MachineOptions(MachineAction.LEAVE_MESSAGE, "Hello."),
        keypad=KeypadOptions(KeypadMode.UPDATE, 1.0, 3, "", False),
    )  # fmt: skip


@pytest.mark.parametrize(("hint", "targets"), [("a", ()), ("h", ("+1*",))])
def test_targets_are_one_agents_and_none_at_all_is_an_answer(hint: str, targets: tuple[str, ...]) -> None:
    routes = table({"number": "*", "agent": "a", "transfer_allow": []})
    defaults = Defaults("agent_0", transfer_allow=("+1*",))
    assert routes.resolve("genesys", "+1", hint, defaults).transfer_allow == targets


def test_zero_and_off_are_set_too() -> None:
    routes = table({"number": "*", "concurrency": 0, "daily_limit": 0, "burst": False, "recording": False})
    defaults = Defaults("agent_0", limits=AgentLimits(5, 50, True), recording=True)
    resolved = routes.resolve("twilio", "+1", "", defaults)
    assert (resolved.limits, resolved.recording) == (AgentLimits(0, 0, False), False)


def test_an_agent_named_by_the_address_does_not_take_what_is_another_agents() -> None:
    routes = table(
        {"number": "*", "agent": "a", "branch": "branch_a", "concurrency": 1, "daily_limit": 2, "burst": True,
         "overflow": "queue", "recording": True, "environment": "staging", "language": "de"},
        h={"concurrency": 9},
    )  # fmt: skip
    assert routes.resolve("genesys", "+1", "h", DEFAULTS) == Resolved(
        "h", "staging", "", "de", AgentLimits(9), OverflowPolicy(Overflow.QUEUE), True, True, "*"
    )
    same = routes.resolve("genesys", "+1", "a", DEFAULTS)
    assert (same.branch, same.limits) == ("branch_a", AgentLimits(1, 2, True))


def test_the_default_branch_is_that_of_the_default_agent() -> None:
    assert RoutingTable().resolve("genesys", "+1", "h", DEFAULTS).branch == ""
    assert RoutingTable().resolve("genesys", "+1", "agent_0", DEFAULTS).branch == "branch_0"


def test_a_route_cannot_ask_a_webhook_that_is_not_there() -> None:
    routes = table({"number": "*", "personalization": True})
    assert routes.resolve("twilio", "+1", "", Defaults("agent_0")).personalization is False
    assert routes.resolve("twilio", "+1", "", DEFAULTS).personalization is True


@pytest.mark.parametrize(
    ("rules", "default_to", "policy"),
    [
        ({"overflow": "divert", "overflow_divert_to": "sip:b@x"}, "", OverflowPolicy(Overflow.DIVERT, 60.0, "sip:b@x")),
        ({"overflow": "divert"}, "sip:a@pbx", OverflowPolicy(Overflow.DIVERT, 60.0, "sip:a@pbx")),
        ({"overflow": "queue", "overflow_queue_s": 5}, "sip:a@pbx", OverflowPolicy(Overflow.QUEUE, 5.0, "")),
        ({}, "sip:a@pbx", OverflowPolicy(Overflow.REJECT, 60.0, "")),
    ],
)  # fmt: skip
def test_a_target_is_there_only_for_callers_who_are_diverted(
    rules: dict[str, Any], default_to: str, policy: OverflowPolicy
) -> None:
    routes = parse_routing({"routes": [{"number": "*", **rules}]}, None, CARRIERS)
    assert routes.resolve("twilio", "+1", "", Defaults("agent_0", overflow_divert_to=default_to)).overflow == policy


def test_a_route_that_lost_its_target_tells_busy() -> None:
    routes = RoutingTable(database=(Route(number="*", overflow=Overflow.DIVERT),))
    assert routes.resolve("twilio", "+1", "", DEFAULTS).overflow == OverflowPolicy(Overflow.REJECT, 60.0, "")


@given(st.text(max_size=80), st.text(max_size=40))
def test_any_call_is_decided(called: str, hint: str) -> None:
    resolved = ROUTES.resolve("twilio", called, hint, DEFAULTS)
    assert bool(resolved.agent_id) != bool(resolved.problem)


# --- the file ------------------------------------------------------------------------------------------------


def test_an_empty_file_has_no_routes() -> None:
    assert parse_routing({}) == RoutingTable()


def test_carriers_are_those_of_the_registry() -> None:
    assert parse_routing({"routes": [{"number": "*", "provider": "twilio"}]}).routes[0].provider == "twilio"
    with pytest.raises(RoutingError, match="provider is 'nobody'"):
        parse_routing({"routes": [{"number": "*", "provider": "nobody"}]})


def test_every_mistake_is_named_with_its_place() -> None:
    assert mistakes(
        {
            "routes": [
                {"number": "+49*", "agnet": "a"},
                {"agent": "a"},
                {"number": "+43*"},
                {"number": "0043*"},
                {"number": "*", "overflow": "divert"},
                {"number": "1\n"},
                7,
            ],
            "agents": {"a b": {}, "good": {"concurrency": "3"}, "d": {"overflow": "divert"}},
        },
        Defaults(),
    ) == (
        "agents.'a b' is no agent's id; copy it again from the agent's page",
        "agents.\"good\".concurrency is '3'; give a whole number from -1 to 100000",
        "routes[1](+49*).agnet is no member of it; did you mean agent?",
        "routes[2].number is missing; give one such as +4930*, sip:sales@* or *",
        "routes[4](0043*) has number and provider of routes[3]; remove one of them",
        "routes[6].number is '1\\n'; give a text such as +4930*, sip:sales@* or *",
        "routes[7] is no table",
        'agents."d".overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO',
        "routes[5](*).overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO",
    )


def test_a_route_may_divert_to_where_its_agent_says() -> None:
    document = {
        "routes": [{"number": "*", "agent": "a", "overflow": "divert"}],
        "agents": {"a": {"overflow_divert_to": "+4930123456"}},
    }
    resolved = parse_routing(document, Defaults(), CARRIERS).resolve("twilio", "+1", "", Defaults())
    assert resolved.overflow.divert_to == "+4930123456"


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"routes": {"number": "*"}}, "routes must be tables that begin with [[routes]]"),
        ({"agents": ["a"]}, 'agents must be tables such as [agents."agent_01abc"]'),
        ({"routes": [0] * (MAX_ROUTES + 1)}, "routes are 10001; there may be 10000"),
        ({"agents": {f"a{n}": 0 for n in range(10_001)}}, "agents are 10001; there may be 10000"),
    ],
)
def test_tables_of_the_wrong_shape_or_size(document: dict[str, Any], problem: str) -> None:
    assert mistakes(document) == (problem,)


def test_a_thousand_mistakes_are_not_all_told() -> None:
    assert len(mistakes({"routes": [0] * 1000})) == MAX_MISTAKES


# --- the database's routes -----------------------------------------------------------------------------------


def test_a_route_survives_json() -> None:
    route = Route(number="+49*", provider="twilio", agent="a", overflow=Overflow.DIVERT, overflow_divert_to="sip:a@pbx")
    assert encode_route(route) == (
        b'{"overflow":"divert","overflow_divert_to":"sip:a@pbx","number":"+49*","provider":"twilio","agent":"a"}'
    )
    assert decode_route(encode_route(route), Defaults(), CARRIERS) == route
    route = Route(
        number="*", transfer_allow=(), dtmf_to_agent=KeypadMode.OFF, voicemail_action=MachineAction.HANG_UP,
        dtmf_pause_s=2.5, redact_dtmf=False,
    )  # fmt: skip
    assert encode_route(route) == (
        b'{"transfer_allow":[],"voicemail_action":"hang_up","dtmf_to_agent":"off","dtmf_pause_s":2.5,'
        b'"redact_dtmf":false,"number":"*"}'
    )
    assert decode_route(encode_route(route), Defaults(), CARRIERS) == route


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "the route is no JSON"),
        (b'{"number":"\xff"}', "the route is no JSON"),
        ("[" * 100_000, "the route is no JSON"),
        ("[]", "the route is no table"),
        ("{}", "number is missing; give one such as +4930*, sip:sales@* or *"),
        (
            '{"number":"*","overflow":"divert"}',
            "overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO",
        ),
    ],
)
def test_json_that_is_no_route(text: str | bytes, problem: str) -> None:
    with pytest.raises(RoutingError) as caught:
        decode_route(text, Defaults(), CARRIERS)
    assert caught.value.mistakes == (problem,)
    assert str(caught.value) == problem


def test_rules_of_unknown_agents_do_no_harm() -> None:
    assert (
        RoutingTable(agents={"other": Rules(concurrency=1)}).resolve("twilio", "+1", "", DEFAULTS).limits
        == AgentLimits()
    )
