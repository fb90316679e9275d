"""What a bridge is put together from: settings turned into the options of each part, and the parts' lives.

``local_parts`` is what works without anything else running: memory, no records. ``open_parts`` is the whole: Redis
where it is set, the database, recordings, webhooks; it starts them in the order in which they need each other and
stops them in the reverse one.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import httpx

from bridge.auth.sealed_tokens import Sealer
from bridge.calls import webhooks
from bridge.calls.http_tools import HttpTool
from bridge.calls.machine import MachineAction
from bridge.calls.outbound import RequestRules
from bridge.calls.record import CallRecord, OutboxEvent
from bridge.calls.rules import MAX_QUEUE_S
from bridge.calls.webhook_facts import TransferFacts
from bridge.calls.webhook_vendor import InitiationFailure
from bridge.config import Settings
from bridge.server.admission import Admission, AdmissionOptions
from bridge.server.admission_redis import RedisSlotOptions, RedisSlots
from bridge.server.call_tokens import CallTokens, MemoryTokens, RedisTokens
from bridge.server.carrier_control import CarrierControl
from bridge.server.chronicle import EventMaker, RecordSink
from bridge.server.controls import open_controls
from bridge.server.convai_client import AgentClient
from bridge.server.digits_out import DigitsOptions, DigitsOut
from bridge.server.egress import EgressOptions, guarded_client
from bridge.server.flights import FlightFileOptions, Flights, FlightsKept
from bridge.server.hold_audio import load_apologies, load_hold_audio
from bridge.server.http_tools import HttpTools, HttpToolsOptions
from bridge.server.live_calls import LiveCalls
from bridge.server.outbound_parts import OutboundOptions
from bridge.server.personalizer import Personalizer, PersonalizerOptions
from bridge.server.recording.manager import Recorder
from bridge.server.recording.options import RecordingOptions, S3Options
from bridge.server.redis_client import RedisLink, RedisOptions
from bridge.server.results import ResultsClient
from bridge.server.shared_state import SharedState
from bridge.server.sip.message_store import MessagesKept, MessageStore, MessageStoreOptions
from bridge.server.speech import Speaker, SpeechOptions
from bridge.server.storage import Storage, open_storage, outbox_options
from bridge.server.tracing import Tracing, TracingOptions
from bridge.sip import leg as sip
from bridge.sip.trunks import Trunk

TOKENS_PER_CALL = 4
"""Room in the token book per call that may run: a minute of answered calls that never came, many times over."""


RESERVED_S = 15.0
"""How long a slot waits for the media socket of a call whose webhook was answered. Carriers connect within a second or
two; one that comes later, while its token lives, takes a slot anew. Shorter than a lease, so that a call that never
comes holds its slot no longer than one whose process has died."""


MEDIA_WAIT_S = 20.0
"""How long a placed call that was answered waits for its media socket; carriers open it within a second or two."""

LAST_DIGITS_S = 5.0
"""How long a stopping bridge waits until what callers have typed is delivered: it is in no other place."""


class NoRecords:
    """Where records go when nothing is to be kept: a bridge on the test bench."""

    def put(self, record: CallRecord, events: Sequence[OutboxEvent]) -> None:
        """See ``RecordSink``."""


@dataclass(slots=True)
class Parts:
    """The parts of one bridge. Those that are None are not wanted."""

    instance_id: str
    agents: AgentClient
    results: ResultsClient
    admission: Admission
    tokens: CallTokens
    shared: SharedState
    live: LiveCalls
    personalizer: Personalizer
    records: RecordSink = field(default_factory=NoRecords)
    recorder: Recorder | None = None
    storage: Storage | None = None
    redis: RedisLink | None = None
    egress: httpx.AsyncClient | None = None
    controls: dict[str, CarrierControl] = field(default_factory=dict)
    """Clients of the carriers' control interfaces, by the carriers' names; those with credentials."""
    speaker: Speaker | None = None
    http_tools: HttpTools | None = None
    digits: DigitsOut | None = None
    flights: Flights | None = None
    sip_messages: MessageStore | None = None
    traces: Tracing | None = None

    def apply(self, settings: Settings, tools: Mapping[str, HttpTool]) -> None:
        """Take over what may change while calls are on: keys, addresses and headers of outgoing requests."""
        self.agents = replace(self.agents, settings=settings)
        self.results = replace(self.results, settings=settings)
        self.personalizer.options = personalizer_options(settings)
        if self.flights is not None:
            self.flights.options = flight_options(settings)
        if self.sip_messages is not None:
            self.sip_messages.configure(message_options(settings))
        if self.speaker is not None:
            fresh, kept = speech_options(settings, audio=False), self.speaker.options
            self.speaker.options = replace(fresh, apologies=kept.apologies, voicemail=kept.voicemail)
        if self.digits is not None:
            self.digits.options = digits_options(settings)
        if self.http_tools is not None:
            self.http_tools.options = http_tools_options(settings, tools)
        if isinstance(self.tokens, RedisTokens):
            self.tokens.sealer = token_sealer(settings)
        if self.storage is not None and self.storage.worker is not None and settings.webhook_url is not None:
            self.storage.worker.options = outbox_options(settings)


# --- settings to options ---------------------------------------------------------------------------------


def instance_name(settings: Settings) -> str:
    """This process's name: new with every start, because what a dead one left belongs to nobody."""
    return f"{settings.instance_id or socket.gethostname()[:60]}-{secrets.token_hex(4)}"


