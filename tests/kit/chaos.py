"""Random calls while instances and Redis are killed and started again: ``python -m tests.kit.chaos --seconds 60``.

Callers come, talk and go; some hang up at once. The receiver of webhooks misbehaves. In the end the books must balance:
no slot is held, and every call that was answered has one ended record, and its events once and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.kit import webhooks
from tests.kit.books import assert_balanced, reasons, settled
from tests.kit.cluster import Cluster, running_cluster, until
from tests.kit.database import PostgresServer
from tests.kit.phones import NoAnswer, Phones, phones

CALLERS = 12
"""Each places one call after the other."""
LONGEST_CALL_S = 3.0
KILL_EVERY_S = (1.5, 4.0)
REST_S = (0.2, 1.0)
"""What was killed is started again after so long."""
REDIS = "redis"
SLOTS_BACK_S = 20.0
CLOSED_S = 30.0


def moody(chance: random.Random) -> webhooks.Behaviour:
    """A receiver that fails every fifth time, each time in another way."""
    replies = (
        webhooks.Reply(500),
        webhooks.Reply(raw=b""),
        webhooks.Reply(raw=b"HTTP/1.1 what?\r\n\r\n"),
        webhooks.Reply(302, {"location": "/elsewhere"}),
        webhooks.Reply(503, {"retry-after": "1"}),
        webhooks.Reply(404, body=b"x" * 300_000),
        webhooks.Reply(delay_s=1.0),
    )
    return lambda _request, _number: chance.choice(replies) if chance.random() < 0.2 else webhooks.Reply()


async def one_caller(everybody: Phones, chance: random.Random, ends_s: float, refused: Counter[str]) -> None:
    """Calls through HAProxy until the time is up; a call that its instance takes along ends with it."""
    while time.monotonic() < ends_s:
        phone = everybody.new()
        try:
            if chance.random() < 0.1:  # changes their mind before the agent is there
                if await phone.is_let_in():
                    await phone.join(talk=False)
                await asyncio.sleep(chance.uniform(0, 0.05))
            else:
                await phone.place()
                await asyncio.sleep(chance.uniform(0, LONGEST_CALL_S))
        except NoAnswer as problem:
            refused[str(problem).partition(":")[0]] += 1
        with contextlib.suppress(AssertionError):
            await phone.hang_up()


async def killer(cluster: Cluster, chance: random.Random, ends_s: float) -> Counter[str]:
    """Kill an instance or Redis, start it again, and so on; returns how often each died."""
    killed: Counter[str] = Counter()
    while True:
        await asyncio.sleep(chance.uniform(*KILL_EVERY_S))
        if time.monotonic() >= ends_s:
            return killed
        name = chance.choice([*sorted(cluster.instances), REDIS])
        killed[name] += 1
        if name == REDIS:
            cluster.redis.kill()
        else:
            await cluster[name].kill()
        await asyncio.sleep(chance.uniform(*REST_S))
        if name == REDIS:
            cluster.redis.start()  # empty
        else:
            await cluster[name].start()


async def wreak_havoc(cluster: Cluster, everybody: Phones, seconds: float, seed: int) -> str:
    """Calls and kills for so long, then the books; returns a line of what happened."""
    chance = random.Random(seed)
    cluster.receiver.behaviour = moody(random.Random(seed))
    ends_s = time.monotonic() + seconds
    refused: Counter[str] = Counter()
    callers = (one_caller(everybody, random.Random(chance.random()), ends_s, refused) for _ in range(CALLERS))
    killing = asyncio.create_task(killer(cluster, chance, ends_s))
    await asyncio.gather(killing, *callers)
    over_s = time.monotonic()
    await until(lambda: cluster.slots() == 0, "slots are left", SLOTS_BACK_S)
    slots_s = time.monotonic() - over_s
    cluster.receiver.behaviour = webhooks.always()
    await settled(cluster, everybody.all, CLOSED_S - slots_s)
    closed_s = time.monotonic() - over_s
    await assert_balanced(cluster, everybody.all)
    cluster.assert_no_bugs()
    answered = [phone for phone in everybody.all if phone.first_heard_s]
    ends = reasons(await cluster.records(), everybody.all)
    events, tries = len(cluster.receiver.taken), len(cluster.receiver.received)
    died = dict(killing.result() or {})
    return (
        f"{len(everybody.all)} calls, {len(answered)} answered, killed {died}; all slots free after "
        f"{slots_s:.1f} s, all closed and told of after {closed_s:.1f} s; {events} events in {tries} tries; "
        f"ends {dict(ends)}; not taken {dict(refused)}"
    )


async def soak(seconds: float, seed: int) -> str:
    """The whole of it, on servers of its own."""
    postgres = PostgresServer()
    try:
        postgres.start()
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            async with running_cluster(Path(folder), postgres) as cluster, phones(cluster) as everybody:
                return await wreak_havoc(cluster, everybody, seconds, seed)
    finally:
        postgres.remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    chosen = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    print(f"seed {chosen}")  # noqa: T201
    print(asyncio.run(soak(arguments.seconds, chosen)))  # noqa: T201
