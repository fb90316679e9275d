"""The tables. Alembic's migrations in ``migrations/`` bring a database to this shape; a test compares the two.

Times are Unix seconds as floats, by the database server's clock where instances are compared. Documents are JSON
as bytes, so that what was written comes back to the letter on both databases.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

CALLS = Table(
    "calls",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("instance_id", String(128), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("caller", Text, nullable=False),
    Column("called", Text, nullable=False),
    Column("agent_id", String(128), nullable=False),
    Column("call_sid", String(255), nullable=False, index=True),
    Column("conversation_id", String(255), nullable=False, index=True),
    Column("state", String(32), nullable=False),
    Column("result", String(32), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("is_burst", Boolean, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("answered_at", Float),
    Column("ended_at", Float),
    Column("recording", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("journal", LargeBinary, nullable=False),
    Column("has_transcript", Boolean, nullable=False),
    Index("ix_calls_created_at_id", "created_at", "id"),
    Index("ix_calls_ended_at", "ended_at"),
    Index("ix_calls_has_transcript_ended_at", "has_transcript", "ended_at"),
    Index("ix_calls_recording_ended_at", "recording", "ended_at"),
)
"""One row a call: what is searched by; the record as JSON (``document``) without its journal and its recording; the
journal (transcript, tools, keys, steps) and the recording (JSON of ``bridge.calls.record.Recording``, empty = none)
apart, because each has a retention of its own. ``has_transcript`` says whether the journal still holds what was said,
so that a purge finds its work by an index instead of reading every journal again."""

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("conversation_id", String(255), primary_key=True),
    Column("call_id", String(64), ForeignKey("calls.id", ondelete="CASCADE"), nullable=False, index=True),
)
"""Every conversation of a call, to find the call when the vendor reports on one; a call may have several."""

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", String(160), primary_key=True),
    Column("call_id", String(64), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("type", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("audio", Text, nullable=False),
    Column("audio_format", String(8), nullable=False),
    Column("state", String(16), nullable=False),  # pending, delivered, dead
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", Float, nullable=False),
    Column("claimed_by", String(128), nullable=False),
    Column("claimed_until", Float, nullable=False),
    Column("delivered_at", Float),
    Column("last_error", Text, nullable=False),
    Index("ix_outbox_state_next_attempt_at", "state", "next_attempt_at"),
    Index("ix_outbox_call_id_sequence", "call_id", "sequence"),
)
"""Webhook events on their way. No foreign key: an event outlives a record that was deleted."""

INSTANCES = Table(
    "instances",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False, index=True),
)
"""Processes that carry calls, with their last sign of life."""

ROUTES = Table(
    "routes",
    METADATA,
    Column("number", String(255), primary_key=True),
    Column("provider", String(32), primary_key=True),
    Column("document", LargeBinary, nullable=False),
    Column("updated_at", Float, nullable=False),
)
"""Routes added at run time: number pattern and carrier (empty = any), and the route as JSON."""
