"""Call records and webhook events as tests need them."""

from __future__ import annotations

from typing import Any

from bridge.calls.journal import Journal
from bridge.calls.record import CallRecord, OutboxEvent, Recording

CREATED_AT = 1_700_000_000.25


def call_record(call_id: str = "call1", **fields: Any) -> CallRecord:
    """A live call of ``instance1``."""
    given: dict[str, Any] = {
        "instance_id": "instance1",
        "provider": "twilio",
        "caller": "+15550001",
        "called": "+15550002",
        "call_sid": f"CA{call_id}",
        "agent_id": "agent_1",
        "state": "active",
        "created_at": CREATED_AT,
        **fields,
    }
    return CallRecord(id=call_id, **given)


def ended_record(call_id: str = "call1", **fields: Any) -> CallRecord:
    """A call that the caller ended after half a minute."""
    created_at = fields.get("created_at", CREATED_AT)
    end = {"state": "ended", "ended_at": created_at + 30.0, "result": "success", "reason": "caller_hangup"}
    return call_record(call_id, **{**end, **fields})


def journal_of_everything() -> Journal:
    """A journal with an entry of each kind."""
    journal = Journal()
    journal.said("agent", "Hello, who is there?", 0.5)
    journal.said("user", "It is Ann.", 2.0)
    journal.tool_called("find_customer", "tool1", {"name": "Ann"}, 2.5)
    journal.tool_answered("tool1", "customer 17", 2.75, is_error=False)
    journal.pressed("7", 120, 3.0)
    journal.step("active", "", 0.25)
    return journal


def finished_recording(location: str = "2023/call1.wav") -> Recording:
    """A recording that is complete."""
    return Recording(location=location, format="wav", duration_ms=30_000, size_bytes=480_044, complete=True)


def outbox_event(call_id: str = "call1", kind: str = "call.ended", sequence: int = 1, **fields: Any) -> OutboxEvent:
    """A webhook event of a call."""
    given: dict[str, Any] = {"created_at": CREATED_AT, "body": b'{"type":"%s"}' % kind.encode(), **fields}
    return OutboxEvent(id=f"evt_{call_id}_{kind}", call_id=call_id, sequence=sequence, type=kind, **given)
