"""From the called number to an agent and the rules of the call. Pure: the table is an argument, nothing is looked up.

Theory of operation: a call has one route, the best of those whose pattern fits the called number or SIP address and
whose carrier is the call's. Best is: exact before wildcard; then the pattern with more characters besides ``*``; then
one for this carrier before one for any; then, where number and carrier are equal, the database's before the file's.

The agent is the one that the carrier's address names (Genesys: the Connector ID), else the route's, else the default.
The address wins, because whoever set up the carrier's flow chose it there; the route's rules hold all the same. Only
what belongs to one agent (branch, its limits, bursting, transfer targets) is not taken from a route that names another
agent.

Each rule is taken from the route, else from the agent's own rules (``[agents."id"]``), else from the settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from bridge.calls.admission import AgentLimits
from bridge.calls.carriers import ALL_CARRIERS
from bridge.calls.keypad import KeypadOptions
from bridge.calls.machine import MachineOptions
from bridge.calls.numbers import matches, spellings
from bridge.calls.rules import NO_END_KEY, Overflow, Route, Rules, is_agent_id, parse_route, parse_rules
from bridge.errors import ConfigError

MAX_ROUTES = 10_000
"""In the file and in the database each. A call that no route fits looks at all wildcard routes: a few milliseconds."""
MAX_AGENTS = 10_000
MAX_MISTAKES = 50
"""Reported at once; a file with more of them is something else."""

_T = TypeVar("_T")
_NO_RULES = Rules()


class RoutingError(ConfigError):
    """Routes that do not work; ``mistakes`` names each with its place and the mend."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)[:MAX_MISTAKES]
        super().__init__("\n".join(self.mistakes))


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where neither route nor agent say otherwise: the settings."""

    agent_id: str = ""
    environment: str = ""
    branch: str = ""
    """Of ``agent_id`` only."""
    limits: AgentLimits = AgentLimits()
    overflow: Overflow = Overflow.REJECT
    overflow_queue_s: float = 60.0
    overflow_divert_to: str = ""
    recording: bool = False
    personalization: bool = False
    """Whether there is a personalization webhook; without one no route can ask for it."""
    transfer_allow: tuple[str, ...] = ()
    """Patterns as ``bridge.calls.numbers.normal_pattern`` writes them."""
    fallback_to: str = ""
    machine: MachineOptions = MachineOptions()
    keypad: KeypadOptions = KeypadOptions()
    keypad_inband: bool = False


@dataclass(frozen=True, slots=True)
class OverflowPolicy:
    """What happens to a call for which there is no slot."""

    kind: Overflow = Overflow.REJECT
    queue_s: float = 60.0
    """How long it may wait; matters with ``QUEUE``."""
    divert_to: str = ""
    """E.164 or SIP address; empty unless ``kind`` is ``DIVERT``."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """What was decided for one call."""

    agent_id: str
    """Empty when there is none: ``problem`` says why."""
    environment: str = ""
    branch: str = ""
    language: str = ""
    """Language to begin in; empty = the agent's."""
    limits: AgentLimits = AgentLimits()
    overflow: OverflowPolicy = OverflowPolicy()
    recording: bool = False
    personalization: bool = False
    route: str = ""
    """Pattern of the route; empty = none fitted."""
    problem: str = ""
    """Why the call cannot be taken, for the log; holds no number."""
    transfer_allow: tuple[str, ...] = ()
    """Patterns of the targets that the agent may transfer to."""
    fallback_to: str = ""
    """Where the caller goes when the agent has failed for good: E.164 or SIP address; empty = nowhere."""
    machine: MachineOptions = MachineOptions()
    """What is done about answering machines; ``awaits_end`` is for whoever places the call."""
    keypad: KeypadOptions = KeypadOptions()
    """What becomes of keys that the caller presses."""
    keypad_inband: bool = False
    """Whether tones are looked for in the caller's audio."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A route as it is in force."""

    route: Route
    source: str
    """``file`` or ``database``."""


