"""Where the bridge listens, what it is called, and who may look at it."""

from __future__ import annotations

import ipaddress
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, SecretStr, ValidationInfo, field_validator

from bridge.auth.api_keys import ApiKey, parse_keys
from bridge.errors import ConfigError
from bridge.settings.base import HttpUrl, Lower, Topic, setting


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _api_keys(value: SecretStr) -> SecretStr:
    try:
        parse_keys(value.get_secret_value())
    except ConfigError as problem:
        raise ValueError(str(problem).removeprefix("BRIDGE_API_KEY: ").rstrip(".")) from None
    return value


def find_zone(name: str) -> tzinfo:
    """The time zone of this IANA name. Raises ``ValueError`` where this machine knows none."""
    if name.upper() == "UTC":
        return UTC  # needs no time zone database
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            "is no time zone that this machine knows; give an IANA name such as Europe/Berlin (and install tzdata)"
        ) from None


def _zone(name: str) -> str:
    find_zone(name)
    return name


class ServerSettings(Topic):
    """Server."""

    public_url: HttpUrl | None = setting(
        None,
        "Where carriers reach the bridge, as they were told: `https://bridge.example.com`, a path prefix "
        "allowed. It goes into answers and signatures, so it must match to the letter. "
        "Unset: `http://127.0.0.1:BRIDGE_PORT`, for trials on this machine.",
    )
    instance_url: HttpUrl | None = setting(
        None,
        "Where carriers reach this very process, when several share `PUBLIC_URL`: media streams and webhooks in the "
        "middle of a call come back to the process that carries it. Unset: `PUBLIC_URL`.",
        restart=True,
    )
    bridge_host: str = setting(
        "127.0.0.1",
        "Address to listen on. `0.0.0.0` for all; the default keeps a fresh trial off the network.",
        min_length=1,
        expected="an address of this machine, such as 127.0.0.1",
        restart=True,
    )
    bridge_port: int = setting(8080, "Port for HTTP and WebSockets alike.", ge=1, le=65535, restart=True)
    bridge_api_key: Annotated[SecretStr, AfterValidator(_api_keys)] | None = setting(
        None,
        "Keys for the API, `/metrics` and the console, as `X-API-Key` or Bearer token: one key, or several with "
        "commas between them while one is rotated. `read:KEY` may look, `admin:KEY` or a bare key may also change and "
        "delete. Unset: the API is closed, the console shows counts "
        "and the bridge's own addresses but no calls, and `/metrics` is open.",
    )
    bridge_auth: Annotated[Literal["on", "off"], Lower] = setting(
        "on",
        "`off` lets every entrance in without signature, token or key, for trials and benchmarks; "
        "refused unless `BRIDGE_HOST` is a loopback address.",
        restart=True,
    )
    instance_id: str | None = setting(
        None,
        "First part of this process's name in records and in the list of live calls. A random part follows, new at "
        "every start, because what a dead process left belongs to nobody. Unset: the host's name.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$",
        expected="up to 100 letters, digits, dots, colons, hyphens and underscores",
        restart=True,
    )
    timezone: Annotated[str, AfterValidator(_zone)] = setting(
        "UTC",
        "Time zone of the operator, an IANA name such as `Europe/Berlin`: its midnight ends the day of daily limits.",
        restart=True,
    )
    data_dir: Path = setting(
        Path("data"), "Folder for the SQLite database, recordings, and what the demo leaves.", restart=True
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
        return "ws" + self.public_base_url.removeprefix("http")

    @property
    def instance_base_url(self) -> str:
        """Where carriers reach this very process, without trailing slash."""
        return self.instance_url or self.public_base_url

    @property
    def instance_ws_url(self) -> str:
        """``instance_base_url`` for WebSockets."""
        return "ws" + self.instance_base_url.removeprefix("http")

    @property
    def api_keys(self) -> tuple[ApiKey, ...]:
        """The keys with what each may do; none = the API is closed."""
        return parse_keys(self.bridge_api_key.get_secret_value()) if self.bridge_api_key else ()

    @property
    def zone(self) -> tzinfo:
        """The operator's time zone."""
        return find_zone(self.timezone)
