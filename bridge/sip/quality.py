"""An estimate of how good a call sounded, as a mean opinion score from 1 to 4.5.

Public: ``estimate_mos``. It is computed from loss and delay alone; nobody has listened.

Source: the E-model, ITU-T G.107, with all its parameters at their defaults (R = 93.2 without impairment), in the
simplification of Cole and Rosenbluth, "Voice over IP performance monitoring" (2001), for delay. Loss: G.107 equation
7-29 with random loss; G.113 appendix I gives G.711 a robustness of 25.1 with concealment and of 4.3 without. R to
MOS: G.107 annex B.
"""

from __future__ import annotations

BEST_R = 93.2
ROBUSTNESS_CONCEALED = 25.1
ROBUSTNESS_BARE = 4.3
KNEE_MS = 177.3
"""Delay from which conversation suffers more."""


def estimate_mos(loss: float, one_way_delay_ms: float, is_concealed: bool = True) -> float:
    """The score for a share of lost frames (0 to 1, late ones included) and a delay from mouth to ear.

    Values out of range are taken as the nearest in range; the result has two decimals.
    """
    loss_percent = 100 * max(0.0, min(1.0, loss))
    delay_ms = max(0.0, one_way_delay_ms)
    robustness = ROBUSTNESS_CONCEALED if is_concealed else ROBUSTNESS_BARE
    by_delay = 0.024 * delay_ms + 0.11 * max(0.0, delay_ms - KNEE_MS)
    by_loss = 95 * loss_percent / (loss_percent + robustness)
    rating = max(0.0, BEST_R - by_delay - by_loss)
    mos = 1 + 0.035 * rating + 7e-6 * rating * (rating - 60) * (100 - rating)
    return round(max(1.0, mos), 2)
