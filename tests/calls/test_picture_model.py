from __future__ import annotations

import pytest

from bridge.calls.picture_model import MIN_SPAN_MS, CallLane, CallPicture
from bridge.errors import LocalError

LANE = CallLane("", b"", 8000)


@pytest.mark.parametrize(("duration_ms", "length_ms"), [(-1, 0), (0, 0), (5000, 5000)])
def test_a_call_has_a_length_and_a_longer_axis_when_it_is_short(duration_ms: int, length_ms: int) -> None:
    picture = CallPicture("", "", duration_ms, (LANE, LANE))
    assert picture.length_ms == length_ms
    assert picture.span_ms == max(length_ms, MIN_SPAN_MS)


@pytest.mark.parametrize("rate_hz", [0, -8000, 49])
def test_a_lane_needs_a_rate_with_whole_frames(rate_hz: int) -> None:
    with pytest.raises(LocalError, match=f"rate_hz is {rate_hz}; a frame of 20 ms needs at least one sample"):
        CallLane("", b"", rate_hz)
