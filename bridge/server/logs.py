"""Structured logs: one line per step of a call's life, as JSON or for people, with a safety net against leaks.

Code never passes numbers, keys or words of the call to the log; ``redact`` is there for the day somebody does.
Lines of other libraries (uvicorn, picows, httpx) go through the same pipe from WARNING up: httpx logs whole
URLs at INFO, and a signed URL is a key.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

_PRIVATE_KEYS = frozenset(
    {"caller", "called", "from", "to", "token", "api_key", "authorization", "signature", "digit", "digits", "url"}
)
_PHONE_NUMBER = re.compile(r"(?<![\w+])(?:\+|%2[Bb])\d{6,15}(?!\w)")
_URL_SECRET = re.compile(r"(?i)((?:conversation_signature|signature|token|api_key|key)=)[^&\s\"']+")
_KEY = re.compile(r"\bsk_[A-Za-z0-9]{8,}")
REDACTED = "[redacted]"


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """structlog processor: blank private fields, and phone numbers and keys in all texts."""
    for key, value in event.items():
        if key in _PRIVATE_KEYS:
            event[key] = REDACTED
        elif isinstance(value, str):
            event[key] = redact_text(value)
    return event


def redact_text(text: str) -> str:
    """Blank phone numbers (E.164), secrets in URLs and API keys in a text."""
    text = _PHONE_NUMBER.sub(REDACTED, text)
    text = _URL_SECRET.sub(rf"\1{REDACTED}", text)
    return _KEY.sub(REDACTED, text)


def configure(level: str, log_format: Literal["auto", "json", "console"]) -> None:
    """Send every log line of this process to standard error, in the chosen form."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=_wrapper(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("bridge").setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)


def set_level(level: str) -> None:
    """Log from this level up from now on; loggers that calls in progress hold keep theirs."""
    structlog.configure(wrapper_class=_wrapper(level))
    logging.getLogger("bridge").setLevel(level.upper())


def _wrapper(level: str) -> Any:
    return structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()])


def get_logger(**fields: str) -> Any:
    """A logger of the bridge with these fields bound."""
    return structlog.get_logger("bridge", **fields)
