"""Traces of calls for OpenTelemetry: the SDK's side of ``trace_spans``. Needs the extra ``otel``.

Spans are handed to the SDK when a call, a delivery or a question is over; a thread of the SDK's sends them, in batches,
by OTLP over HTTP. A collector that is away costs nothing but its spans. Off unless an endpoint is set.

The SDK reads its standard variables itself (``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES``,
``OTEL_BSP_...``, ``OTEL_EXPORTER_OTLP_CERTIFICATE`` and so on). Source: OpenTelemetry specification 1.40, "OTLP
exporter configuration" and "SDK environment variables".
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge import __version__
from bridge.calls.record import CallRecord
from bridge.errors import ConfigError
from bridge.server.logs import get_logger
from bridge.server.trace_spans import Attribute, SpanPlan, span_id, spans_of, trace_id, traceparent

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "telephony-bridge"
TRACES_PATH = "/v1/traces"
"""Of the endpoint, as the specification wants it appended."""
CLOSE_TIMEOUT_S = 5.0
"""For the last batch of a bridge that stops."""

MISSING_EXTRA = (
    "OTEL_EXPORTER_OTLP_ENDPOINT: is set, but OpenTelemetry is not installed. "
    "Run `pip install 'telephony-bridge[otel]'`, or unset it."
)


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """Where spans go, and in whose name."""

    endpoint: str
    """Base address of an OTLP receiver over HTTP, such as ``http://collector:4318``."""
    instance_id: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the receiver; may hold its key."""
    service_name: str = SERVICE_NAME


class Tracing:
    """The traces of one process. A ``RequestTraces``; the chronicle tells it of calls. Used from one thread."""

    def __init__(self, options: TracingOptions, exporter: SpanExporter | None = None) -> None:
        """``exporter`` is for tests. Raises ``ConfigError`` where the extra is missing."""
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise ConfigError(MISSING_EXTRA) from None
        from bridge.server.tracing_ids import GivenIds

        self._ids = GivenIds()
        resource = Resource.create(
            {
                "service.name": options.service_name,
                "service.version": __version__,
                "service.instance.id": options.instance_id,
            }
        )
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or _otlp(options)))
        self._tracer = self._provider.get_tracer("bridge", __version__)

    # --- calls ---

    def call_over(self, record: CallRecord) -> None:
        """Make the spans of a call that has ended. Never raises: a call does not fail for the sake of its trace."""
        try:
            call, children = spans_of(record)
            self._emit(record.id, call, None)
            parent = self._parent(record.id)
            for child in children:
                self._emit(record.id, child, parent)
        except Exception:
            get_logger().exception("bug", where="tracing", call_id=record.id)

    # --- requests for calls ---

    def headers(self, call_id: str, name: str, key: str = "") -> dict[str, str]:
        """See ``RequestTraces``."""
        return {"traceparent": traceparent(call_id, name, key, sampled=self._is_sampled(call_id))}

    def requested(
        self, call_id: str, name: str, key: str = "", *, began_s: float, ended_s: float, problem: str = ""
    ) -> None:
        """See ``RequestTraces``."""
        attributes: dict[str, Attribute] = {"bridge.call_id": call_id, "http.request.method": "POST"}
        plan = SpanPlan(name, span_id(call_id, name, key), began_s, max(began_s, ended_s), attributes, problem)
        self._emit(call_id, plan, self._parent(call_id), is_client=True)

    # --- the end ---

    async def aclose(self) -> None:
        """Send what is left, within ``CLOSE_TIMEOUT_S``.

        The SDK waits for its collector in a thread of its own, which may go on: the loop's pool would be waited for.
        """
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # it took too long, and the loop is gone
                loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, name="tracing-close", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await closed.wait()

    # --- inside ---

    def _is_sampled(self, call_id: str) -> bool:
        from opentelemetry.sdk.trace.sampling import Decision

        decided = self._provider.sampler.should_sample(None, trace_id(call_id), "call")
        return decided.decision is Decision.RECORD_AND_SAMPLE

    def _parent(self, call_id: str) -> Context:
        """The call's own span, which another process may have made, or is still to make."""
        from opentelemetry import trace

        flags = trace.TraceFlags.SAMPLED if self._is_sampled(call_id) else trace.TraceFlags.DEFAULT
        parent = trace.SpanContext(
            trace_id(call_id), span_id(call_id), is_remote=True, trace_flags=trace.TraceFlags(flags)
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(parent))

    def _emit(self, call_id: str, plan: SpanPlan, parent: Context | None, *, is_client: bool = False) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context

        self._ids.give(trace_id(call_id), plan.span_id)
        span = self._tracer.start_span(
            plan.name,
            parent if parent is not None else Context(),
            trace.SpanKind.CLIENT if is_client else trace.SpanKind.INTERNAL,
            plan.attributes,
            start_time=_ns(plan.start_s),
        )
        for at_s, event in plan.events:
            span.add_event(event, timestamp=_ns(at_s))
        if plan.error:
            span.set_status(trace.Status(trace.StatusCode.ERROR, plan.error))
        span.end(_ns(plan.end_s))


def _ns(unix_s: float) -> int:
    return int(unix_s * 1e9)


def _otlp(options: TracingOptions) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise ConfigError(MISSING_EXTRA) from None
    return OTLPSpanExporter(options.endpoint.rstrip("/") + TRACES_PATH, headers=dict(options.headers))
