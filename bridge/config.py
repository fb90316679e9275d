"""The operator's configuration as a whole: settings and routes, and the loader that reports all mistakes at once.

The settings themselves are declared by topic in ``bridge.settings``. What this is not: a place for limits that a
protocol fixes (those are constants beside the code that keeps them).

Sources, the first that names a setting wins: environment variables, the file ``.env``, one TOML file. All three
use the same names, in upper or lower case. A blank value counts as unset. In the TOML file an unknown name is a
mistake; in the environment and in ``.env``, which other programs share, it is ignored. The TOML file holds the
routes and the operator's own tools besides (``bridge.calls.routing``, ``bridge.calls.http_tools_file``).

pydantic checks the values; pydantic-settings does not read them, because it expands ``$NAME`` inside secrets of
``.env`` and does not keep which source a wrong value came from.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.calls.admission import AgentLimits, Limits
from bridge.calls.http_tools import HttpTool
from bridge.calls.http_tools_file import parse_tools
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.routing import Defaults, RoutingError, RoutingTable, parse_routing
from bridge.calls.rules import Overflow
from bridge.calls.tools import STANDARD_TOOLS, allowed_patterns
from bridge.calls.trunks_file import TrunksError, parse_trunks
from bridge.errors import ConfigError
from bridge.settings.agent import AgentSettings
from bridge.settings.base import Topic, facts_of, ring
from bridge.settings.cautions import find_cautions
from bridge.settings.cluster import ClusterSettings
from bridge.settings.genesys import GenesysSettings
from bridge.settings.keypad import KeypadSettings
from bridge.settings.limits import LimitSettings
from bridge.settings.operation import LogSettings, TimingSettings
from bridge.settings.outbound import OutboundSettings
from bridge.settings.server import ServerSettings
from bridge.settings.sip import SipSettings
from bridge.settings.storage import StorageSettings
from bridge.settings.survival import FlightSettings, SurvivalSettings
from bridge.settings.tools import ToolSettings
from bridge.settings.tracing import TracingSettings
from bridge.settings.twilio import TwilioSettings
from bridge.settings.vonage import VonageSettings
from bridge.settings.webhooks import PersonalizationSettings, WebhookSettings
from bridge.sip.trunks import Trunk

CONFIG_FILE_VARIABLE = "BRIDGE_CONFIG"
"""Environment variable with the path of the TOML file."""
DEFAULT_CONFIG_FILE = Path("bridge.toml")
DEFAULT_DOTENV_FILE = Path(".env")

FILE_TABLES = ("routes", "agents", "tools", "trunks")
"""What the TOML file holds besides settings."""

# How much of a wrong value an error message repeats.
_SHOWN_CHARS = 60


class Settings(
    LogSettings,
    TracingSettings,
    FlightSettings,
    TimingSettings,
    ClusterSettings,
    StorageSettings,
    WebhookSettings,
    PersonalizationSettings,
    LimitSettings,
    SurvivalSettings,
    OutboundSettings,
    ToolSettings,
    KeypadSettings,
    SipSettings,
    GenesysSettings,
    VonageSettings,
    TwilioSettings,
    AgentSettings,
    ServerSettings,
):
    """The operator's settings. ``load_settings`` builds them. pydantic takes the fields of the last base first."""

    @property
    def carrier_secrets(self) -> dict[str, tuple[str, ...]]:
        """The carriers' secrets as key rings by setting name, for the verifiers; SharedKeys as ``id=secret``."""
        return {
            "twilio_auth_token": ring(self.twilio_auth_token),
            "twilio_shared_keys": ring(self.twilio_shared_keys),
            "genesys_api_key": ring(self.genesys_api_key),
            "genesys_client_secret": ring(self.genesys_client_secret),
            "genesys_organization_id": self.genesys_organization_id,
            "twilio_subaccount_tokens": ring(self.twilio_subaccount_tokens),
            "vonage_signature_secret": ring(self.vonage_signature_secret),
            "vonage_application_id": (self.vonage_application_id,) if self.vonage_application_id else (),
        }

    @property
    def carrier_options(self) -> dict[str, str]:
        """The carriers' own settings by name, for their legs."""
        # Who is not refused at the door but finds the lines busy all the same (a race, a queue) lets the flow go on.
        genesys = "overflow" if self.genesys_when_full == "refuse" else self.genesys_when_full
        return {"genesys_when_full": genesys, "sip_when_full": self.sip_when_full}

    @property
    def limits(self) -> Limits:
        """The limits of process and workspace."""
        return Limits(
            max_calls=self.bridge_max_calls,
            workspace_concurrency=self.workspace_concurrency,
            burst_cap=self.burst_cap,
            burst_minutes_per_day=self.burst_minutes_per_day,
            calls_per_second_per_source=self.calls_per_second_per_source,
        )

    @property
    def route_defaults(self) -> Defaults:
        """What holds for a call where no route and no agent's rules say otherwise."""
        return Defaults(
            agent_id=self.elevenlabs_agent_id or "",
            environment=self.elevenlabs_environment or "",
            branch=self.elevenlabs_branch_id or "",
            limits=AgentLimits(self.agent_concurrency, self.agent_daily_limit, self.burst),
            overflow=Overflow(self.overflow),
            overflow_queue_s=self.overflow_queue_s,
            overflow_divert_to=self.overflow_divert_to or "",
            recording=self.recording,
            personalization=self.personalization_url is not None,
            transfer_allow=allowed_patterns(self.transfer_allow),
            fallback_to=self.fallback_to or "",
            machine=MachineOptions(MachineAction(self.voicemail_action), self.voicemail_message or ""),
            keypad=self.keypad_options,
            keypad_inband=self.dtmf_inband,
        )

    @property
    def recordings_dir(self) -> Path:
        """Where recordings are written."""
        return self.recording_dir or self.data_dir / "recordings"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What works but is hardly meant, one sentence each, with the mend."""
        return find_cautions(self)


TOPICS: tuple[type[Topic], ...] = (
    ServerSettings,
    AgentSettings,
    TwilioSettings,
    VonageSettings,
    GenesysSettings,
    SipSettings,
    KeypadSettings,
    ToolSettings,
    OutboundSettings,
    SurvivalSettings,
    LimitSettings,
    PersonalizationSettings,
    WebhookSettings,
    StorageSettings,
    ClusterSettings,
    TimingSettings,
    FlightSettings,
    TracingSettings,
    LogSettings,
)
"""In the order of the README's tables, which is that of the fields; the docstrings' first lines are the titles."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that the operator sets."""

    settings: Settings
    routing: RoutingTable = RoutingTable()
    tools: Mapping[str, HttpTool] = field(default_factory=dict)
    """HTTP tools of the operator's own, by name."""
    trunks: tuple[Trunk, ...] = ()
    """SIP trunks, the one of the settings first."""


