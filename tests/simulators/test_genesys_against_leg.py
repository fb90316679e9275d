"""The strict client against the bridge's own leg, joined in virtual time with a network between them.

Neither imports the other; here each is the judge of the other. Every test ends with no breach.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import json
import time
from collections.abc import Callable

import pytest

from bridge import outcome
from bridge.events import Accept, Audio, Dtmf, Event, Flush, Hangup, Mark, Offered, Play, PlaybackReached, Reject
from bridge.leg import AuthContext, CloseSocket, LegOptions, UpgradeRequest
from bridge.media.format import ULAW_8K
from bridge.providers.genesys import SPEC, GenesysLeg
from bridge.simulators.genesys_caller import GenesysCall, GenesysCallOptions
from bridge.simulators.genesys_line import GenesysLine
from bridge.simulators.genesys_outbox import CloseSocket as ClientCloses
from bridge.simulators.genesys_person import AnyAction, ChangeLanguage, Hold, ReportError
from bridge.simulators.genesys_protocol import GenesysSession
from bridge.simulators.genesys_result import GenesysResult
from bridge.simulators.genesys_signature import PRODUCTION_ORDER, REFERENCE_ORDER
from bridge.simulators.speech import load_clip, tone
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey, Silence, Speak, WaitForClose

T = 3000.5
API_KEY, SECRET = "SGVsbG8", "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="

MAX_GAPS_MS = 300
"""Of ten seconds of speech from an agent that speaks in real time: it leaves no slack, so the leg runs dry until it has
gathered one. An agent that is faster than real time has no gaps at all."""


class Joined:
    """A caller, the leg, and the delay between them. ``on_event`` is the call on top of the leg."""

    def __init__(
        self,
        *actions: AnyAction,
        delay_s: float = 0.02,
        carrier: dict[str, str] | None = None,
        completed_after_barge_in: bool = True,
        **options: object,
    ) -> None:
        self.now = T
        self.delay_s = delay_s
        given = GenesysCallOptions(
            to="ws://127.0.0.1:8080/genesys/agent_1",
            completed_after_barge_in=completed_after_barge_in,
            **options,  # type: ignore[arg-type]
        )
        self.call = GenesysCall(given)
        headers = {name.lower(): value for name, value in self.call.headers(0).items()}
        request = UpgradeRequest("/genesys/agent_1", headers, {"agent_id": "agent_1"})
        leg_options = LegOptions(start_timeout_s=5.0, silence_timeout_s=30.0, carrier=carrier or {})
        self.leg = GenesysLeg(leg_options, request, T)
        self.result = GenesysResult()
        self.session = GenesysSession(self.call.setup, T)
        self.line = GenesysLine(self.session, actions, self.result)
        self.events: list[Event] = []
        self.caller_audio = bytearray()
        self.closed_by_server = False
        self._to_leg: list[tuple[float, int, str | bytes]] = []
        self._to_line: list[tuple[float, int, str | bytes]] = []
        self._plans: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # --- the call on top of the leg

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        """Do something ``seconds`` after the start."""
        heapq.heappush(self._plans, (T + seconds, next(self._order), what))

    def play(self, audio: bytes, *, from_s: float, chunk_ms: int, every_ms: float) -> None:
        """Play audio in chunks at a pace."""
        size = ULAW_8K.size_bytes(chunk_ms)
        for number, start in enumerate(range(0, len(audio), size)):
            chunk = audio[start : start + size]
            self.at(from_s + number * every_ms / 1000, functools.partial(self._play, chunk))

    def _play(self, chunk: bytes) -> None:
        self.leg.send(Play(chunk), self.now)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Offered):
            self.leg.send(Accept(ULAW_8K), self.now)
        elif isinstance(event, Audio):
            assert event.position >= 0
            self.caller_audio += event.payload

    # --- time

    def run(self, seconds: float) -> GenesysResult:
        """Let time pass, each message its delay."""
        end_s = T + seconds
        self._flow()
        while (at_s := self._next()) <= end_s and not self.line.finished:
            self.now = max(self.now, at_s)
            for queue, feed in ((self._to_leg, self._feed_leg), (self._to_line, self._feed_line)):
                while queue and queue[0][0] <= self.now:
                    feed(heapq.heappop(queue)[2])
            while self._plans and self._plans[0][0] <= self.now:
                heapq.heappop(self._plans)[2]()
            for event in self.leg.handle_timer(self.now):
                self.on_event(event)
            self.line.handle_timer(self.now)
            self._flow()
        self.now = max(self.now, end_s)
        return self.result

    def _next(self) -> float:
        queued = [queue[0][0] for queue in (self._to_leg, self._to_line, self._plans) if queue]
        return min(self.line.next_timer(), self.leg.next_timer(), *queued, float("inf"))

    def _feed_leg(self, message: str | bytes) -> None:
        for event in self.leg.receive(message, self.now):
            self.on_event(event)

    def _feed_line(self, message: str | bytes) -> None:
        self.line.receive(message, self.now)

    def _flow(self) -> None:
        arrives_s = self.now + self.delay_s
        for item in self.line.drain():
            if isinstance(item, ClientCloses):
                for event in self.leg.connection_lost(1000, self.now):
                    self.on_event(event)
            else:
                heapq.heappush(self._to_leg, (arrives_s, next(self._order), item))
        for out in self.leg.drain():
            if isinstance(out, CloseSocket):
                self.closed_by_server = True
            else:
                assert isinstance(out, str | bytes)
                heapq.heappush(self._to_line, (arrives_s, next(self._order), out))

    def texts(self) -> list[str]:
        return [breach.text for breach in self.session.breaches]

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def finish(self, seconds: float = 15.0) -> GenesysResult:
        """Run to the end, which must come without a breach."""
        result = self.run(self.now - T + seconds)
        assert self.texts() == []
        assert self.line.finished and not self.closed_by_server
        return result


HANG_UP_LATE = (Silence(ms=9_000), HangUp())


@pytest.mark.parametrize(("chunk_ms", "every_ms"), [(20, 20), (100, 100), (100, 50), (500, 250), (20, 19.5)])
@pytest.mark.parametrize("delay_s", [0.0, 0.15])
def test_all_speech_is_heard_without_a_gap_and_within_the_limits(
    chunk_ms: int, every_ms: float, delay_s: float
) -> None:
    joined = Joined(Silence(ms=14_000), HangUp(), delay_s=delay_s)
    speech = tone(440, ULAW_8K, 10_000)
    joined.play(speech, from_s=1.0, chunk_ms=chunk_ms, every_ms=every_ms)
    result = joined.finish(30)
    heard = bytes(result.heard)
    assert heard.replace(b"\xff", b"") == speech.replace(b"\xff", b"")
    assert sum(gap.length_ms for gap in result.gaps) <= MAX_GAPS_MS, result.gaps
    assert result.least_binary_tokens >= 3
    if chunk_ms >= 2 * every_ms:
        assert result.gaps == []


def test_a_second_minute_is_like_the_first() -> None:
    joined = Joined(Silence(ms=65_000), HangUp())
    joined.play(tone(440, ULAW_8K, 60_000), from_s=1.0, chunk_ms=20, every_ms=20)
    result = joined.finish(80)
    assert len(result.rtt_ms) >= 13 and max(result.rtt_ms) == pytest.approx(40)
    assert joined.leg.oddities.seq_gaps == joined.leg.oddities.malformed_messages == 0


def test_many_short_turns_stay_within_the_budget() -> None:
    joined = Joined(Silence(ms=31_000), HangUp())
    for turn in range(60):
        joined.play(tone(440, ULAW_8K, 300), from_s=1.0 + turn / 2, chunk_ms=20, every_ms=5)
    result = joined.finish(50)
    assert result.counts.audio_ms == 60 * 300
    assert result.least_binary_tokens >= 3


@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_barge_in_stops_the_bot_and_nothing_of_the_old_turn_follows(reports: bool, delay_s: float) -> None:
    joined = Joined(*HANG_UP_LATE, delay_s=delay_s, completed_after_barge_in=reports)
    joined.play(tone(440, ULAW_8K, 4000), from_s=1.0, chunk_ms=100, every_ms=10)

    def interrupt() -> None:
        joined.leg.send(Mark("before"), joined.now)
        joined.leg.send(Flush(), joined.now)

    joined.at(2.5, interrupt)
    joined.play(tone(800, ULAW_8K, 600), from_s=4.0, chunk_ms=100, every_ms=10)
    joined.at(4.2, lambda: joined.leg.send(Mark("after"), joined.now))
    result = joined.finish()
    marks = [event.mark for event in joined.events if isinstance(event, PlaybackReached)]
    [barge_in] = result.barge_ins
    assert (barge_in.late_bytes, marks) == (0, ["before", "after"])
    assert barge_in.at_ms == pytest.approx(2500 + 1000 * delay_s)
    assert result.heard_tones_hz() == [pytest.approx(440, abs=2), pytest.approx(800, abs=2)]


def test_the_goodbye_is_heard_out_before_the_hang_up() -> None:
    joined = Joined(WaitForClose())
    joined.play(tone(440, ULAW_8K, 3000), from_s=0.5, chunk_ms=100, every_ms=20)
    joined.at(1.2, lambda: joined.leg.send(Mark("goodbye"), joined.now))

    def on_event(event: Event, before: Callable[[Event], None] = joined.on_event) -> None:
        before(event)
        if isinstance(event, PlaybackReached):
            outputs = {"city": "Ulm", "conversation_id": "c1"}
            joined.leg.send(Hangup(outcome.AGENT_HANGUP, outputs=outputs), joined.now)

    joined.on_event = on_event  # type: ignore[method-assign]
    result = joined.finish()
    assert (result.ended_by, result.architect_path, result.unplayed_ms) == ("server", "success", 0.0)
    assert result.output_variables.items() >= {"city": "Ulm", "conversation_id": "c1"}.items()
    assert result.disconnect is not None and 3500 <= result.disconnect.at_ms <= 3800


def test_the_callers_audio_arrives_and_its_position_is_kept() -> None:
    joined = Joined(
        Speak(clip="caller_thanks"),
        PressKey(digit="5"),
        LoseAudio(ms=340),
        Hold(ms=500),
        ChangeLanguage(language="de-DE"),
        ReportError(),
        Silence(ms=400),
        HangUp(),
    )
    joined.finish()
    clip = load_clip("caller_thanks")
    assert bytes(joined.caller_audio[: len(clip)]) == clip
    assert joined.leg.position == joined.session.outbox.position
    assert joined.of(Dtmf) == [Dtmf("5")]


@pytest.mark.parametrize("media", ["external", "both", "stereo", "inverted", "l16-first"])
def test_offers_that_can_be_served(media: str) -> None:
    joined = Joined(Speak(clip="caller_thanks"), HangUp(), media=media)
    joined.play(tone(440, ULAW_8K, 500), from_s=0.5, chunk_ms=100, every_ms=100)
    result = joined.finish()
    assert result.media and result.first_audio_ms is not None
    clip = load_clip("caller_thanks")
    assert bytes(joined.caller_audio[: len(clip)]) == clip


@pytest.mark.parametrize("media", ["internal", "l16", "none"])
def test_offers_that_cannot_be_served_end_without_a_breach(media: str) -> None:
    joined = Joined(*HANG_UP_LATE, media=media)
    result = joined.finish()
    assert result.ended_by in ("server", "caller")


def test_a_probe_touches_nothing() -> None:
    joined = Joined(probe=True)
    result = joined.finish()
    assert (result.ended_by, joined.of(Offered)) == ("probe", [])
    assert result.opened_ms == pytest.approx(40)


@pytest.mark.parametrize(
    ("when_full", "path", "outputs"),
    [("retry", "failure", {}), ("overflow", "success", {"overflow": "true"})],
)
def test_a_full_bridge_says_so(when_full: str, path: str, outputs: dict[str, str]) -> None:
    joined = Joined(*HANG_UP_LATE, carrier={"genesys_when_full": when_full})

    def on_event(event: Event) -> None:
        joined.events.append(event)
        if isinstance(event, Offered):
            joined.leg.send(Reject(outcome.CAPACITY), joined.now)

    joined.on_event = on_event  # type: ignore[method-assign]
    result = joined.finish()
    assert (result.ended_by, result.architect_path) == ("server", path)
    assert result.output_variables.items() >= outputs.items()


@pytest.mark.parametrize("order", [PRODUCTION_ORDER, REFERENCE_ORDER])
@pytest.mark.parametrize(
    ("public_url", "path"),
    [
        ("", "/genesys/agent_1"),
        ("https://bridge.example.com", "/genesys/agent_1"),
        ("https://bridge.example.com/phone", "/phone/genesys/agent_1"),
        ("https://bridge.example.com/phone", "/genesys/agent_1"),
    ],
)
def test_the_bridge_takes_the_signature(order: tuple[str, ...], public_url: str, path: str) -> None:
    options = GenesysCallOptions(
        to="ws://127.0.0.1:8080/genesys/agent_1",
        api_key=API_KEY,
        client_secret=SECRET,
        public_url=public_url,
        signature_order=order,
    )
    headers = {name.lower(): value for name, value in GenesysCall(options).headers(0).items()}
    headers["host"] = "127.0.0.1:8080" if not public_url else "bridge.example.com"
    context = AuthContext(
        public_url or "http://127.0.0.1:8080",
        {"genesys_api_key": (API_KEY,), "genesys_client_secret": (SECRET,)},
        time.time(),
    )
    assert SPEC.authenticate_upgrade(UpgradeRequest(path, headers), context) == ""
    assert SPEC.authenticate_upgrade(UpgradeRequest(path, headers), context) != ""  # a second time
    forged = {**headers, "audiohook-session-id": json.dumps("x")}
    assert SPEC.authenticate_upgrade(UpgradeRequest(path, forged), context) != ""
