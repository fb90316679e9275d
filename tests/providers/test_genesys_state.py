"""What it means when Genesys ends a session."""

from __future__ import annotations

import pytest

from bridge import outcome
from bridge.events import Ended
from bridge.providers.genesys_state import State, session_closed, socket_lost


@pytest.mark.parametrize(
    ("state", "reason", "error", "expected"),
    [
        (State.LIVE, "end", 0, Ended(outcome.CALLER_HANGUP, "close: end")),
        (State.OFFERED, "disconnect", 0, Ended(outcome.CALLER_HANGUP, "close: disconnect")),
        (State.LIVE, "n\u00e9w\n", 0, Ended(outcome.CALLER_HANGUP, "close: n\\xe9w\\n")),
        (State.LIVE, "error", 408, Ended(outcome.CARRIER_LOST, "close: error after error 408")),
        (State.LIVE, "reconnect", 0, Ended(outcome.CARRIER_LOST, "close: reconnect")),
        (State.PROBED, "end", 0, Ended(outcome.PROBE, "close: end")),
        (State.WAITING, "end", 0, Ended(outcome.NO_START, "close: end, before open")),
    ],
)
def test_a_close_message(state: State, reason: str, error: int, expected: Ended) -> None:
    assert session_closed(state, reason, error) == expected


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        (State.LIVE, 1000, Ended(outcome.CARRIER_LOST, "close 1000 of the socket without a close message")),
        (State.OFFERED, 1006, Ended(outcome.CARRIER_LOST, "close 1006 of the socket without a close message")),
        (State.LIVE, 1007, Ended(outcome.BAD_MESSAGE, "a text message that is not UTF-8")),
        (State.LIVE, 1009, Ended(outcome.MESSAGE_TOO_BIG, "a message over 65536 bytes")),
        (State.WAITING, 1006, Ended(outcome.NO_START, "close 1006 before open")),
        (State.PROBED, 1005, Ended(outcome.PROBE, "close 1005")),
    ],
)
def test_a_lost_socket(state: State, code: int, expected: Ended) -> None:
    assert socket_lost(state, code) == expected
