"""The registry: what everything else derives from must hold together."""

from __future__ import annotations

from bridge.providers import REGISTRY, twilio


def test_every_carrier_is_listed_under_its_own_name() -> None:
    assert list(REGISTRY) == ["twilio"]
    assert all(name == spec.name for name, spec in REGISTRY.items())
    assert REGISTRY["twilio"] is twilio.SPEC


def test_no_two_carriers_share_a_path() -> None:
    paths = [spec.media_path for spec in REGISTRY.values()]
    assert len(set(paths)) == len(paths)
