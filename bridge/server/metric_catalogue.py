"""Every metric there is: its name, type, meaning and labels, in one list.

Whatever appears on ``/metrics`` is made from this list, the table of metrics is rendered from it
(``metrics_table``), and tests hold the dashboard and the alert rules against it. Names are a promise to those who
built dashboards: see the changelog's note on compatibility.

Labels come from closed lists (``LABELS`` says which), so that the number of series is bounded; numbers, agents, calls
and tenants are never labels.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from bridge.server.histograms import HopHistogram


class Kind(enum.Enum):
    """Prometheus' types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric. A counter's name ends in ``_total``; a histogram's series add ``_bucket``, ``_sum``, ``_count``."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names that Prometheus stores."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))
        return (self.name,)


def _counter(name: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(name, Kind.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(name, Kind.GAUGE, text, labels)


def _histogram(name: str, text: str, *labels: str) -> MetricSpec:
    return MetricSpec(name, Kind.HISTOGRAM, text, labels)


LABELS: dict[str, str] = {
    "provider": "the carrier's name: twilio, genesys, vonage, sip",
    "burst": "yes or no",
    "result": "success, client_error, server_error, upstream_error, indeterminate",
    "reason": "a reason of the README's table of ends",
    "entrance": "the door that was closed: a carrier's webhook or media socket, the API, metrics, status",
    "hop": "caller_to_agent, agent_to_caller, interruption_to_clear",
    "owner": "carrier, bridge_in, agent, tool, bridge_out",
    "tool": "a tool's name; `other` beyond 200 series",
    "outcome": "how it came out, from a closed list",
    "kind": "the way of a transfer",
    "action": "what the carrier was asked for",
    "direction": "in or out",
    "version": "the bridge's version",
    "store": "memory, redis, redis_down",
    "use": "public_url, sip",
    "transport": "udp, tcp, tls",
    "message": "a SIP method, a class of answers such as 2xx, or `other`",
    "why": "why a SIP request was refused, or an RTP packet not played; from closed lists",
}
"""Where each label's values come from."""

CALLS = (
    _gauge("bridge_info", "Always 1; the version is the label.", "version"),
    _gauge("bridge_ready", "1 while new calls are taken.", ),
    _gauge("bridge_max_calls", "Calls this process may carry."),
    _gauge("bridge_calls_active", "Calls in progress.", "provider"),
    _counter("bridge_calls_started_total", "Calls let in; burst ones are those above the workspace's limit.",
             "provider", "burst"),
    _counter("bridge_calls_ended_total", "Calls ended, refused ones included.", "provider", "result", "reason"),
    _histogram("bridge_call_duration_seconds", "Calls that were let in.", "provider"),
    _counter("bridge_outbound_calls_total", "Calls placed, or not.", "provider", "outcome"),
    _counter("bridge_transfers_total", "Callers handed on, or not.", "kind", "outcome"),
    _counter("bridge_tool_calls_total", "Client tools that agents called.", "tool", "outcome"),
    _counter("bridge_dtmf_total", "Keys pressed by callers (in) and for agents (out).", "direction"),
    _counter("bridge_digits_lost_total", "Keys of callers that could not be passed on."),
    _counter("bridge_refused_requests_total", "Requests refused for want of a genuine signature or key.", "entrance"),
)  # fmt: skip

AGENTS = (
    _histogram("bridge_agent_connect_seconds", "Let in -> agent ready: signed URL, connection, metadata."),
    _counter("bridge_agent_reconnects_total", "Connections to agents that broke within a call, and how it went on.",
             "outcome"),
    _histogram("bridge_agent_round_trip_seconds", "Round trip to the agent's side, as it estimates it."),
    _counter("bridge_agent_unknown_messages_total", "Agent messages of unknown types."),
    _counter("bridge_agent_malformed_messages_total", "Broken agent messages."),
    _counter("bridge_personalization_requests_total", "Questions to the personalization webhook.", "outcome"),
    _histogram("bridge_personalization_seconds", "How long the personalization webhook took."),
    _counter("bridge_control_requests_total", "Requests to carriers' control interfaces.",
             "provider", "action", "outcome"),
    _histogram("bridge_control_seconds", "Requests to carriers' control interfaces, until their answer.",
               "provider", "action"),
)  # fmt: skip

AUDIO = (
    _histogram("bridge_hop_latency_seconds", "The bridge's own share of the delay.", "hop"),
    _histogram("bridge_turn_response_seconds", "End of speech -> first audio of the answer out."),
    _histogram("bridge_turn_owner_seconds", "Responses by whose time it was.", "owner"),
    _histogram("bridge_agent_silence_seconds", "What agents let pass after each turn."),
    _counter("bridge_turn_interruptions_total", "Callers talking over the agent, in ended calls.", "provider"),
    _counter("bridge_caller_frames_total", "Audio messages from carriers."),
    _counter("bridge_agent_frames_total", "20 ms frames of agent audio sent to carriers."),
    _counter("bridge_caller_dropped_seconds_total", "Caller audio too old while agents connected."),
    _counter("bridge_upload_dropped_bytes_total", "Caller audio too old while agents' sockets stuck."),
    _counter("bridge_agent_dropped_seconds_total", "Agent audio that did not fit into the queue."),
    _counter("bridge_agent_flushed_seconds_total", "Agent audio thrown away by interruptions."),
    _counter("bridge_stale_audio_bytes_total", "Agent audio that came after its interruption."),
    _counter("bridge_playout_gaps_total", "Times a carrier ran dry in the middle of an answer."),
    _counter("bridge_interruptions_total", "Callers talking over the agent."),
    _counter("bridge_clears_total", "Interruptions that emptied a carrier's buffer."),
)

LIMITS = (
    _gauge("bridge_workspace_calls", "Slots of the workspace in use, over all processes."),
    _gauge("bridge_workspace_limit", "Slots of the workspace without bursting; not there without a limit."),
    _gauge("bridge_burst_calls", "Calls above the workspace's limit, over all processes."),
    _gauge("bridge_batch_calls", "Calls placed by batches, over all processes."),
    _gauge("bridge_queued_calls", "Callers who wait for a slot, over all processes."),
    _gauge("bridge_instances", "Processes that share the limits."),
    _gauge("bridge_burst_minutes_today", "Minutes of burst calls today."),
    _gauge("bridge_limits_store", "1 for where slots are counted right now.", "store"),
    _counter("bridge_redis_failures_total", "Commands that Redis did not answer in time; only with REDIS_URL."),
)

STORES = (
    _gauge("bridge_database_up", "1 while the last write of records worked."),
    _gauge("bridge_heartbeat_steady", "1 while this process's own lease in the database is renewed in time."),
    _gauge("bridge_records_pending", "Records that wait for the database."),
    _gauge("bridge_records_lag_seconds", "How long the oldest of them has waited."),
    _counter("bridge_records_lost_total", "Versions of records that were never written."),
    _counter("bridge_webhook_events_lost_total", "Webhook events that were never written."),
    _counter("bridge_instance_lost_calls_total", "Calls of dead processes that this one closed."),
    _counter("bridge_webhooks_delivered_total", "Webhook events that were taken; only with WEBHOOK_URL, as below."),
    _counter("bridge_webhook_failures_total", "Attempts that failed and are repeated."),
    _counter("bridge_webhooks_dead_total", "Webhook events that were given up."),
    _gauge("bridge_webhook_backlog", "Webhook events still to be delivered."),
    _gauge("bridge_webhook_backlog_age_seconds", "Age of the oldest of them."),
    _gauge("bridge_webhook_dead_letters", "Webhook events that wait for a replay."),
    _gauge("bridge_recordings_active", "Calls being recorded."),
    _counter("bridge_recordings_finished_total", "Recordings that ended."),
    _counter("bridge_recordings_incomplete_total", "Recordings that hold less than their call."),
    _gauge("bridge_recording_uploads", "Recordings that wait for the bucket; only with RECORDING_S3_URL."),
    _gauge("bridge_certificate_expires_timestamp_seconds", "When a certificate ends, in Unix time.", "use"),
)

SIP = (
    _counter("bridge_sip_messages_total", "SIP messages; answers by class.", "transport", "direction", "message"),
    _counter("bridge_sip_malformed_total", "What came to the SIP ports and is no SIP message."),
    _counter("bridge_sip_refused_total", "SIP requests refused before they became calls.", "why"),
    _gauge("bridge_sip_transactions", "SIP transactions in progress."),
    _gauge("bridge_sip_connections", "Open TCP and TLS connections.", "transport"),
    _counter("bridge_sip_bans_total", "Addresses of scanners that were shut out."),
    _gauge("bridge_sip_banned_addresses", "Addresses of scanners that are shut out now."),
    _gauge("bridge_rtp_ports", "RTP ports there are."),
    _gauge("bridge_rtp_ports_used", "RTP ports in use."),
    _counter("bridge_rtp_packets_total", "RTP packets.", "direction"),
    _counter("bridge_rtp_lost_packets_total", "RTP packets that never came."),
    _counter("bridge_rtp_late_packets_total", "RTP packets that came too late to be played."),
    _counter("bridge_rtp_concealed_seconds_total", "Audio made up where packets were missing."),
    _counter(
        "bridge_rtp_rejected_packets_total",
        "Packets that were not played: of strangers, of types that were not agreed, or no RTP at all.",
        "why",
    ),
    _histogram("bridge_rtp_jitter_seconds", "Interarrival jitter of each call (RFC 3550), at its end."),
    _histogram("bridge_rtp_loss_ratio", "Share of packets that each call lost."),
    _histogram("bridge_rtp_mos", "Estimated quality of each call (ITU-T G.107), 1 to 4.5."),
    _histogram("bridge_rtp_pacing_lateness_seconds", "How late packets leave after their time."),
)

CONSOLE = (
    _gauge("bridge_console_streams", "Consoles that watch this process."),
    _gauge("bridge_console_listeners", "Calls that are listened to."),
    _counter("bridge_console_listened_total", "Times that somebody listened to a call."),
)

TOPICS: tuple[tuple[str, tuple[MetricSpec, ...]], ...] = (
    ("Calls", CALLS),
    ("Agents and carriers", AGENTS),
    ("Audio", AUDIO),
    ("Limits", LIMITS),
    ("Records, webhooks, recordings", STORES),
    ("SIP trunks", SIP),
    ("Console", CONSOLE),
)
"""By topic, in the order of the table."""

CATALOGUE = {spec.name: spec for _, specs in TOPICS for spec in specs}
"""By name."""


def counter(name: str, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """The counter of this name with these samples: label values and value."""
    spec = _expect(name, Kind.COUNTER)
    family = CounterMetricFamily(name.removesuffix("_total"), spec.text, labels=spec.labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def gauge(name: str, samples: Iterable[tuple[Sequence[str], float]]) -> Metric:
    """The gauge of this name, likewise."""
    spec = _expect(name, Kind.GAUGE)
    family = GaugeMetricFamily(name, spec.text, labels=spec.labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def one(name: str, value: float) -> Metric:
    """The counter or gauge of this name, without labels."""
    make = counter if CATALOGUE[name].kind is Kind.COUNTER else gauge
    return make(name, [((), value)])


def histogram(name: str, samples: Iterable[tuple[Sequence[str], HopHistogram]]) -> Metric:
    """The histogram of this name, of what was counted."""
    spec = _expect(name, Kind.HISTOGRAM)
    family = HistogramMetricFamily(name, spec.text, labels=spec.labels)
    for values, counted in samples:
        family.add_metric(values, counted.cumulative(), counted.total_s)
    return family


def _expect(name: str, kind: Kind) -> MetricSpec:
    spec = CATALOGUE[name]
    if spec.kind is not kind:
        raise ValueError(f"{name} is a {spec.kind.value}")
    return spec
