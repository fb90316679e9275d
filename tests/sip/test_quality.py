"""The estimated score, at points worked out by hand from the sources' formulas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.quality import estimate_mos


@pytest.mark.parametrize(
    ("loss", "delay_ms", "is_concealed", "mos"),
    [
        (0.0, 0, True, 4.41),  # R = 93.2, the best of G.711
        (0.0, 150, True, 4.33),
        (0.0, 400, True, 3.05),
        (0.01, 50, True, 4.30),
        (0.05, 50, True, 3.87),
        (0.05, 50, False, 2.11),
        (1.0, 1000, True, 1.0),
        (-1.0, -5, True, 4.41),
        (7.0, 0, True, 1.18),
    ],
)
def test_known_points(loss: float, delay_ms: float, is_concealed: bool, mos: float) -> None:
    assert estimate_mos(loss, delay_ms, is_concealed) == pytest.approx(mos, abs=0.0101)


@given(st.floats(0, 1), st.floats(0, 2000))
def test_it_stays_in_range_and_loss_never_helps(loss: float, delay_ms: float) -> None:
    assert 1.0 <= estimate_mos(loss, delay_ms) <= 4.5
    assert estimate_mos(min(1.0, loss + 0.1), delay_ms) <= max(estimate_mos(loss, delay_ms), 1.0) + 0.01
