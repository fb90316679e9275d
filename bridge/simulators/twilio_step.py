"""Where TwiML goes on after a verb."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Source:
    """Where the next document comes from."""

    url: str = ""
    method: str = "POST"
    extra: Mapping[str, str] = field(default_factory=dict)
    """What the request tells besides."""
    twiml: str = ""
    """The document itself; then nothing is fetched."""


class Done(enum.Enum):
    """The call ends here."""

    HANG_UP = "hang_up"


Step = Source | Done | None
"""What a verb comes to: go there, hang up, or go on with the next verb."""
