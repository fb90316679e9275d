"""The WebSocket carriers, one file each, sans-I/O, and the registry from which everything else derives.

Adding a carrier: one file with a leg and its ``SPEC``, one test file, one line in ``REGISTRY``.
"""

from __future__ import annotations

from bridge.leg import CarrierSpec
from bridge.providers import twilio

REGISTRY: dict[str, CarrierSpec] = {spec.name: spec for spec in (twilio.SPEC,)}
"""Every carrier by name. Routes, metrics, docs and the conformance tests walk this table."""
