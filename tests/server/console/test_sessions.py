"""Cookies of the console: what is taken, what ends them, and that nothing of a key is in them."""

from __future__ import annotations

import pytest

from bridge.auth.api_keys import KeyRing, Scope, parse_keys
from bridge.server.console.sessions import SESSION_S, ConsoleSession, Sessions

KEYS = parse_keys("read:look-only-key,admin:operator-key")
NOW = 1_795_000_000.0
NONCE = bytes(range(16))


class SignedOut:
    def __init__(self) -> None:
        self.nonces: dict[str, float] = {}

    async def knows(self, nonce: str) -> bool:
        return nonce in self.nonces

    async def add(self, nonce: str, ttl_s: float) -> None:
        self.nonces[nonce] = ttl_s


def sessions(keys: str = "read:look-only-key,admin:operator-key", out: SignedOut | None = None) -> Sessions:
    out = out or SignedOut()
    return Sessions(parse_keys(keys), was_signed_out=out.knows, sign_out=out.add)


def id_of(key: str) -> str:
    access = KeyRing(KEYS).authorize([key])
    assert access is not None
    return access.key_id


async def issued(made: Sessions, key: str = "operator-key") -> str:
    return await made.issue(id_of(key), NONCE, NOW)


async def opened(made: Sessions, cookie: str, now: float = NOW) -> ConsoleSession:
    session = await made.read(cookie, now)
    assert session is not None
    return session


@pytest.mark.parametrize(("key", "scope"), [("look-only-key", Scope.READ), ("operator-key", Scope.ADMIN)])
async def test_a_cookie_gives_its_keys_scope_and_holds_nothing_of_it(key: str, scope: Scope) -> None:
    made = sessions()
    cookie = await issued(made, key)
    session = await opened(made, cookie)
    assert (session.scope, session.key_id) == (scope, id_of(key))
    assert session.expires_at == NOW + SESSION_S
    assert key not in cookie and session.csrf not in cookie
    assert session.csrf not in repr(session)


async def test_another_process_with_the_same_keys_takes_it() -> None:
    assert await sessions().read(await issued(sessions()), NOW) is not None


async def test_it_expires_and_does_not_come_from_the_future() -> None:
    made = sessions()
    cookie = await issued(made)
    assert await made.read(cookie, NOW + SESSION_S - 1) is not None
    assert await made.read(cookie, NOW + SESSION_S) is None
    assert await made.read(cookie, NOW - 59) is not None
    assert await made.read(cookie, NOW - 61) is None


async def test_every_forgery_is_refused() -> None:
    made = sessions()
    cookie = await issued(made)
    version, key_id, at, nonce, mac = cookie.split(".")
    other = id_of("look-only-key")
    for forged in (
        "",
        "1",
        "x" * 1000,
        f"2.{key_id}.{at}.{nonce}.{mac}",
        f"{version}.{other}.{at}.{nonce}.{mac}",
        f"{version}.00000000.{at}.{nonce}.{mac}",
        f"{version}.{key_id}.{int(at) + 1}.{nonce}.{mac}",
        f"{version}.{key_id}.{at}.{'A' * 22}.{mac}",
        f"{version}.{key_id}.{at}.{nonce}.{'A' * 43}",
        f"{version}.{key_id}.{at}.{nonce}.{mac[:-1]}",
        f"{cookie}\n",
    ):
        assert await made.read(forged, NOW) is None, forged


async def test_rotation_ends_sessions_of_the_key_that_went_and_no_other() -> None:
    made = sessions()
    cookie, kept = await issued(made), await issued(made, "look-only-key")
    session = await opened(made, cookie)
    assert made.holds(session, NOW)
    made.follow(parse_keys("read:look-only-key,admin:another-key"))
    assert not made.holds(session, NOW)
    assert await made.read(cookie, NOW) is None
    assert await made.read(kept, NOW) is not None


async def test_a_key_that_may_do_less_takes_its_sessions_along() -> None:
    made = sessions()
    cookie = await issued(made)
    session = await opened(made, cookie)
    made.follow(parse_keys("read:operator-key"))
    assert not made.holds(session, NOW)
    assert (await opened(made, cookie)).scope is Scope.READ


async def test_a_session_that_was_read_does_not_outlive_its_time() -> None:
    made = sessions()
    session = await opened(made, await issued(made))
    assert made.holds(session, NOW + SESSION_S - 1)
    assert not made.holds(session, NOW + SESSION_S)


async def test_signing_out_makes_the_cookie_worthless_for_as_long_as_it_would_last() -> None:
    out = SignedOut()
    made = sessions(out=out)
    cookie = await issued(made)
    session = await opened(made, cookie)
    await made.end(session, NOW + 10)
    assert await made.read(cookie, NOW + 10) is None
    assert out.nonces == {session.nonce: SESSION_S - 10}


async def test_tokens_against_forged_requests_differ_from_session_to_session() -> None:
    made = sessions()
    one = await opened(made, await issued(made))
    other = await opened(made, await made.issue(id_of("operator-key"), bytes(16), NOW))
    assert one.csrf != other.csrf
