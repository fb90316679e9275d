"""What the console of one process consists of, its counters, and its limits."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import Metric

from bridge.server.api.access import AccessControl
from bridge.server.api.errors import ApiError
from bridge.server.api.ports import AudioPort
from bridge.server.console.doctor import DoctorRuns
from bridge.server.console.feed import Feed
from bridge.server.console.gate import Gate
from bridge.server.console.pages import Pages
from bridge.server.console.picture import Pictures
from bridge.server.console.sessions import Sessions
from bridge.server.console.stream import MAX_STREAMS
from bridge.server.metric_catalogue import one
from bridge.server.service import Bridge
from bridge.server.session import Session

MAX_LISTENERS = 20
"""Calls that are listened to at once in one process: each takes the audio of a call out of the bridge once more."""

SIGNED_OUT = "console-signed-out:{nonce}"


class Desk:
    """The parts of the console. Made inside the event loop."""

    def __init__(self, bridge: Bridge, access: AccessControl) -> None:
        self._bridge = bridge
        shared, recorder = bridge.shared, bridge.parts.recorder

        async def was_signed_out(nonce: str) -> bool:
            return await shared.get(SIGNED_OUT.format(nonce=nonce)) is not None

        async def sign_out(nonce: str, ttl_s: float) -> None:
            await shared.put(SIGNED_OUT.format(nonce=nonce), b"1", ttl_s)

        self.sessions = Sessions(bridge.settings.api_keys, was_signed_out=was_signed_out, sign_out=sign_out)
        self.gate = Gate(bridge, access, self.sessions)
        library: AudioPort | None = recorder.audio if recorder is not None else None
        self.doctor = DoctorRuns()
        self.pages = Pages(bridge, Pictures(library), self.doctor)
        self.feed = Feed(bridge, self.pages.gauges)
        self._listeners = 0
        self._listened = 0
        bridge.metrics.sources.append(self._samples)
        bridge.on_apply.append(self._follow)

    @property
    def is_full(self) -> bool:
        """Whether no further console may watch."""
        return self.feed.watchers >= MAX_STREAMS

    @property
    def is_closing(self) -> bool:
        """Whether the process is about to stop: its calls are over, and streams must not hold it up."""
        bridge = self._bridge
        return bridge.admission.draining and not bridge.sessions and not bridge.parting

    def begin_listening(self, call_id: str) -> Session:
        """A call that may be listened to; ``listening_over`` must follow. Raises ``ApiError``."""
        session = self._bridge.sessions.get(call_id)
        if session is None or session.call.is_over or session.call.downlink is None:
            raise ApiError(409, "not_here", "The call is over, not let in yet, or carried by another process.")
        if self._listeners >= MAX_LISTENERS:
            raise ApiError(503, "too_many_listeners", f"{MAX_LISTENERS} calls are being listened to; end one first.")
        self._listeners += 1
        self._listened += 1
        return session

    def listening_over(self) -> None:
        """A listener has gone."""
        self._listeners -= 1

    def examine(self, *, conversation: bool, key_id: str) -> None:
        """Have the doctor look, unless it does already."""
        settings = self._bridge.settings
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bridge_host, settings.bridge_host)  # noqa: S104
        at = f"http://{f'[{host}]' if ':' in host else host}:{settings.bridge_port}"
        options = ("--at", at, *(() if conversation else ("--no-conversation",)))
        if self.doctor.begin(options):
            self._bridge.log.info("doctor_called", key_id=key_id)

    def _follow(self) -> None:
        self.sessions.follow(self._bridge.settings.api_keys)

    def _samples(self) -> Iterator[Metric]:
        yield one("bridge_console_streams", self.feed.watchers)
        yield one("bridge_console_listeners", self._listeners)
        yield one("bridge_console_listened_total", self._listened)
