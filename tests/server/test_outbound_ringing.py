"""Ends of placed calls: once, and never of a call whose media came."""

from __future__ import annotations

from bridge import outcome
from bridge.auth.tokens import CallClaims
from bridge.calls.outbound import Failure, OutboundCall, StatusReport
from bridge.server.answer import Connect
from bridge.server.outbound_ringing import Ringing, report_words
from tests.kit.outbound import OURS, SID, THEIRS, UNIX_S, Office, answer_info

FAILURE = Failure(outcome.NO_ANSWER, "no-answer")


async def ringing(office: Office) -> OutboundCall:
    call_id = (await office.place()).call_id
    return office.outbound._ringing.here[call_id].call


async def test_who_comes_second_writes_nothing() -> None:
    office = Office()
    call = await ringing(office)
    for _ in range(2):
        assert await office.outbound._ringing.finish(call, FAILURE, {}, "words", call_sid=SID)
    assert (office.ends, len(office.failures), len(office.counted)) == (["no_answer"], 1, 1)


async def test_the_line_is_looked_up_where_the_report_does_not_name_it() -> None:
    """The token is the line's: without it nobody could tell that the media never came."""
    office = Office()
    call = await ringing(office)
    assert isinstance(await office.outbound.answered(call.call_id, answer_info()), Connect)
    assert await office.outbound._ringing.finish(call, FAILURE, {}, "words")
    assert office.records.last.call_sid == SID


async def test_a_call_whose_media_came_has_not_ended() -> None:
    office = Office()
    call = await ringing(office)
    told = await office.outbound.answered(call.call_id, answer_info())
    assert isinstance(told, Connect)
    assert isinstance(await office.tokens.redeem(told.token, SID), CallClaims)
    assert not await office.outbound._ringing.give_up(call, FAILURE, "no-answer", "words")
    assert (office.ends, office.control.hung_up, office.slots) == ([], [], 1)
    assert await office.outbound._book.over(call.call_id) is None
    assert await office.outbound._book.has_joined(call.call_id)


async def test_letting_go_of_a_call_that_is_not_here() -> None:
    office = Office()
    office.outbound._ringing.let_go("0123456789abcdef")
    assert office.slots == 0


async def test_the_latest_word_counts() -> None:
    entry = Ringing(await ringing(Office()))
    for status, sequence in (("ringing", 1), ("initiated", 0), ("in-progress", 2), ("ringing", 1)):
        entry.note_report(StatusReport(call_sid=SID, status=status, sequence=sequence, account_id="AC1"), 1.0)
    assert (entry.status, entry.sequence, entry.call_sid, entry.account_id) == ("in-progress", 2, SID, "AC1")
    entry.note_answer(50.0)
    entry.note_answer(60.0)
    assert (entry.was_answered, entry.gives_up_s) == (True, 50.0)


async def test_the_words_of_a_report_that_never_came() -> None:
    call = await ringing(Office())
    assert report_words(call, SID, "failed") == {
        "CallSid": SID,
        "CallStatus": "failed",
        "Direction": "outbound-api",
        "From": OURS,
        "To": THEIRS,
    }
    assert call.created_at == UNIX_S
