"""Every setting of the bridge: name, unit, default and reason; and the loader that reports all mistakes at once.

What it is not: a place for limits that a protocol fixes (those are constants beside the code that keeps them).

Sources, the first that names a setting wins: environment variables, the file ``.env``, one TOML file. All three
use the same names, in upper or lower case. A blank value counts as unset. In the TOML file an unknown name is a
mistake; in the environment and in ``.env``, which other programs share, it is ignored.

pydantic checks the values; pydantic-settings does not read them, because it expands ``$NAME`` inside secrets of
``.env`` and does not keep which source a wrong value came from.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import ErrorDetails

from bridge.auth.twilio import TwilioKeys, parse_shared_keys
from bridge.errors import ConfigError

CONFIG_FILE_VARIABLE = "BRIDGE_CONFIG"
"""Environment variable with the path of the TOML file."""
DEFAULT_CONFIG_FILE = Path("bridge.toml")
DEFAULT_DOTENV_FILE = Path(".env")

# How much of a wrong value an error message repeats.
_SHOWN_CHARS = 60


def _http_url(text: str) -> str:
    """Check an absolute http(s) URL, take its trailing slash away. Never quotes the URL: it may hold a password."""
    mend = "give an absolute URL such as https://bridge.example.com"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is no URL; {mend}") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise ValueError(f"is no absolute http or https URL; {mend}")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password; take them out of the URL")
    if "?" in text or "#" in text:
        raise ValueError("holds a query or fragment; give only scheme, host, port and path")
    return text.rstrip("/")


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _ascii(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isascii():
        raise ValueError("holds a character that no key has; copy it again from ElevenLabs' settings")
    return value


def _shared_keys(value: SecretStr) -> SecretStr:
    parse_shared_keys(_ring(value))
    return value


def _ring(secret: SecretStr | None) -> tuple[str, ...]:
    """Split a key ring: several values with commas between them."""
    text = secret.get_secret_value() if secret else ""
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Settings(BaseModel):
    """The operator's settings. ``load_settings`` builds them; fields stand in the order of the README's table."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    public_url: HttpUrl | None = Field(
        default=None,
        description="Where carriers reach the bridge, as they were told: `https://bridge.example.com`, a path prefix "
        "allowed. It goes into answers and signatures, so it must match to the letter. "
        "Unset: `http://127.0.0.1:BRIDGE_PORT`, for trials on this machine.",
    )
    bridge_host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. `0.0.0.0` for all; the default keeps a fresh trial off the network.",
    )
    bridge_port: int = Field(default=8080, ge=1, le=65535, description="Port for HTTP and WebSockets alike.")
    bridge_api_key: SecretStr | None = Field(
        default=None,
        description="Key that `/metrics` and the status page ask for, as `X-API-Key` or Bearer token. Unset: both are "
        "open; they hold counts and the bridge's own addresses only.",
    )
    bridge_auth: Annotated[Literal["on", "off"], BeforeValidator(_lower)] = Field(
        default="on",
        description="`off` lets every entrance in without signature, token or key, for trials and benchmarks; "
        "refused unless `BRIDGE_HOST` is a loopback address.",
    )
    elevenlabs_api_key: Annotated[SecretStr, AfterValidator(_ascii)] | None = Field(
        default=None,
        description="Key of the ElevenLabs workspace, to fetch signed URLs. Unset: only public agents can be reached.",
    )
    elevenlabs_agent_id: str | None = Field(default=None, description="Agent that takes the calls.")
    elevenlabs_base_url: HttpUrl = Field(
        default="https://api.elevenlabs.io",
        description="ElevenLabs' interface: another region's host, or `http://127.0.0.1:9090` for `bridge agent`. "
        "The WebSocket address follows from it.",
    )
    elevenlabs_branch_id: str | None = Field(
        default=None, description="Branch of the agent to talk to. Unset: the agent's main branch."
    )
    elevenlabs_environment: str | None = Field(
        default=None, description="Environment of the agent's variables. Unset: the vendor's default, `production`."
    )
    twilio_account_sid: str | None = Field(
        default=None,
        pattern=r"^AC[0-9a-fA-F]{32}$",
        description="Twilio account whose calls are taken: `AC` and 32 hex digits.",
    )
    twilio_auth_token: SecretStr | None = Field(
        default=None,
        description="Primary auth token that signs Twilio's requests. While it is rotated: old and new one with a "
        "comma between. Unset: Twilio's requests are refused while `BRIDGE_AUTH` is `on`.",
    )
    twilio_shared_keys: Annotated[SecretStr, AfterValidator(_shared_keys)] | None = Field(
        default=None,
        description="Twilio SharedKeys as `id=secret,id=secret`. Once set, webhooks signed with the auth token alone "
        "are refused, so set it together with Twilio's side.",
    )
    bridge_max_calls: int = Field(
        default=1000,
        ge=1,
        le=100_000,
        description="Calls that this process carries at most; the next one is told busy. `bridge bench` says what "
        "the machine carries.",
    )
    workspace_concurrency: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="The ElevenLabs plan's limit of concurrent conversations: a caller over it is told busy rather "
        "than connected to an agent that refuses. Unset: no limit.",
    )
    drain_timeout_s: Seconds = Field(
        default=300,
        ge=0,
        le=86_400,
        description="How long a stopping bridge waits for its calls before it ends them; most calls are over in five "
        "minutes. Give the process manager a little more (`stop_grace_period`, `TimeoutStopSec`).",
    )
    upload_chunk_ms: int = Field(
        default=20,
        ge=20,
        le=250,
        description="Least caller audio in one message to the agent. More means fewer messages and as much more "
        "delay; the vendor's own client sends 250.",
    )
    start_timeout_s: Seconds = Field(
        default=5,
        gt=0,
        le=60,
        description="How long a fresh media socket may take to begin its call. Carriers do so at once.",
    )
    carrier_silence_s: Seconds = Field(
        default=60,
        gt=0,
        le=3600,
        description="A carrier that sent nothing at all for so long is gone. Carriers send audio all the time, even "
        "of a silent caller.",
    )
    agent_connect_timeout_s: Seconds = Field(
        default=8,
        gt=0,
        le=60,
        description="Signed URL, connection and one retry together; a caller hears silence meanwhile.",
    )
    agent_ready_timeout_s: Seconds = Field(
        default=10,
        gt=0,
        le=60,
        description="How long the agent's side may take to begin the conversation once connected.",
    )
    agent_silence_s: Seconds = Field(
        default=30,
        gt=0,
        le=3600,
        description="An agent's side that sent nothing at all for so long is gone; the vendor pings every few seconds.",
    )
    call_token_ttl_s: Seconds = Field(
        default=60,
        gt=0,
        le=600,
        description="Life of the one-time token between the answer webhook and its media socket; carriers connect "
        "within seconds.",
    )
    caller_buffer_ms: int = Field(
        default=5000,
        ge=0,
        le=60_000,
        description="Caller audio kept while the agent connects, so that the first words are heard; beyond it the "
        "oldest is dropped.",
    )
    playout_queue_s: Seconds = Field(
        default=180,
        gt=0,
        le=3600,
        description="Agent audio held for playing at most. Agents speak faster than real time, so minutes may be "
        "waiting; at 8 kHz a minute takes 480 kB.",
    )
    data_dir: Path = Field(default=Path("data"), description="Folder for what the demo leaves: recording and picture.")
    log_format: Annotated[Literal["auto", "json", "console"], BeforeValidator(_lower)] = Field(
        default="auto", description="`json` for collectors, `console` for people; `auto` looks for a terminal."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        default="info", description="Least level that is logged."
    )

    @field_validator("bridge_auth")
    @classmethod
    def _auth_off_on_loopback_only(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("bridge_host")
        if value == "off" and host is not None and not _is_loopback(host):
            raise ValueError(
                "is off, which would let everybody in who reaches BRIDGE_HOST; "
                "set BRIDGE_HOST to 127.0.0.1, or BRIDGE_AUTH to on"
            )
        return value

    @property
    def public_base_url(self) -> str:
        """Where carriers reach the bridge, without trailing slash; derived from the port where PUBLIC_URL is unset."""
        return self.public_url or f"http://127.0.0.1:{self.bridge_port}"

    @property
    def public_ws_url(self) -> str:
        """``public_base_url`` for WebSockets: ``ws`` for ``http``, ``wss`` for ``https``."""
        return _as_websocket(self.public_base_url)

    @property
    def agent_ws_base(self) -> str:
        """``elevenlabs_base_url`` for WebSockets: ``ws`` for ``http``, ``wss`` for ``https``."""
        return _as_websocket(self.elevenlabs_base_url)

    @property
    def twilio_keys(self) -> TwilioKeys:
        """What may sign Twilio's requests."""
        return TwilioKeys(_ring(self.twilio_auth_token), parse_shared_keys(_ring(self.twilio_shared_keys)))

    @property
    def carrier_secrets(self) -> dict[str, tuple[str, ...]]:
        """The carriers' secrets as key rings by setting name, for the verifiers; SharedKeys as ``id=secret``."""
        return {
            "twilio_auth_token": _ring(self.twilio_auth_token),
            "twilio_shared_keys": _ring(self.twilio_shared_keys),
        }


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _as_websocket(url: str) -> str:
    return "ws" + url.removeprefix("http")


# --- load --------------------------------------------------------------------------------------------------


def load_settings(
    environ: Mapping[str, str] | None = None,
    toml_path: Path | None = None,
    dotenv_path: Path = DEFAULT_DOTENV_FILE,
) -> Settings:
    """Read the settings from ``environ`` (default: the process's), the ``.env`` file and the TOML file.

    ``toml_path`` takes the place of BRIDGE_CONFIG. Raises ``ConfigError`` with every mistake in one message: the
    setting, where it was set, what is wrong and the mend; never a secret's value.
    """
    environment = os.environ if environ is None else environ
    mistakes: list[str] = []
    dotenv = _read_dotenv(dotenv_path, mistakes)
    named = toml_path or {**dotenv, **environment}.get(CONFIG_FILE_VARIABLE, "").strip()
    toml = _read_toml(Path(named) if named else DEFAULT_CONFIG_FILE, required=bool(named), mistakes=mistakes)
    values: dict[str, str] = {}
    origins: dict[str, str] = {}
    for origin, pairs in ((named or DEFAULT_CONFIG_FILE, toml), (dotenv_path, dotenv), ("environment", environment)):
        for name, value in _settings_among(pairs).items():
            if not value.isprintable():  # a line break or broken UTF-8 would fail later, in a header or a URL
                mistakes.append(f"{name.upper()} (from {origin}) holds an unprintable character; take it out")
                continue
            values[name], origins[name] = value, str(origin)
    try:
        settings = Settings.model_validate(values)
    except ValidationError as problem:
        mistakes += [_describe(error, values, origins) for error in problem.errors(include_url=False)]
    if mistakes:
        raise ConfigError("\n".join(["the settings do not work:", *(f"  - {mistake}" for mistake in mistakes)]))
    return settings


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


def _read_toml(path: Path, *, required: bool, mistakes: list[str]) -> dict[str, str]:
    """Read the TOML file as texts, so that a value means the same in every source."""
    if not required and not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as problem:
        mistakes.append(f"{CONFIG_FILE_VARIABLE}: {path} cannot be read ({problem.strerror}); mend the path")
        return {}
    except ValueError as problem:  # not UTF-8, or not TOML; the message has line and column, not the text
        mistakes.append(f"{path} is no valid TOML: {problem}")
        return {}
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


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), Settings.model_fields, n=1)
    return f"; did you mean {near[0].upper()}?" if near else "; the README's table lists all there are"


def _describe(error: ErrorDetails, values: Mapping[str, str], origins: Mapping[str, str]) -> str:
    """Put one of pydantic's errors into words: setting, origin, value unless it is secret, problem, mend."""
    name = str(error["loc"][0])
    where = f"{name.upper()} (from {origins[name]})"
    if own_words := error.get("ctx", {}).get("error"):
        return f"{where} {own_words}"
    value = "(hidden)" if is_secret(name) else values[name]
    shown = value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "..."
    return f"{where} is {shown!r}; give {_expected(name)}"


def is_secret(name: str) -> bool:
    """Whether the value of this setting must never be shown."""
    return _schema(name).get("format") == "password"


def _schema(name: str) -> dict[str, Any]:
    """JSON schema of a setting, without the null that stands for unset."""
    schema: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    return next((choice for choice in schema.get("anyOf", ()) if choice["type"] != "null"), schema)


def _expected(name: str) -> str:
    """What a setting takes, from its declaration."""
    schema = _schema(name)
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    if "pattern" in schema:
        return "AC and 32 hex digits"
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    floor = f"from {schema['minimum']} to" if "minimum" in schema else f"above {schema['exclusiveMinimum']}, up to"
    return f"{kind} {floor} {schema['maximum']}"
