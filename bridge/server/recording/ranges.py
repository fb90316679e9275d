"""The Range header of HTTP, for one range of bytes.

Source: RFC 9110, 14.1.2 (byte ranges), 14.2 (a server may ignore the header), 15.5.17 (416).
"""

from __future__ import annotations

import re

from bridge.errors import RemoteError

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


class RangeError(RemoteError):
    """The range lies outside: answer 416 with ``Content-Range: bytes */<size>``."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the recording has {size} bytes, none of them in the range asked for")
        self.size = size


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """(start, stop) of the range of ``size`` bytes that is asked for, ``stop`` exclusive.

    None = send everything: there is no range, several, one in other units, or none that can be read (14.2).
    Raises ``RangeError`` for a range without a byte in it.
    """
    match = _ONE_RANGE.fullmatch(header)
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:  # the last so many bytes
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    if start >= stop:
        raise RangeError(size)
    return start, stop
