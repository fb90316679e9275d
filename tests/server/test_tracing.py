"""Traces as OpenTelemetry's SDK sends them, and the header by which others join them."""

from __future__ import annotations

import asyncio
import http.server
import ssl
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from bridge.calls.personalization import PersonalizationRequest
from bridge.errors import ConfigError
from bridge.server.chronicle import Chronicle
from bridge.server.egress import EgressOptions, guarded_client
from bridge.server.egress_addresses import parse_networks
from bridge.server.live_calls import LiveCalls
from bridge.server.outbox import OutboxOptions, OutboxWorker
from bridge.server.personalizer import Personalizer, PersonalizerOptions
from bridge.server.shared_state import SharedState
from bridge.server.store.outbox import Claimed, Outcome
from bridge.server.trace_spans import span_id, trace_id, traceparent
from bridge.server.tracing import Tracing, TracingOptions
from tests.kit.offline import Records
from tests.kit.records import CREATED_AT, ended_record, outbox_event
from tests.kit.server import until
from tests.kit.sessions import Table
from tests.kit.webhooks import receiver
from tests.server.test_chronicle import Maker

memory = pytest.importorskip(
    "opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="the extra `otel` is not installed"
)
OPTIONS = TracingOptions("http://127.0.0.1:9", "instance_1")
REQUEST = PersonalizationRequest(caller_id="+15550100", agent_id="agent_1", called_number="+15550199", call_sid="CA1")


async def spans(tracing: Tracing, exporter: Any) -> list[Any]:
    await tracing.aclose()
    return list(exporter.get_finished_spans())


async def test_a_call_is_a_trace() -> None:
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(OPTIONS, exporter)
    record = ended_record()
    record.journal.step("connecting", "", 0.5)
    tracing.call_over(record)
    call, child = await spans(tracing, exporter)
    assert (call.name, child.name) == ("call", "agent connect")
    assert (call.context.trace_id, call.context.span_id) == (trace_id("call1"), span_id("call1"))
    assert call.parent is None
    assert (child.parent.span_id, child.context.trace_id) == (span_id("call1"), trace_id("call1"))
    assert call.start_time == int(CREATED_AT * 1e9)
    assert call.end_time - call.start_time == 30_000_000_000
    resource = call.resource.attributes
    assert (resource["service.name"], resource["service.instance.id"]) == ("telephony-bridge", "instance_1")


async def test_what_went_wrong_is_marked() -> None:
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(OPTIONS, exporter)
    tracing.requested("call1", "personalization", began_s=1.0, ended_s=2.0, problem="timeout")
    (span,) = await spans(tracing, exporter)
    assert (span.status.status_code.name, span.status.description) == ("ERROR", "timeout")
    assert span.kind.name == "CLIENT"
    assert span.parent.span_id == span_id("call1")


async def test_what_is_not_sampled_is_not_made_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(OPTIONS, exporter)
    tracing.call_over(ended_record())
    tracing.requested("call1", "personalization", began_s=1.0, ended_s=2.0)
    assert tracing.headers("call1", "personalization")["traceparent"].endswith("-00")
    assert await spans(tracing, exporter) == []


async def test_the_chronicle_tells_of_calls_that_are_over() -> None:
    exporter = memory.InMemorySpanExporter()
    tracing = Tracing(OPTIONS, exporter)
    table = await Table().activate()
    chronicle = Chronicle(Records(), LiveCalls("instance_1"), Maker(), lambda: 1_700_000_000.0)
    chronicle.ended(table.session)  # off: nothing happens
    chronicle.traces = tracing
    chronicle.began(table.session)
    chronicle.ended(table.session)
    chronicle.refused(table.session)
    table.hang_up()
    names = [span.name for span in await spans(tracing, exporter)]
    assert names.count("call") == 2
    assert {"admission", "agent connect", "conversation"} <= set(names)


async def test_personalization_is_asked_within_the_calls_trace() -> None:
    exporter, asked = memory.InMemorySpanExporter(), []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("traceparent"))
        return httpx.Response(500, stream=httpx.ByteStream(b""))

    tracing = Tracing(OPTIONS, exporter)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        personalizer = Personalizer(PersonalizerOptions("https://crm.example/hook"), client, SharedState())
        personalizer.start("CA0", REQUEST, "call0")  # off
        await personalizer.result("CA0")
        personalizer.traces = tracing
        personalizer.start("CA1", REQUEST, "call1")
        personalizer.start("CA2", REQUEST)  # of no call that is known
        for call_sid in ("CA1", "CA2"):
            await personalizer.result(call_sid)
        await asyncio.sleep(0)
        await personalizer.aclose()
    assert asked == [None, traceparent("call1", "personalization", ""), None]
    (span,) = await spans(tracing, exporter)
    assert (span.context.span_id, span.status.description) == (span_id("call1", "personalization", ""), "status")


class Store:
    """An outbox with one event that is due once."""

    def __init__(self) -> None:
        self.due = [Claimed(event=outbox_event(), attempt=2, age_s=1.0)]
        self.settled: list[Outcome] = []

    async def claim(self, owner: str, limit: int, lease_s: float) -> list[Claimed]:
        due, self.due = self.due, []
        return due

    async def renew(self, owner: str, ids: Sequence[str], lease_s: float) -> None: ...

    async def release(self, owner: str, ids: Sequence[str]) -> None: ...

    async def settle(self, owner: str, outcomes: Sequence[Outcome]) -> None:
        self.settled += outcomes


def no_audio(_location: str) -> Any:
    raise AssertionError("no event has audio here")


async def test_a_delivery_is_a_span_and_its_receiver_can_join() -> None:
    exporter, store = memory.InMemorySpanExporter(), Store()
    tracing = Tracing(OPTIONS, exporter)
    async with receiver() as hook:
        egress = EgressOptions(allow=parse_networks(["127.0.0.0/8"]))
        async with guarded_client(egress, ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
            options = OutboxOptions(hook.url, "", stop_grace_s=1.0)
            worker = OutboxWorker(store, client, options, owner="w1", open_audio=no_audio)
            worker.traces = tracing
            running = asyncio.create_task(worker.run())
            await until(lambda: bool(store.settled))
            worker.stop()
            await running
        (request,) = hook.received
    key = ("webhook call.ended", "evt_call1_call.ended 2")
    assert request.headers["traceparent"] == traceparent("call1", *key)
    (span,) = await spans(tracing, exporter)
    assert (span.name, span.context.span_id) == ("webhook call.ended", span_id("call1", *key))


def test_without_the_extra_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"pip install 'telephony-bridge\[otel\]'"):
        Tracing(OPTIONS)


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """A receiver of OTLP over HTTP."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


async def test_spans_reach_a_collector_by_otlp() -> None:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with collector() as (endpoint, got):
        tracing = Tracing(TracingOptions(f"{endpoint}/", "instance_1", {"api-key": "k"}))
        tracing.call_over(ended_record())
        await tracing.aclose()
    ((path, headers, body),) = got
    assert (path, headers["api-key"]) == ("/v1/traces", "k")
    message = ExportTraceServiceRequest.FromString(body)
    (span,) = message.resource_spans[0].scope_spans[0].spans
    assert (span.name, int.from_bytes(span.trace_id, "big")) == ("call", trace_id("call1"))


async def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.server.tracing.CLOSE_TIMEOUT_S", 0.2)
    tracing = Tracing(OPTIONS)  # port 9: nobody is there
    began_s = time.monotonic()
    tracing.call_over(ended_record())
    await tracing.aclose()
    assert time.monotonic() - began_s < 2
