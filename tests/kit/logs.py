"""Logging for tests: whatever a test configures is taken back, and log lines can be looked at as data."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import structlog
from structlog.testing import capture_logs

LIBRARIES = ("bridge", "uvicorn", "uvicorn.error", "uvicorn.access")
"""Loggers that ``bridge.server.logs.configure`` changes, beside the root."""


@contextlib.contextmanager
def unconfigured() -> Iterator[None]:
    """Logging as a fresh process has it; afterwards as it was before."""
    loggers = [logging.getLogger(), *map(logging.getLogger, LIBRARIES)]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    structlog.reset_defaults()
    try:
        yield
    finally:
        structlog.reset_defaults()
        for logger, handlers, level, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


@contextlib.contextmanager
def captured() -> Iterator[list[dict[str, Any]]]:
    """The log lines of the bridge as dicts, as they come; ``event`` and ``log_level`` among their fields."""
    with unconfigured(), capture_logs() as lines:
        yield lines  # type: ignore[misc]  # MutableMapping there, dicts in fact
