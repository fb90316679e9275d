"""What every carrier's leg must keep, whatever its protocol: the contract of ``bridge.leg``.

Parametrised over the registry. A carrier brings its few words in ``tests/kit/legs.py``.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import outcome
from bridge.calls.carriers import ALL_CARRIERS
from bridge.errors import LocalError
from bridge.events import Accept, Audio, Command, Ended, Event, Flush, Hangup, Mark, Offered, Play, Reject
from bridge.leg import CarrierSpec, CloseSocket, Leg, Outgoing
from bridge.media.format import FRAME_MS, MediaFormat
from bridge.providers import find_carrier
from tests.kit.clock import FakeClock
from tests.kit.legs import DIALECTS, OPTIONS, Dialect

NOW = 100.0
OTHER_FORMAT = MediaFormat.parse("pcm_44100")
"""What no carrier offers."""
GATHER_S = 1.0
"""Longer than any leg holds audio back to send it in larger messages."""

pytestmark = pytest.mark.parametrize("name", ALL_CARRIERS)


def new(name: str) -> tuple[Leg, CarrierSpec, Dialect]:
    return ALL_CARRIERS[name].new_leg(OPTIONS, DIALECTS[name].request, NOW), ALL_CARRIERS[name], DIALECTS[name]


def offered(name: str) -> tuple[Leg, Offered]:
    leg, _, dialect = new(name)
    *before, last = dialect.opening
    for message in before:
        assert leg.receive(message, NOW) == []
    (offer,) = leg.receive(last, NOW)
    assert isinstance(offer, Offered)
    return leg, offer


def live(name: str) -> tuple[Leg, MediaFormat]:
    leg, offer = offered(name)
    leg.send(Accept(offer.media_choices[0]), NOW)
    leg.drain()
    return leg, offer.media_choices[0]


def lingers(leg: Leg) -> bool:
    """Whether the leg closes its session with words before the socket: then it outlives its call."""
    return leg.lingering()


def part(name: str, leg: Leg) -> list[Outgoing]:
    """What goes out from the end on until the leg lets go; the peer says nothing that counts any more."""
    out = leg.drain()
    if lingers(leg):
        for command in (Accept(OTHER_FORMAT), Play(b"x"), Mark("m"), Flush(), Hangup(outcome.BUG), Reject(outcome.BUG)):
            leg.send(command, NOW)
        for message in (DIALECTS[name].audio(b"\0" * 160), *DIALECTS[name].broken):
            assert leg.receive(message, NOW) == []
        assert leg.drain() == []
    while lingers(leg):
        assert leg.handle_timer(leg.next_timer()) == []
        out += leg.drain()
    return out


def assert_over(name: str, leg: Leg) -> None:
    """Whatever still comes from either side is ignored, and nothing goes out."""
    dialect = DIALECTS[name]
    for message in (*dialect.opening, dialect.audio(b"\0" * 160), *dialect.ends, *dialect.broken):
        assert leg.receive(message, NOW) == []
    for command in (Accept(OTHER_FORMAT), Play(b"x"), Mark("m"), Flush(), Hangup(outcome.BUG), Reject(outcome.BUG)):
        leg.send(command, NOW)
    assert leg.connection_lost(1006, NOW) == []
    assert leg.next_timer() == math.inf
    assert leg.handle_timer(NOW + 1e9) == []
    assert leg.drain() == []


def test_the_card_makes_sense(name: str) -> None:
    _, spec, _ = new(name)
    assert spec.name == name
    if spec.media_paths:
        found = find_carrier(DIALECTS[name].request.raw_path)
        assert found is not None
        assert found[0] is spec
    assert all(path.startswith("/") for path in spec.media_paths)
    assert spec.chunk_ms % FRAME_MS == 0
    assert 0 < spec.chunk_ms <= spec.lead_ms, "a chunk that exceeds the lead would never go out"
    assert 0 < spec.max_message_bytes <= 1 << 20


def test_a_call_is_offered_once_with_its_id_and_formats(name: str) -> None:
    leg, offer = offered(name)
    assert offer.info.provider == name
    assert offer.info.call_sid
    assert offer.media_choices
    assert len(set(offer.media_choices)) == len(offer.media_choices)
    _, spec, _ = new(name)
    assert bool(offer.info.token) or not spec.needs_token


def test_caller_audio_arrives_as_it_was_sent(name: str) -> None:
    leg, media = live(name)
    payload = media.silence(media.size_bytes(FRAME_MS))
    (audio,) = leg.receive(DIALECTS[name].audio(payload), NOW)
    assert isinstance(audio, Audio)
    assert audio.payload == payload


def test_what_is_played_goes_out_in_order(name: str) -> None:
    leg, media = live(name)
    frame = media.silence(media.size_bytes(FRAME_MS))
    for command in (Play(frame), Mark("g0:1"), Play(frame)):
        leg.send(command, NOW)
    FakeClock(NOW).run(leg, GATHER_S)
    together = leg.drain()
    apart = []
    leg, _ = live(name)
    for command in (Play(frame), Mark("g0:1"), Play(frame)):
        leg.send(command, NOW)
        apart += leg.drain()
    FakeClock(NOW).run(leg, GATHER_S)
    apart += leg.drain()
    assert together == apart
    assert together


def test_draining_empties_and_gives_a_list_of_ones_own(name: str) -> None:
    leg, media = live(name)
    earlier = leg.drain()
    leg.send(Play(media.silence(media.size_bytes(FRAME_MS))), NOW)
    FakeClock(NOW).run(leg, GATHER_S)
    assert earlier == []
    assert leg.drain() != []
    assert leg.drain() == []


@pytest.mark.parametrize("prepare", ["new", "offered"])
@pytest.mark.parametrize("command", [Play(b"\xff" * 160), Mark("m"), Flush(), Accept(OTHER_FORMAT)])
def test_our_own_misuse_raises_and_sends_nothing(name: str, prepare: str, command: Command) -> None:
    leg = new(name)[0] if prepare == "new" else offered(name)[0]
    with pytest.raises(LocalError):
        leg.send(command, NOW)
    assert leg.drain() == []


def test_a_call_is_accepted_once(name: str) -> None:
    leg, media = live(name)
    with pytest.raises(LocalError):
        leg.send(Accept(media), NOW)


@pytest.mark.parametrize("command", [Hangup(outcome.AGENT_HANGUP), Reject(outcome.CAPACITY)])
def test_our_own_end_closes_the_socket_at_last(name: str, command: Command) -> None:
    for leg in (new(name)[0], offered(name)[0], live(name)[0]):
        leg.send(command, NOW)
        assert isinstance(part(name, leg)[-1], CloseSocket)
        assert_over(name, leg)


def test_the_peers_end_closes_the_socket_at_last(name: str) -> None:
    for message in DIALECTS[name].ends:
        leg, _ = live(name)
        (ended,) = leg.receive(message, NOW)
        assert isinstance(ended, Ended)
        assert ended.reason.result is outcome.Result.SUCCESS
        assert isinstance(part(name, leg)[-1], CloseSocket)
        assert_over(name, leg)


def test_a_broken_message_ends_the_leg(name: str) -> None:
    for message in DIALECTS[name].broken:
        leg, _ = live(name)
        (ended,) = leg.receive(message, NOW)
        assert isinstance(ended, Ended)
        assert ended.reason.result is outcome.Result.CLIENT_ERROR
        assert ended.detail
        assert isinstance(part(name, leg)[-1], CloseSocket)
        assert_over(name, leg)


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1009, 1011])
def test_a_lost_socket_ends_the_leg_and_needs_no_answer(name: str, code: int) -> None:
    for leg in (new(name)[0], offered(name)[0], live(name)[0]):
        (ended,) = leg.connection_lost(code, NOW)
        assert isinstance(ended, Ended)
        assert leg.drain() == []
        assert_over(name, leg)


def test_deadlines_follow_the_timer(name: str) -> None:
    clock = FakeClock(NOW)
    leg, _, _ = new(name)
    assert leg.next_timer() <= NOW + OPTIONS.start_timeout_s
    (ended,) = [event for events in clock.run(leg, OPTIONS.start_timeout_s) for event in events]  # type: ignore[attr-defined]
    assert isinstance(ended, Ended)
    assert ended.reason is outcome.NO_START
    for leg in (offered(name)[0], live(name)[0]) if DIALECTS[name].watches_silence else ():
        clock = FakeClock(NOW)
        (ended,) = [event for events in clock.run(leg, OPTIONS.silence_timeout_s) for event in events]  # type: ignore[attr-defined]
        assert isinstance(ended, Ended)
        assert ended.reason is outcome.CARRIER_SILENT


# --- anything at all ---


def _happenings(dialect: Dialect) -> st.SearchStrategy[object]:
    """Whatever can happen to a leg: a message, a command, the loss of the socket, or seconds that pass."""
    known = [*dialect.opening, dialect.audio(b"\x01" * 160), *dialect.ends, *dialect.broken]
    return st.one_of(
        st.sampled_from(known),
        st.sampled_from(dialect.opening),
        _damaged(known),
        st.text(st.characters(), max_size=30),
        st.binary(max_size=30),
        st.sampled_from([Play(b"\xff" * 160), Mark("m"), Flush(), Hangup(outcome.BUG), Reject(outcome.BUG)]),
        st.just(Accept),
        st.sampled_from([1000, 1006]),
        st.floats(0, 40),
    )


@st.composite
def _damaged(draw: st.DrawFn, known: list[str | bytes]) -> str | bytes:
    """A message with a piece cut out or put in."""
    message = draw(st.sampled_from(known))
    at, end = sorted((draw(st.integers(0, len(message))), draw(st.integers(0, len(message)))))
    if isinstance(message, bytes):
        return message[:at] + draw(st.binary(max_size=3)) + message[end:]
    return message[:at] + draw(st.sampled_from(["", "null", "1", '"', "{}", "[]", "-1e9"])) + message[end:]


class _Table:
    """One leg, and the rules of its contract checked after every step."""

    def __init__(self, name: str) -> None:
        self.leg = ALL_CARRIERS[name].new_leg(OPTIONS, DIALECTS[name].request, NOW)
        self.now = NOW
        self.ended = False
        self.ends = 0
        self.media: MediaFormat | None = None

    def step(self, happening: object) -> None:
        if isinstance(happening, str | bytes):
            self._take(self.leg.receive(happening, self.now))
        elif isinstance(happening, float):
            self._pass(happening)
        elif isinstance(happening, int):
            self._take(self.leg.connection_lost(happening, self.now))
        elif happening is Accept:
            self._command(lambda: self.leg.send(Accept(self.media or OTHER_FORMAT), self.now))
        else:
            self._command(lambda: self.leg.send(happening, self.now))  # type: ignore[arg-type]
            self.ended = self.ended or isinstance(happening, Hangup | Reject)
        for item in self.leg.drain():
            assert isinstance(item, str | bytes | CloseSocket)
        assert self.leg.drain() == []
        if self.ended and not lingers(self.leg):
            assert self.leg.next_timer() == math.inf

    def _take(self, happened: list[Event]) -> None:
        assert not (self.ended and happened), "an event after the end"
        for number, event in enumerate(happened, start=1):
            if isinstance(event, Offered):
                self.media = event.media_choices[0]
            if isinstance(event, Ended):
                self.ended = True
                self.ends += 1
                assert number == len(happened), "an event after the end"
        assert self.ends <= 1

    def _command(self, give: Callable[[], None]) -> None:
        try:
            give()
        except LocalError:
            assert not self.ended, "after the end a command is ignored"

    def _pass(self, seconds: float) -> None:
        """Let time pass, never beyond the timer without handling it; nothing may be overdue by then."""
        end = self.now + seconds
        while (at := self.leg.next_timer()) <= end:
            assert at >= self.now, "the leg asked too late"
            self._take(self.leg.handle_timer(at - 1e-3))
            self.now = at
            self._take(self.leg.handle_timer(at))
        self.now = end


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_happens_in_whatever_order(name: str, data: st.DataObject) -> None:
    table = _Table(name)
    for happening in data.draw(st.lists(_happenings(DIALECTS[name]), max_size=15)):
        table.step(happening)
    table._take(table.leg.connection_lost(1006, table.now))
    assert_over(name, table.leg)


def _orders() -> Iterator[tuple[str, ...]]:
    ends = ("stop", "close", "hangup", "garbage")
    yield from ((first, second, third) for first in ends for second in ends for third in ends)


@pytest.mark.parametrize("order", list(_orders()), ids="-".join)
def test_ends_from_every_side_in_any_order_give_one_end(name: str, order: tuple[str, ...]) -> None:
    leg, _ = live(name)
    happened: list[Event] = []
    lost = order[0] == "close"
    for way in order:
        if way == "stop":
            happened += leg.receive(DIALECTS[name].ends[0], NOW)
        elif way == "close":
            lost = lost or lingers(leg)
            happened += leg.connection_lost(1000, NOW)
        elif way == "hangup":
            leg.send(Hangup(outcome.AGENT_HANGUP), NOW)
        else:
            happened += leg.receive(DIALECTS[name].broken[0], NOW)
    assert len(happened) == (0 if order[0] == "hangup" else 1)
    assert all(isinstance(event, Ended) for event in happened)
    assert len([item for item in part(name, leg) if isinstance(item, CloseSocket)]) == (0 if lost else 1)


def test_the_carrier_has_its_words_in_the_kit(name: str) -> None:
    assert name in DIALECTS, f"add {name} to tests/kit/legs.py"


def test_the_short_cuts_agree_with_the_long_way(name: str) -> None:
    dialect = DIALECTS[name]
    leg, media = live(name)
    size = media.size_bytes(FRAME_MS)
    payload = bytes(range(160)) * (size // 160)
    [event] = leg.receive(dialect.audio(payload), NOW)
    assert leg.read_audio(dialect.audio(payload), NOW) in (None, payload)
    assert leg.relay(dialect.audio(payload), NOW) is None  # nothing was said of sizes yet
    leg.set_relay("<", ">", range(size, size + 1))
    assert leg.relay(dialect.audio(payload), NOW) in (None, "<" + b64encode(payload).decode() + ">")
    assert leg.relay(dialect.audio(payload + b"x"), NOW) is None
    assert isinstance(event, Audio)
    assert event.payload == payload
    leg.send(Play(payload), NOW)
    FakeClock(NOW).run(leg, GATHER_S)
    [played] = leg.drain()
    assert leg.audio_message(payload) in (None, played)
    for message in (*dialect.ends, *dialect.broken):
        assert leg.read_audio(message, NOW) is None
        assert leg.relay(message, NOW) is None