def event_options(settings: Settings) -> webhooks.WebhookOptions:
    """Which events are made; none without an address to send them to."""
    if settings.webhook_url is None:
        return webhooks.NO_WEBHOOKS
    return webhooks.WebhookOptions(frozenset(settings.webhook_events), settings.redact_numbers)


class Events:
    """Makes the events that the operator wants. A reload replaces ``options``."""

    def __init__(self, options: webhooks.WebhookOptions) -> None:
        self.options = options

    def on_started(self, record: CallRecord, now: float) -> tuple[OutboxEvent, ...]:
        """See ``EventMaker``."""
        return webhooks.on_started(record, now, self.options)

    def on_answered(self, record: CallRecord, now: float) -> tuple[OutboxEvent, ...]:
        """See ``EventMaker``."""
        return webhooks.on_answered(record, now, self.options)

    def on_transferred(self, record: CallRecord, now: float, target: str) -> tuple[OutboxEvent, ...]:
        """See ``EventMaker``."""
        return webhooks.on_transferred(record, now, self.options, TransferFacts(target=target, succeeded=True))

    def on_ended(self, record: CallRecord, now: float) -> tuple[OutboxEvent, ...]:
        """See ``EventMaker``."""
        recording = record.recording
        return webhooks.on_ended(record, now, self.options, audio=recording is not None and recording.complete)

    def on_initiation_failure(
        self, record: CallRecord, now: float, failure: InitiationFailure
    ) -> tuple[OutboxEvent, ...]:
        """See ``FailureEvents``."""
        return webhooks.on_initiation_failure(record, now, self.options, failure)

    def on_recorded(self, record: CallRecord, now: float) -> tuple[OutboxEvent, ...]:
        """See ``EventMaker``."""
        return webhooks.on_recorded(record, now, self.options)


def admission_options(settings: Settings) -> AdmissionOptions:
    """See ``AdmissionOptions``."""
    return AdmissionOptions(
        settings.zone,
        settings.limits_when_redis_down == "fail_open",
        hold_s=min(settings.call_token_ttl_s, RESERVED_S),
    )


def token_sealer(settings: Settings) -> Sealer:
    """What seals the tokens of calls: the secret of the carrier that is given them, which every process has."""
    secrets_of = settings.carrier_secrets
    names = ("twilio_auth_token", "twilio_shared_keys", "vonage_signature_secret")
    return Sealer(tuple(secret for name in names for secret in secrets_of[name]))