# --- load --------------------------------------------------------------------------------------------------


def load_settings(
    environ: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
    dotenv_path: Path = DEFAULT_DOTENV_FILE,
) -> Settings:
    """The settings of ``load_configuration``."""
    return load_configuration(environ, toml_path, dotenv_path).settings


def load_configuration(
    environ: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
    dotenv_path: Path = DEFAULT_DOTENV_FILE,
) -> Configuration:
    """Read settings and routes from ``environ`` (default: the process's), the ``.env`` file and the TOML file.

    ``toml_path`` takes the place of BRIDGE_CONFIG. Raises ``ConfigError`` with every mistake in one message: the
    setting, where it was set, what is wrong and the mend; never a secret's value.
    """
    environment = os.environ if environ is None else environ
    mistakes: list[str] = []
    dotenv = _read_dotenv(dotenv_path, mistakes)
    named = _toml_named(environment, dotenv, toml_path)
    path = Path(named) if named else DEFAULT_CONFIG_FILE
    content = _read_toml(path, required=bool(named), mistakes=mistakes)
    tables = {name: content.pop(key) for key in list(content) if (name := key.lower()) in FILE_TABLES}
    toml = _as_texts(content, path, mistakes)
    settings = _validate(((str(path), toml), (str(dotenv_path), dotenv), ("environment", environment)), mistakes)
    routing = RoutingTable()
    try:
        routing = parse_routing(tables, settings.route_defaults if settings else None)
    except RoutingError as error:
        mistakes += [f"{mistake} (in {path})" for mistake in error.mistakes]
    tools = _read_tools(tables.get("tools", {}), path, settings, mistakes)
    trunks = _read_trunks(tables.get("trunks", {}), path, settings, mistakes)
    if mistakes or settings is None:
        raise ConfigError("\n".join(["the settings do not work:", *(f"  - {mistake}" for mistake in mistakes)]))
    return Configuration(settings, routing, tools, trunks)


def _read_tools(document: object, path: Path, settings: Settings | None, mistakes: list[str]) -> dict[str, HttpTool]:
    """The operator's HTTP tools; none may have the name of one of the bridge's own."""
    names = settings.tool_name_map if settings else {}
    found: list[str] = []
    tools = parse_tools(document, found, {names.get(standard, standard) for standard in STANDARD_TOOLS})
    mistakes += [f"{mistake} (in {path})" for mistake in found]
    return tools


def _read_trunks(document: object, path: Path, settings: Settings | None, mistakes: list[str]) -> tuple[Trunk, ...]:
    """The SIP trunks: the one that the settings make, and those of the file."""
    mistakes += settings.sip_problems if settings else []
    try:
        return parse_trunks(document, settings.default_trunk if settings else None)
    except TrunksError as error:
        mistakes += [f"{mistake} (in {path})" for mistake in error.mistakes]
        return ()


def configuration_files(
    environ: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
    dotenv_path: Path = DEFAULT_DOTENV_FILE,
) -> tuple[Path, ...]:
    """The files that ``load_configuration`` reads with these arguments, whether or not they are there."""
    environment = os.environ if environ is None else environ
    named = _toml_named(environment, _read_dotenv(dotenv_path, []), toml_path)
    return Path(named) if named else DEFAULT_CONFIG_FILE, dotenv_path


