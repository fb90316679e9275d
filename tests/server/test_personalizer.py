"""The personalization request: once per call, inside its deadline, and a failure is a value."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from bridge.calls.personalization import PersonalizationRequest
from bridge.convai.messages import InitiationData
from bridge.errors import LocalError
from bridge.server import personalizer as module
from bridge.server.personalizer import Failed, Outcome, Personalizer, PersonalizerOptions
from bridge.server.shared_state import SharedState
from bridge.server.slot_store import StoreDown
from tests.kit import logs
from tests.kit.server import until

URL = "https://crm.example/hook?tenant=1"
REQUEST = PersonalizationRequest(caller_id="+15550100", agent_id="agent_1", called_number="+15550199", call_sid="CA1")
GOOD = b'{"type":"conversation_initiation_client_data","dynamic_variables":{"name":"Ann"}}'
DATA = InitiationData(dynamic_variables={"name": "Ann"})


class Body(httpx.AsyncByteStream):
    """A body that is still to be read, as one from a socket is."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 65_536):
            yield self._content[start : start + 65_536]
        if self._content.startswith(b'{"broken'):
            raise httpx.ReadError("hunter2")


class Webhook:
    """The operator's server."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda request: httpx.Response(200, content=GOOD)
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.was_asked.set()
        await self.may_answer.wait()
        answer = self.answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Body(answer.content))


class Down(SharedState):
    """A shared store that does not answer."""

    async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
        raise StoreDown("down")

    async def put(self, key: str, value: bytes, ttl_s: float) -> None:
        raise StoreDown("down")


class Bench:
    """Personalizers of several processes that share a cache and ask one webhook."""

    def __init__(self) -> None:
        self.webhook = Webhook()
        self.cache = SharedState()
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self.webhook))
        self.outcomes: list[Outcome] = []
        self.made: list[Personalizer] = []
        self.now_s = 1000.0
        self.unix_s = 1_700_000_000.0

    def process(self, cache: SharedState | None = None, **options: Any) -> Personalizer:
        def on_outcome(outcome: Outcome, took_s: float) -> None:
            assert took_s >= 0
            self.outcomes.append(outcome)

        made = Personalizer(
            PersonalizerOptions(URL, {"X-Api-Key": "hunter2"}, **options),
            self.client,
            cache or self.cache,
            on_outcome,
            monotonic=lambda: self.now_s,
            unix=lambda: self.unix_s,
        )
        self.made.append(made)
        return made


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    for made in bench.made:
        await made.aclose()
    await bench.client.aclose()


async def ask(personalizer: Personalizer, call_sid: str = "CA1") -> InitiationData | Failed:
    personalizer.start(call_sid, REQUEST)
    return await personalizer.result(call_sid)


# --- once ----------------------------------------------------------------------------------------------------


async def test_the_webhook_is_asked_as_the_vendor_asks(bench: Bench) -> None:
    assert await ask(bench.process()) == DATA
    [request] = bench.webhook.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-api-key"] == "hunter2"
    assert json.loads(request.content) == {
        "caller_id": "+15550100", "agent_id": "agent_1", "called_number": "+15550199", "call_sid": "CA1",
    }  # fmt: skip
    assert bench.outcomes == [Outcome.OK]


async def test_it_is_asked_at_once_not_when_the_result_is_wanted(bench: Bench) -> None:
    process = bench.process()
    bench.webhook.may_answer.clear()
    process.start("CA1", REQUEST)
    await bench.webhook.was_asked.wait()
    bench.webhook.may_answer.set()
    assert await process.result("CA1") == DATA


async def test_a_repeated_webhook_asks_nobody_again(bench: Bench) -> None:
    process = bench.process()
    assert await ask(process) == await ask(process) == DATA
    assert len(bench.webhook.requests) == 1
    await ask(process, "CA2")
    assert len(bench.webhook.requests) == 2


async def test_another_process_takes_what_the_first_was_told(bench: Bench) -> None:
    one, two = bench.process(), bench.process()
    bench.webhook.may_answer.clear()
    one.start("CA1", REQUEST)
    await bench.webhook.was_asked.wait()
    two.start("CA1", REQUEST)
    waiting = asyncio.create_task(two.result("CA1"))
    await asyncio.sleep(0)
    bench.webhook.may_answer.set()
    assert await one.result("CA1") == await waiting == DATA
    assert await ask(bench.process()) == DATA
    assert len(bench.webhook.requests) == 1
    assert bench.outcomes == [Outcome.OK]


async def test_another_process_hears_of_a_failure_too(bench: Bench) -> None:
    bench.webhook.answer = lambda request: httpx.Response(500)
    assert await ask(bench.process()) == await ask(bench.process()) == Failed("HTTP 500", Outcome.STATUS)
    assert len(bench.webhook.requests) == 1


async def test_a_process_that_died_while_it_asked_is_not_waited_for_longer_than_its_deadline(bench: Bench) -> None:
    await bench.cache.put_if_absent("personalization:CA1:claim", b"1700000000.0", 60.0)
    bench.unix_s += 2.9
    assert await ask(bench.process()) == Failed("another process asked and never said what came of it", Outcome.LOST)
    assert bench.webhook.requests == []
    assert bench.outcomes == []


@pytest.mark.parametrize("answer", [b"{", b'{"failed":"x","outcome":"unheard"}'])
async def test_an_outcome_of_another_version_is_none(bench: Bench, answer: bytes) -> None:
    await bench.cache.put("personalization:CA1:claim", b"1700000000.0", 60.0)
    await bench.cache.put("personalization:CA1:outcome", answer, 60.0)
    result = await ask(bench.process())
    assert isinstance(result, Failed)
    assert result.outcome is Outcome.LOST


async def test_a_claim_that_has_just_gone_is_waited_for_in_full(bench: Bench) -> None:
    class Forgetful(SharedState):
        async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
            return False

    result = await ask(bench.process(Forgetful(), timeout_s=0.05))
    assert isinstance(result, Failed)


async def test_without_the_shared_store_the_process_asks_on_its_own(bench: Bench) -> None:
    with logs.captured() as lines:
        process = bench.process(Down())
        assert await ask(process) == DATA
        await until(lambda: lines)
    assert [line["event"] for line in lines] == ["personalization_not_shared"]


# --- deadline ------------------------------------------------------------------------------------------------


async def test_the_deadline_counts_from_the_start(bench: Bench) -> None:
    process = bench.process(timeout_s=0.05)
    bench.webhook.may_answer.clear()
    process.start("CA1", REQUEST)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert await process.result("CA1") == Failed("no answer within 0.05 s", Outcome.TIMEOUT)
    assert loop.time() - began_s < 1.0
    assert bench.outcomes == [Outcome.TIMEOUT]


async def test_a_cache_that_hangs_counts_towards_the_deadline(bench: Bench) -> None:
    class Hanging(SharedState):
        async def put_if_absent(self, key: str, value: bytes, ttl_s: float) -> bool:
            await asyncio.Event().wait()
            return True

    assert await ask(bench.process(Hanging(), timeout_s=0.05)) == Failed("no answer within 0.05 s", Outcome.TIMEOUT)


async def test_whoever_gives_up_waiting_does_not_end_the_request(bench: Bench) -> None:
    process = bench.process()
    bench.webhook.may_answer.clear()
    process.start("CA1", REQUEST)
    waiting = asyncio.create_task(process.result("CA1"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    bench.webhook.may_answer.set()
    assert await process.result("CA1") == DATA


# --- failures ------------------------------------------------------------------------------------------------


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("hunter2 refused")


def _slow(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("hunter2 slow")


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (lambda request: httpx.Response(404, content=GOOD), Failed("HTTP 404", Outcome.STATUS)),
        (lambda request: httpx.Response(204), Failed("the answer is no JSON", Outcome.INVALID)),
        (lambda request: httpx.Response(200, content=b"<html>"), Failed("the answer is no JSON", Outcome.INVALID)),
        (
            lambda request: httpx.Response(200, content=b'{"user_id": 1, "dynamic_variables": {"system__x": 1}}'),
            Failed(
                "dynamic_variables.system__x has a reserved name; names that begin with system__ are the vendor's; "
                "user_id is a number, not a text",
                Outcome.INVALID,
            ),
        ),
        (
            lambda request: httpx.Response(200, content=b" " * 300_000),
            Failed("the answer is longer than 262144 bytes", Outcome.INVALID),
        ),
        (
            lambda request: httpx.Response(302, headers={"Location": "https://h.example/"}),
            Failed(
                "redirected with 302, which would drop the body; answer 307 or 308, or set the new URL",
                Outcome.UNREACHABLE,
            ),
        ),
        (
            lambda request: httpx.Response(307, headers={"Location": str(request.url)}),
            Failed("more than 3 redirects", Outcome.UNREACHABLE),
        ),
        (
            lambda request: httpx.Response(200, content=b'{"broken'),
            Failed("the answer broke off", Outcome.UNREACHABLE),
        ),
        (_refuse, Failed("cannot connect: ConnectError", Outcome.UNREACHABLE)),
        (_slow, Failed("time-out: ReadTimeout", Outcome.TIMEOUT)),
    ],
)
async def test_a_failure_is_a_value(
    bench: Bench, answer: Callable[[httpx.Request], httpx.Response], failed: Failed
) -> None:
    bench.webhook.answer = answer
    with logs.captured() as lines:
        assert await ask(bench.process()) == failed
    assert bench.outcomes == [failed.outcome]
    [line] = lines
    assert (line["event"], line["outcome"], line["detail"]) == (
        "personalization_failed", failed.outcome.value, failed.detail,
    )  # fmt: skip
    assert "hunter2" not in str(lines)


async def test_an_address_that_must_not_be_reached_is_refused(bench: Bench) -> None:
    process = bench.process()
    process.options = PersonalizerOptions("ftp://h.example/")
    assert await ask(process) == Failed("only http and https URLs are requested", Outcome.REFUSED)


async def test_a_secret_header_does_not_follow_a_redirect_to_another_host(bench: Bench) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "crm.example":
            return httpx.Response(307, headers={"Location": "https://other.example/"})
        return httpx.Response(200, content=GOOD)

    bench.webhook.answer = answer
    assert await ask(bench.process()) == DATA
    first, second = bench.webhook.requests
    assert first.headers["x-api-key"] == "hunter2"
    assert "x-api-key" not in second.headers
    assert second.content == first.content


async def test_a_bug_of_ours_is_a_failure_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: bytes) -> InitiationData:
        raise RuntimeError("broken")

    monkeypatch.setattr(module, "parse_answer", broken)
    with logs.captured() as lines:
        assert await ask(bench.process()) == Failed("the bridge failed; see the traceback in the log", Outcome.BUG)
    assert [line["event"] for line in lines] == ["bug", "personalization_failed"]


# --- housekeeping --------------------------------------------------------------------------------------------


async def test_without_a_start_there_is_no_result(bench: Bench) -> None:
    with pytest.raises(LocalError, match="nobody has started the personalization of this call"):
        await bench.process().result("CA1")


async def test_what_is_over_is_forgotten(bench: Bench) -> None:
    process = bench.process()
    await ask(process)
    process.forget("CA1")
    process.forget("CA1")
    assert len(process) == 0


async def test_a_call_that_is_over_has_no_personalization(bench: Bench) -> None:
    process = bench.process()
    bench.webhook.may_answer.clear()
    process.start("CA1", REQUEST)
    waiting = asyncio.create_task(process.result("CA1"))
    await asyncio.sleep(0)
    process.forget("CA1")
    assert await waiting == Failed("the call is over")


async def test_outcomes_are_kept_for_their_time_only(bench: Bench) -> None:
    process = bench.process(remember_s=10.0)
    await ask(process, "CA1")
    bench.now_s += 9.0
    await ask(process, "CA2")
    assert len(process) == 2
    bench.now_s += 1.0
    await ask(process, "CA3")
    assert len(process) == 2


async def test_the_number_of_outcomes_has_a_bound(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REMEMBERED", 3)
    process = bench.process()
    for number in range(10):
        await ask(process, f"CA{number}")
    assert len(process) == 3


async def test_nobody_needs_to_be_told(bench: Bench) -> None:
    process = Personalizer(PersonalizerOptions(URL), bench.client, bench.cache)
    bench.made.append(process)
    assert await ask(process) == DATA


async def test_new_options_hold_for_the_next_request(bench: Bench) -> None:
    process = bench.process()
    process.options = PersonalizerOptions("https://new.example/", {"X-Api-Key": "rotated"})
    await ask(process)
    [request] = bench.webhook.requests
    assert (request.url.host, request.headers["x-api-key"]) == ("new.example", "rotated")


def test_headers_do_not_show() -> None:
    assert "hunter2" not in repr(PersonalizerOptions(URL, {"X-Api-Key": "hunter2"}))
