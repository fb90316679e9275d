"""All carriers, whichever way their calls come: by WebSocket (``bridge.providers``) or by SIP (``bridge.sip``)."""

from __future__ import annotations

from bridge.leg import CarrierSpec
from bridge.providers import REGISTRY
from bridge.sip import leg as sip

ALL_CARRIERS: dict[str, CarrierSpec] = {**REGISTRY, sip.NAME: sip.SPEC}
"""By name, as routes, records and metrics have it."""