def _toml_named(environment: Mapping[str, str], dotenv: Mapping[str, str], toml_path: Path | None) -> str:
    """The TOML file that was asked for; empty = none, so the default one is read where it is there."""
    return str(toml_path) if toml_path else {**dotenv, **environment}.get(CONFIG_FILE_VARIABLE, "").strip()


def _validate(sources: tuple[tuple[str, Mapping[str, str]], ...], mistakes: list[str]) -> Settings | None:
    """The settings that these sources make, the last one winning; None when there are mistakes in them."""
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for origin, pairs in sources:
        for name, value in _settings_among(pairs).items():
            if facts_of(Settings, name).lines:
                value = value.replace("\r\n", "\n").replace("\n", "\\n")
            if not value.isprintable():  # a line break or broken UTF-8 would fail later, in a header or a URL
                mistakes.append(f"{name.upper()} (from {origin}) holds an unprintable character; take it out")
                continue
            values[name], origins[name] = value, origin
    try:
        return Settings.model_validate(values)
    except ValidationError as problem:
        mistakes += [_describe(error, values, origins) for error in problem.errors(include_url=False)]
        return None


def _settings_among(pairs: Mapping[str, str]) -> dict[str, str]:
    """The pairs that name a setting, in whatever case, and are not blank."""
    named = {name.lower(): value.strip() for name, value in pairs.items() if value.strip()}
    return {name: value for name, value in named.items() if name in Settings.model_fields}


def _read_dotenv(path: Path, mistakes: list[str]) -> dict[str, str]:
    """Read ``.env``; a missing file is none. ``$NAME`` stays as it is: secrets may hold a dollar sign."""
    try:
        content = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as problem:
        mistakes.append(f"{path} cannot be read ({type(problem).__name__}); it must be a readable UTF-8 text file")
        return {}
    return {name: value or "" for name, value in content.items()}


def _read_toml(path: Path, *, required: bool, mistakes: list[str]) -> dict[str, Any]:
    """Read the TOML file; a missing one that nobody asked for is empty."""
    if not required and not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        mistakes.append(f"{CONFIG_FILE_VARIABLE}: {path} cannot be read ({problem.strerror}); mend the path")
    except (ValueError, RecursionError) as problem:  # not UTF-8, or not TOML; the message has line and column only
        mistakes.append(f"{path} is no valid TOML: {problem}")
    return {}


def _as_texts(content: Mapping[str, object], path: Path, mistakes: list[str]) -> dict[str, str]:
    """The settings of the TOML file as texts, so that a value means the same in every source."""
    texts: dict[str, str] = {}
    for name, value in content.items():
        if name.lower() not in Settings.model_fields:
            mistakes.append(f"{name} (in {path}) is no setting{_nearest(name)}")
        elif isinstance(value, bool):
            texts[name] = "on" if value else "off"
        elif isinstance(value, str | int | float):
            texts[name] = str(value)
        else:
            mistakes.append(f"{name.upper()} (in {path}) must be one text or number, not a {type(value).__name__}")
    return texts


# --- mistakes in words -----------------------------------------------------------------------------------


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), [*Settings.model_fields, *FILE_TABLES], n=1)
    if not near:
        return "; the README's table lists all there are"
    return f"; did you mean {near[0] if near[0] in FILE_TABLES else near[0].upper()}?"


def _describe(error: ErrorDetails, values: Mapping[str, str], origins: Mapping[str, str]) -> str:
    """Put one of pydantic's errors into words: setting, origin, value unless it is secret, problem, mend."""
    name = str(error["loc"][0])
    where = f"{name.upper()} (from {origins[name]})" if name in origins else name.upper()
    if own_words := error.get("ctx", {}).get("error"):
        return f"{where} {own_words}"
    value = "(hidden)" if is_secret(name) else values[name]
    shown = value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "..."
    return f"{where} is {shown!r}; give {_expected(name)}"


def is_secret(name: str) -> bool:
    """Whether the value of this setting must never be shown."""
    return _schema(name).get("format") == "password"


def needs_restart(name: str) -> bool:
    """Whether a change of this setting takes effect only after a restart."""
    return facts_of(Settings, name).restart


@cache
def _schemas() -> dict[str, dict[str, Any]]:
    schemas: dict[str, dict[str, Any]] = Settings.model_json_schema()["properties"]
    return schemas


def _schema(name: str) -> dict[str, Any]:
    """JSON schema of a setting, without the null that stands for unset."""
    schema = _schemas()[name]
    return next((choice for choice in schema.get("anyOf", ()) if choice.get("type") != "null"), schema)


def _expected(name: str) -> str:
    """What a setting takes, from its declaration."""
    if told := facts_of(Settings, name).expected:
        return told
    schema = _schema(name)
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if schema["type"] == "boolean":
        return "on or off"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    floor = f"from {schema['minimum']} to" if "minimum" in schema else f"above {schema['exclusiveMinimum']}, up to"
    return f"{kind} {floor} {schema['maximum']}"
