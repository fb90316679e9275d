from __future__ import annotations

import json
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.simulators.agent_scenarios import (
    ENDLESS_MS,
    PATTERNS,
    SCENARIOS,
    Close,
    Drop,
    Say,
    Scenario,
    Stall,
    Wait,
    load_script,
    scenario_for,
    scenario_for_agent,
)
from bridge.simulators.speech import CLIP_TEXTS


def test_the_names_that_tests_and_users_count_on_are_there() -> None:
    assert {
        "echo", "demo", "greet", "silent", "mute", "garbage", "unknown_format", "error_nested", "error_flat", "quota",
        "burst", "odd", "tools", "stale", "endcall", "talk",
    } <= SCENARIOS.keys()  # fmt: skip


def test_every_clip_named_in_a_scenario_exists() -> None:
    says = [step for scenario in SCENARIOS.values() for step in scenario.steps if isinstance(step, Say)]
    assert {say.clip for say in says if say.clip} <= CLIP_TEXTS.keys()
    assert all(say.text == CLIP_TEXTS[say.clip] for say in says if say.clip)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("close_1011_250", (Wait(ms=250), Close(code=1011, reason="as told by the scenario"))),
        ("close_4000_0", (Wait(ms=0), Close(code=4000, reason="as told by the scenario"))),
        ("close_1006_10", (Wait(ms=10), Drop())),
        ("drop_10", (Wait(ms=10), Drop())),
        ("stall_100", (Stall(ms=100), Say(text=CLIP_TEXTS["agent_reply"], clip="agent_reply"))),
        ("tone_1000", (Say(tone_hz=1000.0, duration_ms=ENDLESS_MS, speed=1.0),)),
    ],
)
def test_numbers_in_a_name_become_steps(name: str, steps: tuple[object, ...]) -> None:
    scenario = scenario_for(name)
    assert (scenario.name, scenario.steps) == (name, steps)


def test_a_refusal_has_its_status() -> None:
    assert [scenario_for(f"refuse_{status}").refuse_status for status in (401, 403, 404, 429, 500)] == [
        401, 403, 404, 429, 500,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["nonsense", "", "close_1011", "close_1004_0", "close_1005_0", "close_999_0", "close_5000_0", "drop_1_2",
     "refuse_200", "refuse_600", "tone_0", "tone_", "drop_99999999"],
)  # fmt: skip
def test_any_other_name_is_refused_with_all_that_are_known(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        scenario_for(name)
    text = str(caught.value)
    assert text.startswith(f"scenario {name!r} is not known; known are demo, talk, echo, ")
    assert text.endswith(", ".join(PATTERNS))


def test_an_agent_id_chooses_its_scenario() -> None:
    default = Scenario(name="default")
    assert scenario_for_agent("agent_123", default) is default
    assert scenario_for_agent("sim_stale", default) is SCENARIOS["stale"]
    assert scenario_for_agent("sim_close_1000_5", default).name == "close_1000_5"
    with pytest.raises(ConfigError):
        scenario_for_agent("sim_nonsense", default)


def test_a_script_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    steps = [{"step": "say", "text": "Hello.", "tone_hz": 300}, {"step": "wait", "ms": 5}, {"step": "close"}]
    path.write_text(json.dumps({"name": "mine", "steps": steps, "repeat_from": 0, "alive": False}))
    assert load_script(path) == Scenario(
        name="mine",
        steps=(Say(text="Hello.", tone_hz=300.0), Wait(ms=5), Close(code=1000)),
        repeat_from=0,
        alive=False,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Input data was truncated"),
        ('{"steps": []}', "Object missing required field `name`"),
        ('{"name": "a", "step": []}', "Object contains unknown field `step`"),
        ('{"name": "a", "steps": [{"step": "sing"}]}', "Invalid value 'sing' - at `$.steps[0].step`"),
        ('{"name": "a", "repeat_from": 1, "steps": [{"step": "ping"}]}', "repeat_from is 1; there are 1 steps"),
        (
            '{"name": "a", "steps": [{"step": "say", "clip": "laughter"}]}',
            "clip 'laughter' is not known; known are " + ", ".join(CLIP_TEXTS) + ", or the path of a .wav file",
        ),
        ('{"name": "a", "steps": [{"step": "raw_binary", "hex": "0"}]}', "hex is '0', which is no hexadecimal text"),
    ],
)
def test_a_wrong_script_is_told_with_file_and_mistake(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_script(path)
    assert str(caught.value) == f"{path}: {problem}"


def test_a_missing_script_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.json: cannot be read \(No such file or directory\)$"):
        load_script(tmp_path / "none.json")
