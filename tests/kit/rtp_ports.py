"""UDP ports for tests that bind a range of them."""

from __future__ import annotations

import contextlib
import random
import socket

_ATTEMPTS = 100
_random = random.SystemRandom()  # tests that run beside each other begin with the same seed


def free_ports(pairs: int, host: str = "127.0.0.1") -> int:
    """An even port from which on ``2 * pairs`` are free."""
    for _ in range(_ATTEMPTS):
        first = 2 * _random.randint(5_000, 16_000)  # below what the system gives out by itself
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + 2 * pairs):
                family = socket.AF_INET6 if ":" in host else socket.AF_INET
                one = held.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                one.bind((host, port))
            return first
    raise AssertionError(f"no {2 * pairs} free ports in a row")