@dataclass(frozen=True)
class RoutingTable:
    """All routes in force, and the agents' own rules. Immutable: a change is another table."""

    routes: tuple[Route, ...] = ()
    """Of the file."""
    agents: Mapping[str, Rules] = field(default_factory=dict)
    database: tuple[Route, ...] = ()
    _exact: dict[str, list[Route]] = field(init=False, compare=False, repr=False)
    _wild: list[tuple[str, Route]] = field(init=False, compare=False, repr=False)
    """With what stands before the first star: most routes can be passed over by it."""

    def __post_init__(self) -> None:
        exact: dict[str, list[Route]] = {}
        listed = [entry.route for entry in self.listed()]
        for route in listed:
            if "*" not in route.number:
                exact.setdefault(route.number, []).append(route)
        object.__setattr__(self, "_exact", exact)
        wild = [(route.number.partition("*")[0], route) for route in listed if "*" in route.number]
        object.__setattr__(self, "_wild", wild)

    def with_database(self, routes: Iterable[Route]) -> RoutingTable:
        """This table with these routes of the database in place of the ones it has."""
        return dataclasses.replace(self, database=tuple(routes)[:MAX_ROUTES])

    def listed(self) -> tuple[Listed, ...]:
        """The routes in force, in the order in which they are tried; those that the database replaces are left out."""
        replaced = {route.key for route in self.database}
        entries = [Listed(route, "database") for route in self.database]
        entries += [Listed(route, "file") for route in self.routes if route.key not in replaced]
        return tuple(sorted(entries, key=lambda entry: _rank(entry.route)))

    def find(self, provider: str, called: str) -> Route | None:
        """The route of this carrier's call to this number or SIP address."""
        known_as = spellings(called)
        exact = [route for text in known_as for route in self._exact.get(text, ()) if route.provider in ("", provider)]
        if exact:
            return min(exact, key=_rank)
        for head, route in self._wild:
            for text in known_as:
                if text.startswith(head) and route.provider in ("", provider) and matches(route.number, text):
                    return route
        return None

    def resolve(self, provider: str, called: str, agent_hint: str, defaults: Defaults) -> Resolved:
        """Decide about a call. ``agent_hint`` is the agent that the carrier's address names; empty = none."""
        route = self.find(provider, called)
        pattern = route.number if route else ""
        if agent_hint and not is_agent_id(agent_hint):
            return Resolved("", route=pattern, problem="what the carrier's address names is no agent's id")
        named = route.agent if route else ""
        agent_id = agent_hint or named or defaults.agent_id
        if not agent_id:
            return Resolved("", route=pattern, problem="no route names an agent, and ELEVENLABS_AGENT_ID is not set")
        chain = (route or _NO_RULES, self.agents.get(agent_id, _NO_RULES))
        own = chain if named in ("", agent_id) else chain[1:]
        return Resolved(
            agent_id,
            environment=_first((rules.environment for rules in chain), defaults.environment),
            branch=_first((rules.branch for rules in own), defaults.branch if agent_id == defaults.agent_id else ""),
            language=_first((rules.language for rules in chain), ""),
            limits=AgentLimits(
                _first((rules.concurrency for rules in own), defaults.limits.concurrency),
                _first((rules.daily_limit for rules in own), defaults.limits.daily),
                _first((rules.burst for rules in own), defaults.limits.bursting),
            ),
            overflow=_overflow(chain, defaults),
            recording=_first((rules.recording for rules in chain), defaults.recording),
            personalization=defaults.personalization and _first((rules.personalization for rules in chain), True),
            route=pattern,
            transfer_allow=_first((rules.transfer_allow for rules in own), defaults.transfer_allow),
            fallback_to=_first((rules.fallback_to for rules in chain), defaults.fallback_to),
            machine=_machine(chain, defaults.machine),
            keypad=_keypad(chain, defaults.keypad),
            keypad_inband=_first((rules.dtmf_inband for rules in chain), defaults.keypad_inband),
        )


def _rank(route: Route) -> tuple[bool, int, bool]:
    """Less is better. Equal ones stay in their order: sorting is stable, and the database's come first."""
    return "*" in route.number, -len(route.number.replace("*", "")), not route.provider


def _first(values: Iterable[_T | None], default: _T) -> _T:
    """The first value that somebody set."""
    return next((value for value in values if value is not None and value != ""), default)


def _overflow(chain: Iterable[Rules], defaults: Defaults) -> OverflowPolicy:
    rules = tuple(chain)
    kind = _first((each.overflow for each in rules), defaults.overflow)
    queue_s = _first((each.overflow_queue_s for each in rules), defaults.overflow_queue_s)
    target = _first((each.overflow_divert_to for each in rules), defaults.overflow_divert_to)
    if kind is Overflow.DIVERT and not target:  # a change of the settings took the target of a database's route away
        kind = Overflow.REJECT
    return OverflowPolicy(kind, queue_s, target if kind is Overflow.DIVERT else "")


def _machine(chain: tuple[Rules, ...], default: MachineOptions) -> MachineOptions:
    return MachineOptions(
        _first((rules.voicemail_action for rules in chain), default.action),
        _first((rules.voicemail_message for rules in chain), default.message),
    )


