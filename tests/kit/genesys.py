"""Genesys' messages as Genesys writes them, and a session that is fed with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bridge.events import Accept, Event, Offered
from bridge.leg import LegOptions, Outgoing, UpgradeRequest
from bridge.providers.genesys import GenesysLeg

ORGANIZATION_ID = "d7934305-0972-4844-938e-9060eef73d05"
SESSION_ID = "30b0e395-84d3-4570-ac13-9a62d8f514c0"
CORRELATION_ID = "e160e428-53e2-487c-977d-96989bf5c99d"
CONVERSATION_ID = "090eaa2f-72fa-480a-83e0-8667ff89c0ec"
PARTICIPANT_ID = "883efee8-3d6c-4537-b500-6d7ca4b92fa0"
ZERO_ID = "00000000-0000-0000-0000-000000000000"

HEADERS = {
    "host": "audiohook.example.com",
    "audiohook-organization-id": ORGANIZATION_ID,
    "audiohook-session-id": SESSION_ID,
    "audiohook-correlation-id": CORRELATION_ID,
    "x-api-key": "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh",
}
REQUEST = UpgradeRequest("/genesys/agent_1", HEADERS, {"agent_id": "agent_1"})

MONO = {"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}
INTERNAL = {**MONO, "channels": ["internal"]}
STEREO = {**MONO, "channels": ["external", "internal"]}
INVERTED = {**MONO, "channels": ["internal", "external"]}
L16 = {**MONO, "format": "L16"}

PARTICIPANT = {"id": PARTICIPANT_ID, "ani": "tel:+15550100", "aniName": "Jo Doe", "dnis": "tel:+15550199"}
OPEN: dict[str, Any] = {
    "organizationId": ORGANIZATION_ID,
    "conversationId": CONVERSATION_ID,
    "participant": PARTICIPANT,
    "media": [MONO],
    "language": "en-US",
    "inputVariables": {"tier": "gold"},
}
PROBE = {
    **OPEN,
    "conversationId": ZERO_ID,
    "participant": {"id": ZERO_ID, "ani": "", "aniName": "", "dnis": ""},
    "inputVariables": {},
}


def message(kind: str, parameters: Mapping[str, object] | None = None, seq: int = 2, **envelope: object) -> str:
    """A client message; ``envelope`` changes fields of the envelope."""
    body = {
        "version": "2",
        "id": SESSION_ID,
        "type": kind,
        "seq": seq,
        "serverseq": 0,
        "position": "PT0S",
        "parameters": parameters or {},
    }
    return json.dumps(body | envelope)


def opening(changes: Mapping[str, object] | None = None) -> str:
    """The message with which a session begins."""
    return message("open", OPEN | dict(changes or {}), 1)


def said(outgoing: list[Outgoing]) -> list[tuple[str, dict[str, Any]]]:
    """Our text messages as (type, parameters)."""
    bodies = [json.loads(item) for item in outgoing if isinstance(item, str)]
    return [(body["type"], body["parameters"]) for body in bodies]


def spoken(outgoing: list[Outgoing]) -> list[bytes]:
    """Our audio messages."""
    return [item for item in outgoing if isinstance(item, bytes)]


class Session:
    """A leg with a client that counts: feed it types and parameters, read what it says."""

    def __init__(
        self,
        request: UpgradeRequest = REQUEST,
        carrier: Mapping[str, str] | None = None,
        now: float = 100.0,
    ) -> None:
        self.now = now
        self.leg = GenesysLeg(LegOptions(5.0, 30.0, carrier or {}), request, now)
        self.seq = 0

    def hear(self, kind: str, parameters: Mapping[str, object] | None = None, **envelope: object) -> list[Event]:
        """A message of the client's."""
        self.seq += 1
        return self.leg.receive(message(kind, parameters, self.seq, **envelope), self.now)

    def live(self, changes: Mapping[str, object] | None = None) -> Session:
        """Open the session and accept its call."""
        [offer] = self.hear("open", OPEN | dict(changes or {}))
        assert isinstance(offer, Offered)
        self.leg.send(Accept(offer.media_choices[0]), self.now)
        self.leg.drain()
        return self

    def wait(self, seconds: float) -> tuple[list[Event], list[Outgoing]]:
        """Let time pass, every timer handled when it asked for it: what happened, and what went out."""
        happened: list[Event] = []
        out: list[Outgoing] = []
        end = self.now + seconds
        for _ in range(10_000):
            at = self.leg.next_timer()
            if at > end:
                break
            self.now = max(self.now, at)
            happened += self.leg.handle_timer(self.now)
            out += self.leg.drain()
        else:
            raise AssertionError("the timer never comes to an end")
        self.now = end
        return happened, out
