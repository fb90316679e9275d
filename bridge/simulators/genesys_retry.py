"""When Genesys Cloud tries a session again, and after how long.

Source: AudioHook "Session walkthrough" as summarised by others: up to five retries with exponential back-off when
the connection fails, ``opened`` does not come in time, or the server disconnects with ``error``; none when the
upgrade is answered with a status (4xx and 5xx alike), after ``completed`` or ``unauthorized``, or for a breach of the
protocol. The seconds are not documented; those below keep five retries within half a minute.
"""

from __future__ import annotations

from bridge.simulators.genesys_result import GenesysResult

MAX_RETRIES = 5
"""What Genesys does at most."""

FIRST_BACKOFF_S = 1.0
BACKOFF_FACTOR = 2.0


def backoff_s(retry: int) -> float:
    """How long to wait before retry 1, 2, ..."""
    return FIRST_BACKOFF_S * BACKOFF_FACTOR ** (retry - 1)


def worth_retrying(result: GenesysResult) -> bool:
    """Whether an attempt that went like this is followed by another."""
    if result.ended_by == "refused":
        return not result.http_status
    if result.ended_by == "lost" and result.opened_ms is None:
        return True
    if result.disconnect is not None:
        return result.disconnect.reason == "error" and result.ended_by in ("server", "lost")
    return result.open_timed_out
