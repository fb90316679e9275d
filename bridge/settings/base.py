"""What the topics share: how a setting is declared, and checks that more than one of them needs.

A check raises ``ValueError`` with the rest of a sentence that begins with the setting's name: what is wrong, then the
mend. It never quotes what may be a secret.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, SecretStr

from bridge.calls.numbers import parse_target
from bridge.errors import LocalError

MAX_HEADERS = 32
MAX_HEADER_CHARS = 4096
"""Of one header that the operator adds to outgoing requests; receivers refuse longer ones."""
MAX_URL_CHARS = 4096
"""Longest URL that an outgoing request may have."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "elevenlabs-signature",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that the HTTP client or the bridge itself writes; a second one would contradict it."""


class Topic(BaseModel):
    """Base of the topics. Frozen, and silent about values that were refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Facts:
    """What the table and the messages need to know of a setting besides its type."""

    unit: str = ""
    """Shown in the table."""
    expected: str = ""
    """What a value must be, after "give"; empty where the type says it."""
    restart: bool = False
    """Whether a change takes effect only after a restart."""
    lines: bool = False
    """Whether a value may have several lines."""


def setting(
    default: Any,
    about: str,
    *,
    unit: str = "",
    expected: str = "",
    restart: bool = False,
    lines: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a setting: its default, what it does and why, and pydantic's bounds."""
    facts: dict[str, JsonValue] = {"unit": unit, "expected": expected, "restart": restart, "lines": lines}
    return Field(default=default, description=about, json_schema_extra={"facts": facts}, **bounds)


def facts_of(topic: type[Topic], name: str) -> Facts:
    """What was declared of a setting. Raises ``LocalError`` for one that was not declared with ``setting``."""
    extra = topic.model_fields[name].json_schema_extra
    if not isinstance(extra, dict) or not isinstance(extra.get("facts"), dict):
        raise LocalError(f"{name} is not declared with setting()")
    return Facts(**extra["facts"])  # type: ignore[arg-type]


# --- texts -----------------------------------------------------------------------------------------------


def lower(value: object) -> object:
    """Words may be written in capitals."""
    return value.lower() if isinstance(value, str) else value


def pieces(text: str) -> tuple[str, ...]:
    """The entries of a comma list, blank ones left out."""
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def ring(secret: SecretStr | None) -> tuple[str, ...]:
    """Split a key ring: several values with commas between them."""
    return pieces(secret.get_secret_value()) if secret else ()


def split_list(value: object) -> object:
    """A comma list as a tuple; anything else as it is."""
    return pieces(value) if isinstance(value, str) else value


def own_numbers(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Numbers that belong to the operator, in E.164. A mistake names the entry, not the number."""
    numbers = []
    for place, text in enumerate(texts, 1):
        try:
            number = parse_target(text)
        except ValueError:
            number = ""
        if not number.startswith("+"):
            raise ValueError(f"entry {place} is no international number; give each with + and country code")
        numbers.append(number)
    return tuple(dict.fromkeys(numbers))


def existing_file(path: Path) -> Path:
    """Check that this is a file."""
    if not path.is_file():
        raise ValueError("is no file that is there; give the path of a WAV file")
    return path


# --- URLs ------------------------------------------------------------------------------------------------


def _checked_url(text: str, mend: str) -> None:
    """Check an absolute http(s) URL. Never quotes it: it may hold a password."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is no URL; {mend}") from None
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise ValueError(f"is no absolute http or https URL; {mend}")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password; take them out of the URL")


def base_url(text: str) -> str:
    """Check an absolute http(s) URL without a query, take its trailing slash away."""
    _checked_url(text, "give an absolute URL such as https://bridge.example.com")
    if "?" in text or "#" in text:
        raise ValueError("holds a query or fragment; give only scheme, host, port and path")
    return text.rstrip("/")


def target_url(text: str) -> str:
    """Check the URL of an outgoing request; path and query stay as they are."""
    _checked_url(text, "give an absolute URL such as https://hooks.example.com/bridge")
    if "#" in text:
        raise ValueError("holds a fragment, which no server gets to see; take it out")
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"is longer than {MAX_URL_CHARS} characters; shorten it")
    return text


# --- headers ---------------------------------------------------------------------------------------------


def parse_headers(text: str) -> dict[str, str]:
    """The headers of a JSON object of texts. Raises ``ValueError``, which names a header but never a value."""
    mend = 'give a JSON object of texts such as {"X-Api-Key": "..."}'
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"is no JSON; {mend}") from None
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise ValueError(f"is no JSON object of texts; {mend}")
    if len(document) > MAX_HEADERS:
        raise ValueError(f"has {len(document)} headers; give at most {MAX_HEADERS}")
    for place, (name, value) in enumerate(document.items(), 1):
        _check_header(place, name, value)
    return document


def _check_header(place: int, name: str, value: str) -> None:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"has as header {place} what is no header name; use letters, digits and hyphens")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"sets the header {name}, which the bridge sets itself; take it out")
    if not (value.isascii() and value.isprintable()) or value != value.strip() or len(value) > MAX_HEADER_CHARS:
        raise ValueError(
            f"has a value of the header {name} that cannot be sent; use up to {MAX_HEADER_CHARS} printable ASCII "
            "characters without blanks around them"
        )


def _headers(value: SecretStr) -> SecretStr:
    parse_headers(value.get_secret_value())
    return value


# --- types -----------------------------------------------------------------------------------------------

HttpUrl = Annotated[str, AfterValidator(base_url)]
TargetUrl = Annotated[str, AfterValidator(target_url)]
Number = Annotated[float, Field(allow_inf_nan=False)]
"""Any finite number; the unit is in the setting's name."""
OwnNumbers = Annotated[tuple[str, ...], BeforeValidator(split_list), AfterValidator(own_numbers)]
Headers = Annotated[SecretStr, AfterValidator(_headers)]
Lower = BeforeValidator(lower)
CommaList = BeforeValidator(split_list)
