"""A simulated Audio Connector session in virtual time, and a server's messages to feed it with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from bridge.simulators.genesys_limits import Limits
from bridge.simulators.genesys_line import GenesysLine
from bridge.simulators.genesys_media import OFFERS
from bridge.simulators.genesys_outbox import CloseSocket
from bridge.simulators.genesys_person import AnyAction
from bridge.simulators.genesys_protocol import GenesysSession
from bridge.simulators.genesys_result import GenesysResult
from bridge.simulators.genesys_setup import NULL_UUID, SessionSetup

T = 500.0
ORGANIZATION = "d7934305-0972-4844-938e-9060eef73d05"
SESSION = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
CONVERSATION = "e160e428-53e2-487c-977d-96989bf5c99d"
PARTICIPANT = "a5f0a6a5-8b0b-4f4c-9d2e-5c8d0d7f7b11"
EXTERNAL = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}


def setup_for(**changes: Any) -> SessionSetup:
    values: dict[str, Any] = {
        "organization_id": ORGANIZATION,
        "session_id": SESSION,
        "conversation_id": CONVERSATION,
        "participant_id": PARTICIPANT,
        "ani": "tel:+15550100",
        "dnis": "tel:+15550199",
    }
    return SessionSetup(**{**values, **changes})


def probe_setup() -> SessionSetup:
    return setup_for(conversation_id=NULL_UUID, participant_id=NULL_UUID, ani="", dnis="")


def offer(name: str) -> SessionSetup:
    return setup_for(media=OFFERS[name])


class _Wire:
    """What both runs share: the clock, the messages of the server, and what came from the client."""

    def __init__(self) -> None:
        self.now = T
        self.sent: list[Any] = []
        """Messages as objects, audio as bytes."""
        self.closed_at: float | None = None
        self.server_seq = 0

    @property
    def session(self) -> GenesysSession:
        raise NotImplementedError

    def machine(self) -> GenesysSession | GenesysLine:
        raise NotImplementedError

    def advance(self, seconds: float) -> None:
        """Handle every timer exactly when it was asked for."""
        end_s = self.now + seconds
        while self.machine().next_timer() <= end_s + 1e-9:
            self.now = max(self.now, self.machine().next_timer())
            self.machine().handle_timer(self.now)
            self.collect()
        self.now = end_s

    def collect(self) -> None:
        for action in self.machine().drain():
            if isinstance(action, CloseSocket):
                self.closed_at = self.now
            else:
                self.sent.append(action if isinstance(action, bytes) else json.loads(action))

    def feed(self, message: str | bytes) -> None:
        self.machine().receive(message, self.now)
        self.collect()

    def message(self, kind: str, parameters: Any = None, **changes: Any) -> dict[str, Any]:
        """A right message of the server, with ``changes`` to its envelope; None takes a field away."""
        self.server_seq += 1
        message = {
            "version": "2",
            "id": SESSION,
            "type": kind,
            "seq": self.server_seq,
            "clientseq": self.session.outbox.seq,
            "parameters": {} if parameters is None else parameters,
            **changes,
        }
        return {name: value for name, value in message.items() if value is not None}

    def server(self, kind: str, parameters: Any = None, **changes: Any) -> None:
        self.feed(json.dumps(self.message(kind, parameters, **changes)))

    def opened(self, media: Sequence[dict[str, Any]] = (EXTERNAL,), **more: Any) -> None:
        self.server("opened", {"media": list(media), **more})

    def barge_in(self) -> None:
        self.server("event", {"entities": [{"type": "barge_in", "data": {}}]})

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if isinstance(message, dict) and message["type"] == kind]

    def audio(self) -> list[bytes]:
        return [message for message in self.sent if isinstance(message, bytes)]

    def answer_pings(self, seconds: float) -> None:
        """Let time pass with a server that answers every ping at once."""
        end_s = self.now + seconds
        while self.now < end_s - 1e-9:
            before = len(self.of("ping"))
            self.advance(min(0.1, end_s - self.now))
            for ping in self.of("ping")[before:]:
                self.server("pong", clientseq=ping["seq"])


class SessionRun(_Wire):
    """A session alone."""

    def __init__(self, setup: SessionSetup | None = None, *, limits: Limits | None = None) -> None:
        super().__init__()
        self._session = GenesysSession(setup or setup_for(**({"limits": limits} if limits else {})), T)
        self.collect()

    @property
    def session(self) -> GenesysSession:
        return self._session

    def machine(self) -> GenesysSession:
        return self._session

    def breaches(self) -> list[tuple[int, str, bool]]:
        return [(breach.code, breach.text, breach.fatal) for breach in self.session.breaches]


class LineRun(_Wire):
    """A session with a caller."""

    def __init__(self, *actions: AnyAction, setup: SessionSetup | None = None, keep_audio: bool = True) -> None:
        super().__init__()
        self.result = GenesysResult()
        session = GenesysSession(setup or setup_for(), T)
        self.line = GenesysLine(session, actions, self.result, keep_audio=keep_audio)
        self.collect()

    @property
    def session(self) -> GenesysSession:
        return self.line.session

    def machine(self) -> GenesysLine:
        return self.line

    def texts(self) -> list[str]:
        return [breach.text for breach in self.result.breaches]
