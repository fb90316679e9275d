"""Time-outs, buffers, log and privacy."""

from __future__ import annotations

from typing import Annotated, Literal

from bridge.settings.base import Lower, Number, Topic, setting


class TimingSettings(Topic):
    """Time-outs and buffers."""

    drain_timeout_s: Number = setting(
        300,
        "How long a stopping bridge waits for its calls before it ends them; most calls are over in five "
        "minutes. Give the process manager a little more (`stop_grace_period`, `TimeoutStopSec`).",
        unit="s",
        ge=0,
        le=86_400,
    )
    upload_chunk_ms: int = setting(
        20,
        "Least caller audio in one message to the agent. More means fewer messages and as much more "
        "delay; the vendor's own client sends 250.",
        unit="ms",
        ge=20,
        le=250,
    )
    start_timeout_s: Number = setting(
        5,
        "How long a fresh media socket may take to begin its call. Carriers do so at once.",
        unit="s",
        gt=0,
        le=60,
    )
    carrier_silence_s: Number = setting(
        60,
        "A carrier that sent nothing at all for so long is gone. Carriers send audio all the time, even "
        "of a silent caller.",
        unit="s",
        gt=0,
        le=3600,
    )
    agent_connect_timeout_s: Number = setting(
        8,
        "Signed URL, connection and one retry together; a caller hears silence meanwhile.",
        unit="s",
        gt=0,
        le=60,
    )
    agent_ready_timeout_s: Number = setting(
        10,
        "How long the agent's side may take to begin the conversation once connected.",
        unit="s",
        gt=0,
        le=60,
    )
    agent_silence_s: Number = setting(
        30,
        "An agent's side that sent nothing at all for so long is gone; the vendor pings every few seconds.",
        unit="s",
        gt=0,
        le=3600,
    )
    carrier_request_timeout_s: Number = setting(
        5,
        "How long a carrier's REST interface may take to answer one request: transfer, tones, hang-up, placing a call.",
        unit="s",
        gt=0,
        le=30,
        restart=True,
    )
    call_token_ttl_s: Number = setting(
        60,
        "Life of the one-time token between the answer webhook and its media socket; carriers connect within seconds.",
        unit="s",
        gt=0,
        le=600,
        restart=True,
    )
    caller_buffer_ms: int = setting(
        5000,
        "Caller audio kept while the agent connects, so that the first words are heard; beyond it the "
        "oldest is dropped.",
        unit="ms",
        ge=0,
        le=60_000,
    )
    playout_queue_s: Number = setting(
        180,
        "Agent audio held for playing at most. Agents speak faster than real time, so minutes may be "
        "waiting; at 8 kHz a minute takes 480 kB.",
        unit="s",
        gt=0,
        le=3600,
    )


class LogSettings(Topic):
    """Log and privacy."""

    log_format: Annotated[Literal["auto", "json", "console"], Lower] = setting(
        "auto", "`json` for collectors, `console` for people; `auto` looks for a terminal.", restart=True
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = setting(
        "info", "Least level that is logged."
    )
    redact_numbers: bool = setting(
        False,
        "`on` masks phone numbers in the API, the list of live calls and webhooks, all but their last digits. The log "
        "never holds them.",
        restart=True,
    )
