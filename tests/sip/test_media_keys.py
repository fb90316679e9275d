from __future__ import annotations

import pytest

from bridge.errors import LocalError
from bridge.sip.media_keys import InfoKeys, check_digits
from bridge.sip.telephone_event import Digit, SenderOptions


def test_keys_are_due_one_after_the_other() -> None:
    keys = InfoKeys("1wW#", SenderOptions(tone_ms=100, gap_ms=100))
    due = {}
    for number in range(200):
        if keys.is_done:
            break
        digit = keys.tick()
        if digit is not None:
            due[number * 20] = digit
    assert due == {0: Digit("1", 100), 200 + 500 + 1000: Digit("#", 100)}
    assert number * 20 == 1900
    assert keys.tick() is None


def test_nothing_is_done_at_once() -> None:
    assert InfoKeys("", SenderOptions()).is_done


@pytest.mark.parametrize("wrong", ["1x", "+49", " ", "1" * 129])
def test_only_keys_can_be_sent_and_they_are_not_shown(wrong: str) -> None:
    for check in (check_digits, lambda digits: InfoKeys(digits, SenderOptions())):
        with pytest.raises(LocalError, match=r"^keys: only 0-9 \* # A-D w W can be sent, at most 128$"):
            check(wrong)


def test_every_key_can_be_sent() -> None:
    check_digits("0123456789*#ABCDwW")
    check_digits("1" * 128)
