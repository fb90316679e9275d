from __future__ import annotations

import pytest

from bridge.media.format import ULAW_8K
from bridge.simulators.speech import load_clip
from bridge.simulators.twilio_cloud_media import SILENT_FRAME, key_tones
from bridge.simulators.twilio_line import HangUp, PressKey, Silence
from bridge.simulators.twilio_person import Answer, PersonScript, PhonePerson, PressWhenAsked, WaitUntilJoined


def wishes(
    person: PhonePerson, frames: int, *, asked: bool = False, joined: bool = False, start: int = 0
) -> list[tuple[int, str]]:
    """What a person wants, with the time in ms."""
    found: list[tuple[int, str]] = []
    for frame in range(start, start + frames):
        person.live(frame * 20.0, SILENT_FRAME, asked=asked, joined=joined)
        found += [(frame * 20, wish.digit if isinstance(wish, PressKey) else "hangs up") for wish in person.wishes]
        person.wishes = []
    return found


def person(script: PersonScript) -> PhonePerson:
    return PhonePerson(script, lambda at_ms, what: None)


def test_keys_are_pressed_once_they_are_asked_for() -> None:
    somebody = person(PersonScript(actions=(PressWhenAsked(digits="12", after_ms=40), HangUp())))
    assert wishes(somebody, 10) == []
    assert wishes(somebody, 30, asked=True, start=10) == [(240, "1"), (440, "2"), (440, "hangs up")]


def test_every_gather_may_have_its_own_keys() -> None:
    somebody = person(PersonScript(actions=(PressWhenAsked(digits="1"), PressWhenAsked(digits="2"))))
    assert wishes(somebody, 30, asked=True) == [(100, "1"), (200, "2")]


def test_somebody_waits_until_they_are_joined() -> None:
    somebody = person(PersonScript(actions=(WaitUntilJoined(), PressKey(digit="5"))))
    assert wishes(somebody, 5) == []
    assert wishes(somebody, 5, joined=True, start=5) == [(100, "5")]


def test_hanging_up_at_a_time_ends_every_action() -> None:
    somebody = person(PersonScript(actions=(Silence(ms=10_000), PressKey(digit="1")), hang_up_after_ms=100))
    assert wishes(somebody, 20) == [(100, "hangs up")]


def test_a_machine_says_its_greeting_and_beeps() -> None:
    machine = PersonScript(answer=Answer.MACHINE, greeting="caller_thanks")
    message = machine.machine_message()
    clip = load_clip("caller_thanks")
    assert message.startswith(clip) and len(message) == len(clip) + 3200
    somebody = person(machine)
    said = b"".join(
        somebody.live(i * 20.0, SILENT_FRAME, asked=False, joined=False) for i in range(len(message) // 160)
    )
    assert message.startswith(said[:-160]) and len(said) > len(clip)


@pytest.mark.parametrize(
    ("script", "message_end", "expected"),
    [
        (PersonScript(), False, ("human", 200)),
        (PersonScript(verdict="unknown", verdict_after_ms=7), True, ("unknown", 7)),
        (PersonScript(answer=Answer.MACHINE), False, ("machine_start", 200)),
        (PersonScript(answer=Answer.FAX), True, ("fax", 200)),
    ],
)
def test_what_machine_detection_says(script: PersonScript, message_end: bool, expected: tuple[str, float]) -> None:
    assert script.detect(message_end=message_end) == expected


def test_the_end_of_a_message_is_its_beep() -> None:
    machine = PersonScript(answer=Answer.MACHINE)
    expected_ms = ULAW_8K.duration_ms(len(load_clip("agent_greeting"))) + 400
    assert machine.detect(message_end=True) == ("machine_end_beep", expected_ms)
    assert PersonScript().machine_message() == b""
    assert len(PersonScript(answer=Answer.FAX).machine_message()) == 24_000


@pytest.mark.parametrize(
    ("answer", "code"), [(Answer.PICK_UP, 200), (Answer.BUSY, 486), (Answer.NO_ANSWER, 487), (Answer.FAILS, 404)]
)
def test_sip_codes(answer: Answer, code: int) -> None:
    assert PersonScript(answer=answer).sip_code == code


def test_key_tones_are_what_the_media_package_makes() -> None:
    assert len(key_tones("1w2")) == 8 * (200 + 500 + 200)
