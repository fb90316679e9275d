"""What several processes share."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr

from bridge.settings.base import Lower, Topic, setting


def _redis_url(value: SecretStr) -> SecretStr:
    mend = "give redis://HOST:6379/0, rediss://HOST:6379/0 (TLS) or unix:///PATH"
    try:
        parts = urlsplit(value.get_secret_value())
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is no URL; {mend}") from None
    if parts.scheme not in ("redis", "rediss", "unix") or not (parts.path if parts.scheme == "unix" else host):
        raise ValueError(f"is no address of a Redis; {mend}")
    return value


class ClusterSettings(Topic):
    """Several processes."""

    redis_url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = setting(
        None,
        "Redis in which all processes count their calls and keep one-time tokens: `redis://`, `rediss://` (TLS) or "
        "`unix://`. Unset: this process counts alone, so run only one.",
        restart=True,
    )
    redis_prefix: str = setting(
        "bridge",
        "First part of every key in Redis. Bridges with different prefixes share nothing.",
        pattern=r"^[A-Za-z0-9_.:-]{1,64}$",
        expected="up to 64 letters, digits, dots, colons, hyphens and underscores",
        restart=True,
    )
    limits_when_redis_down: Annotated[Literal["fail_open", "fail_closed"], Lower] = setting(
        "fail_open",
        "While Redis does not answer: `fail_open` = each process lets in its share of the limits, `fail_closed` = no "
        "new calls. Calls in progress go on either way.",
        restart=True,
    )