def personalizer_options(settings: Settings) -> PersonalizerOptions:
    """See ``PersonalizerOptions``."""
    return PersonalizerOptions(
        url=settings.personalization_url or "",
        headers=settings.personalization_header_map,
        timeout_s=settings.personalization_timeout_s,
        remember_s=settings.call_token_ttl_s + MAX_QUEUE_S + settings.personalization_timeout_s,
    )


def recording_options(settings: Settings) -> RecordingOptions:
    """See ``RecordingOptions``."""
    bucket = None
    if settings.recording_bucket is not None:
        name, prefix = settings.recording_bucket
        key, secret = settings.recording_s3_access_key, settings.recording_s3_secret_key
        bucket = S3Options(
            name,
            prefix,
            endpoint_url=settings.recording_s3_endpoint or "",
            region=settings.recording_s3_region or "",
            access_key_id=key.get_secret_value() if key is not None else "",
            secret_access_key=secret.get_secret_value() if secret is not None else "",
            path_style=settings.recording_s3_endpoint is not None,
        )
    return RecordingOptions(settings.recordings_dir, settings.recording_format, bucket)


def speech_options(settings: Settings, *, audio: bool = True) -> SpeechOptions:
    """See ``SpeechOptions``; ``audio``: read the files. Raises ``ConfigError`` for those that cannot be played."""
    key = settings.elevenlabs_api_key
    apology, voicemail = (settings.apology_audio, settings.voicemail_audio) if audio else (None, None)
    return SpeechOptions(
        base_url=settings.elevenlabs_base_url,
        api_key=key.get_secret_value() if key is not None else "",
        voice_id=settings.elevenlabs_voice_id or "",
        apologies=load_apologies(apology) if apology is not None else {},
        voicemail=load_hold_audio(voicemail, "VOICEMAIL_AUDIO") if voicemail is not None else None,
    )


def http_tools_options(settings: Settings, tools: Mapping[str, HttpTool] | None) -> HttpToolsOptions:
    """See ``HttpToolsOptions``."""
    return HttpToolsOptions(tools or {}, settings.webhook_signing_secret)


def outbound_options(settings: Settings, trunks: Sequence[Trunk] = ()) -> OutboundOptions:
    """See ``OutboundOptions``."""
    outgoing = [trunk.outbound for trunk in trunks if trunk.outbound is not None] if settings.has_sip else []
    rules = RequestRules(
        providers=frozenset({"twilio", "vonage", sip.NAME} if outgoing else {"twilio", "vonage"}),
        owned_numbers={
            "twilio": settings.twilio_from_numbers,
            "vonage": settings.vonage_from_numbers,
            sip.NAME: tuple(dict.fromkeys(each.caller_id for each in outgoing if each.caller_id)),
        },
        ring_s=settings.outbound_ring_s,
        detection=settings.machine_detection,
        machine_action=MachineAction(settings.voicemail_action),
    )
    return OutboundOptions(rules, media_wait_s=min(MEDIA_WAIT_S, settings.call_token_ttl_s))


def flight_options(settings: Settings) -> FlightFileOptions:
    """See ``FlightFileOptions``."""
    return FlightFileOptions(
        settings.data_dir / "flights", FlightsKept(settings.flight_recorder), settings.retention_flights_days
    )


def tracing_options(settings: Settings, instance_id: str) -> TracingOptions:
    """See ``TracingOptions``; only where there is an endpoint."""
    assert settings.otel_exporter_otlp_endpoint is not None
    return TracingOptions(
        settings.otel_exporter_otlp_endpoint, instance_id, settings.otel_header_map, settings.otel_service_name
    )


def message_options(settings: Settings) -> MessageStoreOptions:
    """See ``MessageStoreOptions``."""
    return MessageStoreOptions(
        settings.data_dir / "sip", MessagesKept(settings.sip_message_log), settings.retention_sip_messages_days
    )


def digits_options(settings: Settings) -> DigitsOptions:
    """See ``DigitsOptions``."""
    return DigitsOptions(
        url=settings.dtmf_webhook_url or "",
        secret=settings.webhook_signing_secret,
        headers=settings.dtmf_webhook_header_map,
    )


