"""The registry: what everything else derives from must hold together."""

from __future__ import annotations

import dataclasses

import pytest

from bridge.providers import REGISTRY, find_carrier, genesys, twilio, vonage


def test_every_carrier_is_listed_under_its_own_name() -> None:
    assert list(REGISTRY) == ["twilio", "genesys", "vonage"]
    assert all(name == spec.name for name, spec in REGISTRY.items())
    assert REGISTRY["twilio"] is twilio.SPEC
    assert REGISTRY["genesys"] is genesys.SPEC
    assert REGISTRY["vonage"] is vonage.SPEC


def test_no_two_carriers_share_a_path() -> None:
    paths = [path for spec in REGISTRY.values() for path in spec.media_paths]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("raw_path", "found"),
    [
        ("/twilio/media", {}),
        ("/twilio/media/", {}),
        ("//twilio//media?x=1", {}),
        ("/twilio", None),
        ("/twilio/media/more", None),
        ("/", None),
        ("", None),
    ],
)
def test_a_path_finds_its_carrier(raw_path: str, found: dict[str, str] | None) -> None:
    assert find_carrier(raw_path) == (None if found is None else (twilio.SPEC, found))


@pytest.mark.parametrize(
    ("raw_path", "agent_id"),
    [
        ("/genesys/agent_1", "agent_1"),
        ("//genesys//agent_1/?version=2", "agent_1"),
        ("/v1/convai/conversation/genesys/agent_1", "agent_1"),
        ("/v1/convai/conversation/genesysagent_1", "agent_1"),  # as Genesys writes base URI and id behind each other
        ("/genesysagent_1?version=2", "agent_1"),
        ("/genesys", None),
        ("/genesys/a/b", None),
    ],
)
def test_genesys_names_the_agent_in_its_path(raw_path: str, agent_id: str | None) -> None:
    assert find_carrier(raw_path) == (None if agent_id is None else (genesys.SPEC, {"agent_id": agent_id}))


@pytest.mark.parametrize(
    ("raw_path", "agent_id"), [("/line/agent_1", "agent_1"), ("/line/a%2Fb?c", "a/b"), ("/line/", None)]
)
def test_a_place_takes_one_segment(raw_path: str, agent_id: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = dataclasses.replace(twilio.SPEC, media_paths=("/line/{agent_id}",))
    monkeypatch.setitem(REGISTRY, "twilio", spec)
    assert find_carrier(raw_path) == (None if agent_id is None else (spec, {"agent_id": agent_id}))