def _keypad(chain: tuple[Rules, ...], default: KeypadOptions) -> KeypadOptions:
    end_key = _first((rules.dtmf_end_key for rules in chain), default.end_key)
    return KeypadOptions(
        _first((rules.dtmf_to_agent for rules in chain), default.mode),
        _first((rules.dtmf_pause_s for rules in chain), default.pause_s),
        _first((rules.dtmf_length for rules in chain), default.length),
        "" if end_key == NO_END_KEY else end_key,
        _first((rules.redact_dtmf for rules in chain), default.redact),
    )


# --- parse -----------------------------------------------------------------------------------------------


def parse_routing(
    document: Mapping[str, object], defaults: Defaults | None = None, providers: Collection[str] | None = None
) -> RoutingTable:
    """The table of the TOML file's ``[[routes]]`` and ``[agents."id"]``.

    ``defaults`` are looked at where a route diverts without saying where to (None = not checked), ``providers`` are
    the carriers there are (None = the registry's). Routes are counted from 1. Raises ``RoutingError`` with every
    mistake.
    """
    mistakes: list[str] = []
    carriers = ALL_CARRIERS if providers is None else providers
    agents = _parse_agents(document.get("agents", {}), mistakes)
    routes = _parse_routes(document.get("routes", []), carriers, mistakes)
    if defaults is not None:
        for place, rules in agents.items():
            _check_divert(f'agents."{place}"', (rules,), defaults, mistakes)
        for number, route in routes.items():
            chain = (route, agents.get(route.agent or defaults.agent_id, _NO_RULES))
            if route.overflow is not None:
                _check_divert(_place(number, route.number), chain, defaults, mistakes)
    if mistakes:
        raise RoutingError(mistakes)
    return RoutingTable(tuple(routes.values()), agents)


def _parse_agents(document: object, mistakes: list[str]) -> dict[str, Rules]:
    if not isinstance(document, Mapping):
        mistakes.append('agents must be tables such as [agents."agent_01abc"]')
        return {}
    if len(document) > MAX_AGENTS:
        mistakes.append(f"agents are {len(document)}; there may be {MAX_AGENTS}")
        return {}
    found = {}
    for name, rules in document.items():
        if is_agent_id(str(name)):
            found[str(name)] = parse_rules(rules, f'agents."{name}"', mistakes)
        else:
            mistakes.append(f"agents.{str(name)[:60]!r} is no agent's id; copy it again from the agent's page")
    return found


def _parse_routes(document: object, providers: Collection[str], mistakes: list[str]) -> dict[int, Route]:
    if not isinstance(document, list):
        mistakes.append("routes must be tables that begin with [[routes]]")
        return {}
    if len(document) > MAX_ROUTES:
        mistakes.append(f"routes are {len(document)}; there may be {MAX_ROUTES}")
        return {}
    found: dict[int, Route] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, each in enumerate(document, 1):
        pattern = each.get("number", "") if isinstance(each, Mapping) else ""
        route = parse_route(each, _place(number, pattern), providers, mistakes)
        if route is None:
            continue
        if (first := seen.setdefault(route.key, number)) != number:
            mistakes.append(f"{_place(number, pattern)} has number and provider of routes[{first}]; remove one of them")
        found[number] = route
    return found


def _place(number: int, pattern: object) -> str:
    shown = pattern if isinstance(pattern, str) and pattern.isprintable() and len(pattern) <= 60 else ""
    return f"routes[{number}]({shown})" if shown else f"routes[{number}]"


def _check_divert(place: str, chain: Iterable[Rules], defaults: Defaults, mistakes: list[str]) -> None:
    rules = tuple(chain)
    diverts = _first((each.overflow for each in rules), defaults.overflow) is Overflow.DIVERT
    if diverts and not _first((each.overflow_divert_to for each in rules), defaults.overflow_divert_to):
        mistakes.append(f"{place}.overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO")


# --- the database's routes -------------------------------------------------------------------------------


def encode_route(route: Route) -> bytes:
    """The route as JSON, as the database has it; only what was set."""
    return msgspec.json.encode(route)


def decode_route(
    text: bytes | str, defaults: Defaults | None = None, providers: Collection[str] | None = None
) -> Route:
    """A route from its JSON, as the API takes and the database keeps it. Raises ``RoutingError`` with every mistake."""
    try:
        document: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise RoutingError(["the route is no JSON"]) from None
    mistakes: list[str] = []
    route = parse_route(document, "", ALL_CARRIERS if providers is None else providers, mistakes)
    diverts = route is not None and route.overflow is Overflow.DIVERT and not route.overflow_divert_to
    if diverts and defaults is not None and not defaults.overflow_divert_to:
        mistakes.append("overflow is divert; give overflow_divert_to, or set OVERFLOW_DIVERT_TO")
    if route is None or mistakes:
        raise RoutingError(mistakes)
    return route