# --- the parts -------------------------------------------------------------------------------------------


def local_parts(settings: Settings, http: httpx.AsyncClient, tls: ssl.SSLContext) -> Parts:
    """Parts that need nothing else running, and keep no records. Made inside the event loop, nothing is started."""
    shared = SharedState()
    instance_id = instance_name(settings)
    return Parts(
        instance_id,
        AgentClient(settings, http, tls),
        ResultsClient(settings, http),
        Admission(settings.limits, admission_options(settings)),
        _memory_tokens(settings),
        shared,
        LiveCalls(instance_id),
        Personalizer(personalizer_options(settings), http, shared),
    )


def _memory_tokens(settings: Settings) -> MemoryTokens:
    return MemoryTokens(settings.call_token_ttl_s, TOKENS_PER_CALL * settings.bridge_max_calls)


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings,
    http: httpx.AsyncClient,
    tls: ssl.SSLContext,
    events: EventMaker,
    tools: Mapping[str, HttpTool] | None = None,
) -> AsyncIterator[Parts]:
    """All parts that the settings ask for, running. Raises ``ConfigError`` for what cannot work."""
    parts = local_parts(settings, http, tls)
    async with contextlib.AsyncExitStack() as stack:
        if settings.otel_exporter_otlp_endpoint is not None:
            parts.traces = Tracing(tracing_options(settings, parts.instance_id))
            stack.push_async_callback(parts.traces.aclose)
        egress = guarded_client(EgressOptions(allow=settings.egress_allow))
        stack.push_async_callback(egress.aclose)
        parts.egress = egress
        if settings.redis_url is not None:
            await _share(parts, settings, stack)
        parts.personalizer = Personalizer(personalizer_options(settings), egress, parts.shared)
        parts.personalizer.traces = parts.traces
        stack.push_async_callback(parts.personalizer.aclose)
        parts.speaker = Speaker(speech_options(settings), http)
        parts.http_tools = HttpTools(egress, http_tools_options(settings, tools))
        parts.digits = DigitsOut(digits_options(settings), egress)
        stack.push_async_callback(parts.digits.stop, LAST_DIGITS_S)
        if settings.flight_recorder != "off":
            parts.flights = Flights(flight_options(settings))
            await parts.flights.prune(at_once=True)
            stack.push_async_callback(parts.flights.aclose)
        if settings.has_sip:
            parts.sip_messages = MessageStore(message_options(settings))
            await parts.sip_messages.prune()
            stack.push_async_callback(parts.sip_messages.aclose)
        parts.controls = open_controls(settings)
        for control in parts.controls.values():
            stack.push_async_callback(control.aclose)
        for part in (parts.admission, parts.shared, parts.live):
            await part.start()
            stack.push_async_callback(part.close)
        recorder = Recorder(recording_options(settings))
        await recorder.open()
        stack.push_async_callback(recorder.close)
        parts.recorder = recorder
        parts.storage = await stack.enter_async_context(open_storage(settings, parts, recorder, egress, events))
        parts.records = parts.storage.ledger
        if parts.storage.worker is not None:
            parts.storage.worker.traces = parts.traces
        yield parts


async def _share(parts: Parts, settings: Settings, stack: contextlib.AsyncExitStack) -> None:
    """Put Redis in the place of memory."""
    assert settings.redis_url is not None
    link = RedisLink(RedisOptions(settings.redis_url.get_secret_value(), settings.redis_prefix))
    await link.start()
    stack.push_async_callback(link.close)
    parts.redis = link
    slots = RedisSlots(link, RedisSlotOptions(parts.instance_id))
    parts.admission = Admission(settings.limits, admission_options(settings), slots)
    link.on_up(parts.admission.store_is_back)
    tokens = RedisTokens(link, settings.call_token_ttl_s, _memory_tokens(settings), token_sealer(settings))
    stack.push_async_callback(tokens.close)
    parts.tokens = tokens
    parts.shared = SharedState(link)
    parts.live = LiveCalls(parts.instance_id, link)
