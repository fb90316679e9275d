"""Where a Genesys session stands, and what it means when Genesys ends it there."""

from __future__ import annotations

import enum

from bridge import outcome
from bridge.events import Ended
from bridge.providers.genesys_messages import MAX_MESSAGE_BYTES

CLOSE_NOT_TEXT, CLOSE_TOO_BIG = 1007, 1009
"""RFC 6455, 7.4.1: the driver's transport refused a message for its encoding, or its size."""


class State(enum.Enum):
    """Where the session stands."""

    WAITING = "waiting"
    """The socket is open; no ``open`` yet."""
    OFFERED = "offered"
    """``open`` was read; the call has not decided yet."""
    LIVE = "live"
    """``opened`` was sent: audio may go both ways."""
    PROBED = "probed"
    """Opened for a connection probe, which no call knows of."""
    DISCONNECTING = "disconnecting"
    """We asked Genesys to close."""
    CLOSED = "closed"
    """The session is closed; Genesys closes the socket."""
    OVER = "over"
    """The socket is gone, or given up."""


def session_closed(state: State, reason: str, last_error: int) -> Ended:
    """The end by a ``close`` message. ``last_error`` is the code of Genesys' last ``error``, 0 = none."""
    detail = f"close: {ascii(reason[:40])[1:-1]}" + (f" after error {last_error}" if last_error else "")
    if state is State.WAITING:
        return Ended(outcome.NO_START, f"{detail}, before open")
    if state is State.PROBED:
        return Ended(outcome.PROBE, detail)
    return Ended(outcome.CARRIER_LOST if reason in ("error", "reconnect") else outcome.CALLER_HANGUP, detail)


def socket_lost(state: State, code: int) -> Ended:
    """The end without one: Genesys always closes its sessions, so this is a failure, whatever the socket's code."""
    if code == CLOSE_NOT_TEXT:
        return Ended(outcome.BAD_MESSAGE, "a text message that is not UTF-8")
    if code == CLOSE_TOO_BIG:
        return Ended(outcome.MESSAGE_TOO_BIG, f"a message over {MAX_MESSAGE_BYTES} bytes")
    if state is State.WAITING:
        return Ended(outcome.NO_START, f"close {code} before open")
    if state is State.PROBED:
        return Ended(outcome.PROBE, f"close {code}")
    return Ended(outcome.CARRIER_LOST, f"close {code} of the socket without a close message")
