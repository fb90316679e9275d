"""The WebSocket carriers, one file each, sans-I/O, and the registry from which everything else derives.

Adding a carrier: one file with a leg and its ``SPEC``, one test file, one line in ``REGISTRY``.
"""

from __future__ import annotations

from urllib.parse import unquote

from bridge.leg import CarrierSpec
from bridge.providers import genesys, twilio, vonage

REGISTRY: dict[str, CarrierSpec] = {spec.name: spec for spec in (twilio.SPEC, genesys.SPEC, vonage.SPEC)}
"""Every carrier by name. Routes, metrics, docs and the conformance tests walk this table."""


def find_carrier(raw_path: str) -> tuple[CarrierSpec, dict[str, str]] | None:
    """The carrier whose media socket has this path (query allowed, untouched), and what stands in its places.

    A doubled, trailing or missing slash before the place is tolerated: Genesys puts its address together from a base
    and an id by writing one behind the other. A place takes one whole segment, and never an empty one.
    """
    segments = [segment for segment in raw_path.partition("?")[0].split("/") if segment]
    for spec in REGISTRY.values():
        for template in spec.media_paths:
            values = _match(template.strip("/").split("/"), segments)
            if values is not None:
                return spec, values
    return None


def _match(template: list[str], segments: list[str]) -> dict[str, str] | None:
    if len(segments) == len(template) - 1 and template[-1].startswith("{"):
        glued, fixed = segments[-1], template[-2]
        if glued.startswith(fixed) and glued != fixed:
            segments = [*segments[:-1], fixed, glued.removeprefix(fixed)]
    if len(template) != len(segments):
        return None
    values: dict[str, str] = {}
    for pattern, segment in zip(template, segments, strict=True):
        if pattern.startswith("{"):
            values[pattern.strip("{}")] = unquote(segment)
        elif pattern != segment:
            return None
    return values
