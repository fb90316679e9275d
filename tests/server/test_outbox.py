"""The delivery worker with a real database and a real receiver: what is sent, when again, and what is given up."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from bridge import __version__
from bridge.calls.record import CallRecord, OutboxEvent, Recording
from bridge.calls.webhooks import WebhookOptions, on_answered, on_ended, on_started
from bridge.server.egress import Answer, EgressOptions, RequestLimits, guarded_client
from bridge.server.egress_addresses import parse_networks
from bridge.server.outbox import OutboxOptions, OutboxWorker, Verdict, judge, retry_delay_s
from bridge.server.outbox_audio import AudioMissing, AudioOpener
from bridge.server.store.database import Database, open_database
from bridge.server.store.outbox import OutboxStore
from bridge.server.store.schema import OUTBOX
from tests.kit import logs
from tests.kit.webhooks import SECRET, Behaviour, Receiver, Reply, always, receiver

ALL = WebhookOptions()
NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
MP3 = bytes(range(256)) * 1_000 + b"."
"""Any bytes; nobody here decodes them. One more than a multiple of three."""


def record(call_id: str = "c1", **fields: Any) -> CallRecord:
    given: dict[str, Any] = {
        "instance_id": "i1",
        "provider": "twilio",
        "caller": "+4930123456",
        "called": "+4930654321",
        "call_sid": "CA1",
        "agent_id": "agent_1",
        "conversation_ids": ["conv_1"],
        "state": "ended",
        "created_at": 1_000.0,
        "ended_at": 1_030.0,
        "result": "success",
        "reason": "caller_hangup",
        **fields,
    }
    return CallRecord(id=call_id, **given)


def events_of(call_id: str = "c1") -> list[OutboxEvent]:
    made = record(call_id)
    now = time.time()
    return [*on_started(made, now, ALL), *on_answered(made, now, ALL), *on_ended(made, now, ALL, audio=False)]


TYPES = ["call.started", "call.answered", "call.ended", "post_call_transcription"]


async def no_audio(location: str) -> AsyncIterator[bytes]:
    if location:
        raise AudioMissing("the recording is not there any more")
    yield b""


class Desk:
    """A database, a receiver and workers."""

    def __init__(self, database: Database, hook: Receiver) -> None:
        self.database = database
        self.store = OutboxStore(database)
        self.hook = hook

    async def add(self, *events: OutboxEvent) -> None:
        for event in events:
            await self.store.add_next(event)

    @contextlib.asynccontextmanager
    async def worker(
        self,
        owner: str = "w1",
        *,
        store: Any = None,
        open_audio: AudioOpener = no_audio,
        allow: str = "127.0.0.0/8",
        **options: Any,
    ) -> AsyncIterator[OutboxWorker]:
        given = {"url": self.hook.url, "secret": SECRET, "poll_s": 0.05, "stop_grace_s": 0.2, **options}
        egress = EgressOptions(allow=parse_networks([allow]), connect_timeout_s=1, read_timeout_s=2)
        async with guarded_client(egress, ssl_context=NO_ROOTS) as client:
            worker = OutboxWorker(
                store or self.store,
                client,
                OutboxOptions(**given),
                owner=owner,
                open_audio=open_audio,
                chance=lambda: 0.5,
            )
            task = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                async with asyncio.timeout(10):
                    await task

    async def hurry(self) -> None:
        """Let all waits be over."""
        async with self.database.write() as connection:
            await connection.execute(update(OUTBOX).values(next_attempt_at=0.0))

    async def states(self) -> dict[str, str]:
        async with self.database.read() as connection:
            return {row.id: row.state for row in await connection.execute(select(OUTBOX))}

    async def settled(self, condition: Callable[[dict[str, str]], bool], timeout_s: float = 10.0) -> dict[str, str]:
        """Wait until the states of all events are so."""
        deadline_s = time.monotonic() + timeout_s
        while not condition(states := await self.states()):
            assert time.monotonic() < deadline_s, states
            await asyncio.sleep(0.01)
        return states

    async def all_delivered(self) -> None:
        await self.settled(lambda states: set(states.values()) == {"delivered"})


@contextlib.asynccontextmanager
async def desk(tmp_path: Path, behaviour: Behaviour | None = None) -> AsyncIterator[Desk]:
    database = open_database(None, tmp_path)
    await database.upgrade()
    try:
        async with receiver(behaviour) as hook:
            yield Desk(database, hook)
    finally:
        await database.close()


@pytest.fixture(autouse=True)
def lines() -> Iterator[list[dict[str, Any]]]:
    with logs.captured() as captured:
        yield captured


def logged(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == event]


# --- the ordinary course ---------------------------------------------------------------------------------


async def test_events_arrive_signed_shaped_and_in_order(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    async with desk(tmp_path) as place:
        await place.add(*events_of())
        async with place.worker() as worker:
            await place.all_delivered()
            assert worker.figures.delivered == 4
        assert place.hook.problems() == []
        assert [kind for _, kind in place.hook.events()] == TYPES
        first = place.hook.received[0]
        assert first.path == "/hook"
        assert first.headers["user-agent"] == f"telephony-bridge/{__version__}"
        assert first.headers["x-bridge-event-id"] == first.event["id"] == "evt_c1_call.started"
        assert (first.headers["x-bridge-attempt"], first.headers["x-bridge-event-type"]) == ("1", "call.started")
        assert [request.event["sequence"] for request in place.hook.received[:3]] == [1, 2, 3]
    assert len(logged(lines, "webhook_delivered")) == 4
    assert not any("4930" in str(line) for line in lines)


async def test_what_is_told_goes_at_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as place, place.worker(poll_s=60.0) as worker:
        await asyncio.sleep(0.05)  # it has looked and found nothing
        await place.add(*events_of())
        worker.notify()
        await place.all_delivered()


async def test_what_nobody_told_of_goes_with_the_next_poll(tmp_path: Path) -> None:
    async with desk(tmp_path) as place, place.worker(poll_s=0.05):
        await place.add(*events_of())
        await place.all_delivered()


async def test_calls_go_side_by_side_up_to_the_bound(tmp_path: Path) -> None:
    now, most = 0, 0

    def slow(_request: object, _number: int) -> Reply:
        return Reply(delay_s=0.1)

    async with desk(tmp_path, slow) as place:
        for number in range(12):
            await place.add(events_of(f"c{number}")[0])
        began_s = time.monotonic()
        async with place.worker(parallel=4) as worker:
            while worker.figures.delivered < 12:
                now = worker.figures.in_flight
                most = max(most, now)
                await asyncio.sleep(0.005)
        assert most == 4
        assert 0.3 <= time.monotonic() - began_s < 1.1, "three rounds of 0.1 s, not twelve"


async def test_the_operators_headers_go_along(tmp_path: Path) -> None:
    async with desk(tmp_path) as place:
        await place.add(events_of()[0])
        async with place.worker(headers={"X-Api-Key": "k1"}):
            await place.all_delivered()
        assert place.hook.received[0].headers["x-api-key"] == "k1"


@pytest.mark.parametrize("name", ["Content-Type", "elevenlabs-signature", "Idempotency-Key"])
def test_the_operators_headers_cannot_be_the_bridges(name: str) -> None:
    with pytest.raises(ValueError, match=f"^these headers are the bridge's own: {name}$"):
        OutboxOptions(url="https://a.example/", secret=SECRET, headers={name: "x"})


async def test_without_a_secret_events_are_not_signed(tmp_path: Path) -> None:
    async with desk(tmp_path) as place:
        await place.add(events_of()[0])
        async with place.worker(secret=""):
            await place.all_delivered()
        assert "elevenlabs-signature" not in place.hook.received[0].headers


async def test_a_new_secret_holds_from_the_next_attempt_on(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, number: Reply(500 if number == 1 else 200)) as place:
        await place.add(events_of()[0])
        async with place.worker() as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            worker.options = dataclasses.replace(worker.options, secret="wsec_new")
            await place.hurry()
            await place.all_delivered()
        assert [request.problem("wsec_new") for request in place.hook.received][1] == ""
        assert place.hook.received[0].problem() == ""


# --- failures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 400, 401, 404, 409, 422, 429, 500, 503])
async def test_another_status_is_tried_again_under_the_same_id(
    tmp_path: Path, status: int, lines: list[dict[str, Any]]
) -> None:
    def fail_once(_request: object, number: int) -> Reply:
        return Reply(status, {"location": "/elsewhere"}) if number == 1 else Reply()

    async with desk(tmp_path, fail_once) as place:
        await place.add(events_of()[0])
        async with place.worker() as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            assert [item.state for item in await place.store.of_call("c1")] == ["pending"]
            await place.hurry()
            await place.all_delivered()
        assert [request.headers["x-bridge-attempt"] for request in place.hook.received] == ["1", "2"]
        assert len({request.event_id for request in place.hook.received}) == 1
        assert place.hook.problems() == []
    failed = logged(lines, "webhook_failed")[0]
    assert (failed["log_level"], failed["attempt"], failed["retry_in_s"]) == ("warning", 1, 1.0)
    assert str(status) in failed["detail"]


async def test_later_events_of_the_call_wait_and_those_of_others_do_not(tmp_path: Path) -> None:
    def refuse_first_call(request: Any, _number: int) -> Reply:
        return Reply(500 if "_c1_" in request.event_id else 200)

    async with desk(tmp_path, refuse_first_call) as place:
        await place.add(*events_of("c1"), *events_of("c2"))
        async with place.worker():
            states = await place.settled(lambda states: list(states.values()).count("delivered") == 4)
        assert {name for name, state in states.items() if state == "delivered"} == {f"evt_c2_{kind}" for kind in TYPES}
        assert {name for name, _ in place.hook.events(taken=False) if "_c1_" in name} == {"evt_c1_call.started"}


async def test_gone_is_given_up_at_once_and_the_call_goes_on(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    def gone_for_one(request: Any, _number: int) -> Reply:
        return Reply(410 if request.event["type"] == "call.answered" else 200)

    async with desk(tmp_path, gone_for_one) as place:
        await place.add(*events_of())
        async with place.worker() as worker:
            states = await place.settled(lambda states: "pending" not in states.values())
            assert (worker.figures.dead, worker.figures.delivered) == (1, 3)
        assert states["evt_c1_call.answered"] == "dead"
        assert [item.last_error for item in await place.store.dead(10)] == ["HTTP 410"]
    dead = logged(lines, "webhook_dead")[0]
    assert dead["log_level"] == "error"
    assert dead["advice"] == "Mend the receiver, then run: bridge webhooks replay evt_c1_call.answered"


async def test_a_dead_event_is_replayed(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, number: Reply(410 if number == 1 else 200)) as place:
        await place.add(events_of()[0])
        async with place.worker():
            await place.settled(lambda states: "dead" in states.values())
            assert await place.store.replay(None) == 1
            await place.all_delivered()
        assert len({request.event_id for request in place.hook.received}) == 1
        assert place.hook.problems() == []


async def test_an_event_is_given_up_when_its_time_is_over(tmp_path: Path) -> None:
    async with desk(tmp_path, always(500)) as place:
        await place.add(events_of()[0])
        async with place.worker(give_up_after_s=1.5, min_attempts=2) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            await place.hurry()
            await place.settled(lambda states: "dead" in states.values())
        assert len(place.hook.received) == 2


async def test_an_old_event_is_given_up_only_after_some_attempts(tmp_path: Path) -> None:
    """The bridge was down for a day: that is no reason to drop what it had to tell."""
    old = OutboxEvent(id="evt_old", call_id="old", sequence=1, type="call.ended", created_at=1.0, body=b"{}")
    async with desk(tmp_path, lambda _r, number: Reply(500 if number < 3 else 200)) as place:
        await place.add(old)
        async with place.worker() as worker:
            for attempt in (1, 2):
                await place.settled(lambda _states, count=attempt: worker.figures.failed_attempts == count)  # type: ignore[misc]
                await place.hurry()
            await place.all_delivered()


async def test_a_slow_receiver_holds_nothing_else_up(tmp_path: Path) -> None:
    def slow_for_one(request: Any, _number: int) -> Reply:
        return Reply(delay_s=5.0 if "_c1_" in request.event_id else 0.0)

    async with desk(tmp_path, slow_for_one) as place:
        await place.add(*events_of("c1"), *events_of("c2"))
        async with place.worker(limits=RequestLimits(deadline_s=0.3)) as worker:
            await place.settled(lambda states: list(states.values()).count("delivered") == 4)
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
        assert (await place.store.of_call("c1"))[0].last_error == "no answer within 0.3 s"


async def test_a_huge_answer_is_an_answer(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(200, body=b"x" * 3_000_000)) as place:
        await place.add(events_of()[0])
        async with place.worker():
            await place.all_delivered()
        assert len(place.hook.received) == 1


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (always(307, location="http://169.254.169.254/latest"), "the host is not on the public internet; allow its "),
        (always(307, location="/hook"), "more than 3 redirects"),
        (lambda _r, _n: Reply(raw=b""), "the answer is no proper HTTP"),
    ],
)
async def test_every_failure_is_written_down_in_words(tmp_path: Path, behaviour: Behaviour, error: str) -> None:
    async with desk(tmp_path, behaviour) as place:
        await place.add(events_of()[0])
        async with place.worker() as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
        assert (await place.store.of_call("c1"))[0].last_error.startswith(error)


async def test_a_receiver_on_this_machine_needs_leave(tmp_path: Path) -> None:
    async with desk(tmp_path) as place:
        await place.add(events_of()[0])
        async with place.worker(allow="10.0.0.0/8") as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
        assert place.hook.received == []
        assert (await place.store.of_call("c1"))[0].last_error.endswith("allow its network in EGRESS_ALLOW")


async def test_a_receiver_that_was_down_gets_everything(tmp_path: Path) -> None:
    async with desk(tmp_path) as place:
        async with receiver() as gone:
            pass
        await place.add(*events_of())
        async with place.worker(url=gone.url) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            async with receiver(port=gone.port) as back:
                await place.hurry()
                await place.all_delivered()
                assert [kind for _, kind in back.events()] == TYPES


# --- the database ----------------------------------------------------------------------------------------


class Flaky:
    """A store whose methods fail as often as they are told to."""

    def __init__(self, store: OutboxStore) -> None:
        self._store = store
        self.fail: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            if self.fail.get(name, 0) > 0:
                self.fail[name] -= 1
                raise OSError(28, "No space left on device")
            return await method(*arguments)

        return call


async def test_the_worker_outlives_the_database(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    async with desk(tmp_path) as place:
        flaky = Flaky(place.store)
        flaky.fail = {"claim": 1, "settle": 1}
        await place.add(events_of()[0])
        async with place.worker(store=flaky) as worker:
            await place.all_delivered()
            assert worker.figures.database_errors == 2
        assert len(place.hook.received) == 1, "it was settled again, not sent again"
    assert [line["step"] for line in logged(lines, "webhook_database_error")] == ["claim", "settle"]
    assert "No space left" in lines[0]["detail"]


async def test_what_cannot_be_written_down_is_kept_and_not_sent_again(tmp_path: Path) -> None:
    """The lease is renewed meanwhile: another worker leaves the event alone."""
    async with desk(tmp_path) as place:
        flaky = Flaky(place.store)
        flaky.fail = {"settle": 1}
        await place.add(events_of()[0])
        async with place.worker("w1", store=flaky, lease_s=0.4, renew_s=0.1):
            await place.settled(lambda _states: bool(place.hook.received))
            async with place.worker("w2", lease_s=0.4, renew_s=0.1):
                await place.all_delivered()
        assert len(place.hook.received) == 1


async def test_what_can_never_be_written_down_is_repeated_under_its_id(tmp_path: Path) -> None:
    async with desk(tmp_path) as place:
        flaky = Flaky(place.store)
        flaky.fail = {"settle": 99, "renew": 99}
        await place.add(events_of()[0])
        async with place.worker("w1", store=flaky, lease_s=0.2, renew_s=0.1):
            await place.settled(lambda _states: bool(place.hook.received))
            async with place.worker("w2"):
                await place.all_delivered()
        assert [request.event_id for request in place.hook.received] == ["evt_c1_call.started"] * 2


async def test_a_bug_is_logged_and_tried_again(tmp_path: Path, lines: list[dict[str, Any]]) -> None:
    broken = OutboxEvent(
        id="evt_x", call_id="x", sequence=1, type="post_call_audio", created_at=time.time(), body=b"{}", audio="a.wav"
    )
    async with desk(tmp_path) as place:
        await place.add(broken)
        async with place.worker(open_audio=mp3_of(b"abc")) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
    assert logged(lines, "bug")[0]["event_id"] == "evt_x"


# --- leases and stopping ---------------------------------------------------------------------------------


async def test_two_workers_share_the_work_and_repeat_none(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(delay_s=0.01)) as place:
        other_database = open_database(None, tmp_path)
        for number in range(30):
            await place.add(*events_of(f"c{number}")[:2])
        async with (
            place.worker("w1", parallel=5) as one,
            place.worker("w2", parallel=5, store=OutboxStore(other_database)) as two,
        ):
            await place.all_delivered()
            assert one.figures.delivered > 0 < two.figures.delivered
        await other_database.close()
        names = [name for name, _ in place.hook.events(taken=False)]
        assert len(names) == len(set(names)) == 60


async def test_a_long_delivery_keeps_its_lease(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(delay_s=0.8)) as place:
        await place.add(events_of()[0])
        async with place.worker("w1", lease_s=0.3, renew_s=0.05), place.worker("w2", lease_s=0.3, renew_s=0.05):
            await place.all_delivered()
        assert len(place.hook.received) == 1


async def test_a_renewal_that_fails_is_counted(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(delay_s=0.3)) as place:
        flaky = Flaky(place.store)
        flaky.fail = {"renew": 1}
        await place.add(events_of()[0])
        async with place.worker(store=flaky, renew_s=0.05) as worker:
            await place.all_delivered()
            assert worker.figures.database_errors == 1


async def test_stopping_lets_deliveries_end(tmp_path: Path) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(delay_s=0.2)) as place:
        await place.add(*events_of())
        async with place.worker(stop_grace_s=5.0) as worker:
            await place.settled(lambda _states: worker.figures.in_flight == 1)
        states = await place.states()
        assert list(states.values()).count("delivered") == 1
        assert len(place.hook.received) == 1


@pytest.mark.parametrize("database_fails", [False, True])
async def test_stopping_gives_back_what_takes_too_long(tmp_path: Path, database_fails: bool) -> None:
    async with desk(tmp_path, lambda _r, _n: Reply(delay_s=5.0)) as place:
        flaky = Flaky(place.store)
        flaky.fail = {"release": int(database_fails)}
        await place.add(events_of()[0])
        async with place.worker(store=flaky, stop_grace_s=0.05):
            await place.settled(lambda _states: bool(place.hook.received))
        claimed = await place.store.claim("w2", 1, 10.0)
        assert [item.attempt for item in claimed] == ([] if database_fails else [1])


# --- audio -----------------------------------------------------------------------------------------------


def audio_events(conversation_id: str = "conv_1") -> list[OutboxEvent]:
    made = record(recording=Recording(location="2026/c1.wav", format="wav", complete=True))
    return list(on_ended(made, time.time(), WebhookOptions(events=frozenset({"post_call_audio"})), audio=True))


def mp3_of(*pieces: bytes, opened: list[str] | None = None) -> AudioOpener:
    async def stream(location: str) -> AsyncIterator[bytes]:
        if opened is not None:
            opened.append(location)
        for piece in pieces:
            yield piece

    return stream


@pytest.mark.parametrize("piece_bytes", [1_000, 65_536, len(MP3)])
async def test_audio_is_streamed_into_its_event(tmp_path: Path, piece_bytes: int) -> None:
    pieces = [MP3[start : start + piece_bytes] for start in range(0, len(MP3), piece_bytes)]
    opened: list[str] = []
    async with desk(tmp_path) as place:
        await place.add(*audio_events())
        async with place.worker(open_audio=mp3_of(*pieces, opened=opened)):
            await place.all_delivered()
        got = place.hook.received[0]
        assert place.hook.problems() == []
        assert got.chunked
        assert got.event["data"]["agent_id"] == "agent_1"
        assert got.event["data"]["conversation_id"] == "conv_1"
        assert base64.b64decode(got.event["data"]["full_audio"]) == MP3
        assert opened == ["2026/c1.wav"] * 2, "once to sign, once to send"


@pytest.mark.parametrize(
    ("opener", "error"),
    [(no_audio, "the recording is not there any more"), (mp3_of(), "the recording is empty")],
)
async def test_missing_audio_is_given_up_with_its_reason(tmp_path: Path, opener: AudioOpener, error: str) -> None:
    async with desk(tmp_path) as place:
        await place.add(*audio_events())
        async with place.worker(open_audio=opener, missing_audio_attempts=2) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            assert set((await place.states()).values()) == {"pending"}, "another instance may have it"
            await place.hurry()
            await place.settled(lambda states: "dead" in states.values())
        assert [item.last_error for item in await place.store.dead(10)] == [error]
        assert place.hook.received == []


async def test_audio_that_changes_between_signing_and_sending_is_refused_and_sent_again(tmp_path: Path) -> None:
    opened = 0

    async def changing(_location: str) -> AsyncIterator[bytes]:
        nonlocal opened
        opened += 1
        yield b"first" if opened == 1 else b"final"

    def strict(request: Any, _number: int) -> Reply:
        return Reply(401 if request.problem() else 200)

    async with desk(tmp_path, strict) as place:
        await place.add(*audio_events())
        async with place.worker(open_audio=changing) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
            await place.hurry()
            await place.all_delivered()
        assert base64.b64decode(place.hook.taken[0].event["data"]["full_audio"]) == b"final"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "denied", "/secret/path"), "the recording cannot be read: PermissionError"),
        (TimeoutError(), "the recording could not be read in time"),
    ],
)
async def test_audio_that_cannot_be_read_is_tried_again(tmp_path: Path, error: Exception, words: str) -> None:
    async def broken(_location: str) -> AsyncIterator[bytes]:
        yield b"some"
        raise error

    async with desk(tmp_path) as place:
        await place.add(*audio_events())
        async with place.worker(open_audio=broken) as worker:
            await place.settled(lambda _states: worker.figures.failed_attempts == 1)
        assert [(item.state, item.last_error) for item in await place.store.of_call("c1")] == [("pending", words)]


# --- the rules, pure -------------------------------------------------------------------------------------


def test_attempts_are_doubled_and_bounded() -> None:
    assert [retry_delay_s(attempt, 0.5) for attempt in range(1, 12)] == [
        1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 900.0,
    ]  # fmt: skip
    assert retry_delay_s(10_000, 1.0) == 900.0
    assert (retry_delay_s(1, 0.0), retry_delay_s(1, 1.0)) == (0.75, 1.25)


def test_a_receiver_may_ask_for_longer_but_not_for_ever() -> None:
    assert retry_delay_s(1, 0.5, 30.0) == 30.0
    assert retry_delay_s(1, 0.5, 1e9) == 3_600.0
    assert retry_delay_s(8, 0.5, 1.0) == 128.0


@pytest.mark.parametrize(
    ("status", "headers", "verdict"),
    [
        (200, {}, Verdict(True)),
        (204, {}, Verdict(True)),
        (299, {}, Verdict(True)),
        (410, {}, Verdict(False, "HTTP 410", hopeless=True)),
        (429, {"retry-after": "120"}, Verdict(False, "HTTP 429", retry_after_s=120.0)),
        (503, {"retry-after": "Thu, 01 Jan 1970 00:17:40 GMT"}, Verdict(False, "HTTP 503", retry_after_s=60.0)),
        (503, {"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, Verdict(False, "HTTP 503")),
        (503, {"retry-after": "soon"}, Verdict(False, "HTTP 503")),
        (503, {"retry-after": "9" * 400}, Verdict(False, "HTTP 503", retry_after_s=999_999_999.0)),
        (304, {}, Verdict(False, "HTTP 304")),
    ],
)
def test_what_answers_mean(status: int, headers: dict[str, str], verdict: Verdict) -> None:
    assert judge(Answer(status, headers, b""), 1_000.0) == verdict
