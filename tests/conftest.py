"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("bridge", deadline=None)  # no test fails for want of speed: machines are busy at times
settings.load_profile("bridge")
