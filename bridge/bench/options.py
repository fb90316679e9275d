"""What the bench is asked to measure."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.bench.carriers import CARRIERS, TWILIO

TARGETS = ("bridge", "floor", "plain")

TARGETS_OF = {
    "twilio": TARGETS,
    "genesys": ("bridge", "floor"),
    "vonage": ("bridge", "floor"),
    "sip": ("bridge", "floor"),
}
"""What is measured with each carrier; the plain design speaks to Twilio only."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure."""

    calls: int = 400
    carrier: str = "twilio"
    mode: str = "passthrough"
    """One of the carrier's: ``passthrough`` (both sides speak the same), ``convert`` (agent pcm_16000; Vonage at 8
    kHz), with Vonage ``convert-24k`` too."""
    duration_s: float = 15.0
    warmup_s: float = 3.0
    ramp_s: float = 4.0
    """Calls are placed spread over this time."""
    rounds: int = 1
    """Calls up and down this many times."""
    targets: tuple[str, ...] = TARGETS
    plain_calls: int = 100
    """The plain design gets at most this many calls: at 400 it would be past the end of its core."""
    barge_in_every_s: float = 4.0
    """Per call; 0 = never."""
    server_core: int | None = None
    """None = the lowest one."""
    flight: bool = False
    """Whether the bridge keeps flight records."""

    def __post_init__(self) -> None:
        if self.carrier not in CARRIERS:
            raise ValueError(f"carrier is {self.carrier!r}; known are {', '.join(CARRIERS)}")
        modes = CARRIERS[self.carrier].modes
        if self.mode not in modes:
            raise ValueError(f"mode is {self.mode!r}; known are {', '.join(modes)}")
        known = TARGETS_OF[self.carrier]
        if unknown := set(self.targets) - set(known):
            raise ValueError(f"unknown targets {sorted(unknown)}; known are {', '.join(known)}")
        if not 1 <= self.calls <= 20_000:
            raise ValueError(f"calls is {self.calls}; it must be 1 to 20000 (ephemeral ports of one address)")
        if self.rounds < 1 or self.plain_calls < 1:
            raise ValueError("rounds and plain_calls must be at least 1")
        if self.duration_s <= 0 or self.warmup_s < 0 or self.ramp_s < 0:
            raise ValueError("duration_s must be above 0, warmup_s and ramp_s not below 0")


def usual_options(
    carrier: str,
    *,
    calls: int | None = None,
    ramp_s: float | None = None,
    targets: tuple[str, ...] | None = None,
    mode: str = "passthrough",
    duration_s: float = 15.0,
    warmup_s: float = 3.0,
    rounds: int = 1,
    plain_calls: int = 100,
    flight: bool = False,
) -> BenchOptions:
    """Options in which None is what suits the carrier. Raises ``ValueError`` as ``BenchOptions`` does."""
    habits = CARRIERS.get(carrier, TWILIO)
    calls = habits.default_calls if calls is None else calls
    return BenchOptions(
        calls=calls,
        carrier=carrier,
        mode=mode,
        duration_s=duration_s,
        warmup_s=warmup_s,
        ramp_s=habits.ramp_s(calls) if ramp_s is None else ramp_s,
        rounds=rounds,
        targets=targets or TARGETS_OF.get(carrier, TARGETS),
        plain_calls=plain_calls,
        flight=flight,
    )
