"""The simulated phone and the simulated trunk with each other: both find nothing wrong with the other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge.media.format import ULAW_8K, Encoding
from bridge.media.tones import dominant_frequencies
from bridge.simulators.genesys_person import AnyAction, Hold, ReportError
from bridge.simulators.sip_leg_options import HoldBy, Keys, LegOptions, Referral
from bridge.simulators.sip_phone import SipPhone, SipPhoneOptions, call_sip
from bridge.simulators.sip_result import SipResult
from bridge.simulators.sip_terms import Wanted
from bridge.simulators.sip_trunk import SipTrunk, SipTrunkOptions, TrunkScript
from bridge.simulators.speech import decode, load_clip
from bridge.simulators.twilio_line import HangUp, LoseAudio, PressKey, Silence, Speak, WaitForClose
from bridge.sip.flow import Transport
from bridge.sip.telephone_event import SenderOptions

CALLED = "+15550123"
FRAME_BYTES = 160
SHORT = SenderOptions(tone_ms=60, gap_ms=60)


async def both(
    script: TrunkScript, *actions: AnyAction, transport: str = "udp", **more: Any
) -> tuple[SipResult, SipResult]:
    """One call; what came of it for the phone and for the trunk."""
    async with SipTrunk(SipTrunkOptions(people={CALLED: script})) as trunk:
        to = f"sip:{CALLED}@{trunk.address};transport={transport}"
        options = SipPhoneOptions(to=to, actions=actions, **{"max_duration_s": 10.0, "key_timing": SHORT, **more})
        heard = await call_sip(options)
        there = await trunk.ended(trunk.calls[-1])
        assert [str(violation) for violation in trunk.violations] == []
        assert [str(violation) for violation in heard.violations] == []
        return heard, there


def share(clip: str, heard: bytes | bytearray) -> float:
    """How many pieces of a clip are heard unchanged."""
    said = load_clip(clip)
    pieces = [said[start : start + FRAME_BYTES] for start in range(0, len(said) - FRAME_BYTES, FRAME_BYTES)]
    return sum(bytes(heard).find(piece) >= 0 for piece in pieces) / len(pieces)


@pytest.mark.e2e
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_speech_goes_both_ways(transport: str) -> None:
    script = TrunkScript(actions=(Speak(clip="caller_thanks"), WaitForClose()), ring_ms=50.0)
    phone, trunk = await both(script, Speak(clip="caller_interruption"), Silence(ms=200), HangUp(), transport=transport)
    assert (phone.status, phone.ended_by, trunk.ended_by) == (200, "caller", "bridge")
    assert phone.statuses == [100, 180, 200]
    assert phone.succeeded
    assert share("caller_thanks", phone.heard) > 0.95
    assert share("caller_interruption", trunk.heard) > 0.95
    for result in (phone, trunk):
        assert (result.rtp.lost, result.rtp.duplicates, result.rtp.sources) == (0, 0, 1)
        assert result.rtp.pacing.count > 50
    assert phone.trying_ms is not None
    assert phone.ringing_ms is not None
    assert phone.answered_ms is not None
    assert phone.trying_ms <= phone.ringing_ms <= phone.answered_ms


@pytest.mark.parametrize("codec", [Encoding.ULAW, Encoding.ALAW])
@pytest.mark.parametrize("ptime_ms", [10, 20, 30])
async def test_codecs_and_packet_times(codec: Encoding, ptime_ms: int) -> None:
    wanted = Wanted(codecs=(codec,), ptime_ms=ptime_ms)
    async with SipTrunk(SipTrunkOptions(default=TrunkScript(ring_ms=0))) as trunk:
        to = f"sip:{CALLED}@{trunk.address}"
        phone = await call_sip(SipPhoneOptions(to=to, actions=(Silence(ms=200), HangUp()), wanted=wanted))
        there = await trunk.ended(trunk.calls[0])
        assert phone.encoding == codec.value
        assert there.rtp.received == pytest.approx(200 / ptime_ms, abs=4)
        odd = [violation.rule for violation in trunk.violations]
        assert bool(odd) == (ptime_ms != 20), "the bridge must send 20 ms"


@pytest.mark.parametrize("keys", list(Keys))
async def test_keys(keys: Keys) -> None:
    pressed = (PressKey(digit="4"), Silence(ms=250), PressKey(digit="#"), Silence(ms=250))
    _, trunk = await both(TrunkScript(ring_ms=0), Silence(ms=60), *pressed, HangUp(), keys=keys)
    assert (trunk.heard_digits() if keys is Keys.TONES else trunk.digits) == "4#"
    assert bool(trunk.infos) == (keys is Keys.INFO)


async def test_keys_of_the_trunk() -> None:
    script = TrunkScript(actions=(Silence(ms=60), PressKey(digit="7"), Silence(ms=300), HangUp()), ring_ms=0)
    phone, _ = await both(script, WaitForClose())
    assert (phone.digits, phone.ended_by) == ("7", "bridge")


@pytest.mark.parametrize("hold", list(HoldBy))
async def test_hold_and_resume(hold: HoldBy) -> None:
    phone, trunk = await both(
        TrunkScript(ring_ms=0), Silence(ms=100), Hold(ms=200), Silence(ms=200), HangUp(), hold=hold
    )
    assert (phone.holds, trunk.media_changes) == (1, 2)
    assert trunk.rtp.sent < trunk.duration_ms / 20 - 5, "nothing is sent to one who holds"


async def test_the_trunk_holds() -> None:
    script = TrunkScript(actions=(Silence(ms=60), Hold(ms=100), Silence(ms=100), HangUp()), ring_ms=0)
    phone, _ = await both(script, WaitForClose())
    assert phone.media_changes == 2


async def test_a_delayed_offer_and_an_offer_asked_for() -> None:
    async with SipTrunk(SipTrunkOptions(default=TrunkScript(ring_ms=0))) as trunk:
        options = SipPhoneOptions(
            to=f"sip:{CALLED}@{trunk.address}", is_delayed_offer=True, actions=(Silence(ms=400), HangUp())
        )
        phone = SipPhone(options)
        running = asyncio.create_task(phone.run())
        await trunk.next_call()
        await phone.leg.confirmed.wait()
        response = await phone.leg.reinvite_without_offer()
        result = await running
        assert response is not None
        assert response.status == 200
        assert (result.violations, trunk.violations) == ((), ())
        assert result.rtp.received > 5


@pytest.mark.parametrize("is_reliable", [False, True])
async def test_early_media(is_reliable: bool) -> None:
    script = TrunkScript(provisional=(183,), is_reliable=is_reliable, ring_ms=200.0)
    phone, _ = await both(script, Silence(ms=100), HangUp())
    assert phone.statuses == [100, 183, 200]
    assert phone.rtp.early_received >= 5
    assert ("\nPRACK sip:" in phone.trace) == is_reliable


@pytest.mark.parametrize("status", [486, 503, 603])
async def test_refusals(status: int) -> None:
    phone, trunk = await both(TrunkScript(status=status, ring_ms=0, fields=(("Retry-After", "5"),)))
    assert (phone.status, phone.ended_by, trunk.ended_by) == (status, "refused", "refused")
    assert not phone.succeeded


@pytest.mark.parametrize("after_ms", [0.0, 60.0])
async def test_cancel(after_ms: float) -> None:
    phone, trunk = await both(TrunkScript(status=0), cancel_after_ms=after_ms)
    assert (phone.status, phone.ended_by) == (487, "caller")
    assert trunk.ended_by == "bridge"


@pytest.mark.parametrize("challenge", [401, 407])
async def test_credentials(challenge: int) -> None:
    script = TrunkScript(username="bridge", password="secret", challenge=challenge, ring_ms=0)
    phone, trunk = await both(script, Silence(ms=60), HangUp(), username="bridge", password="secret")
    assert (phone.status, phone.challenges, trunk.challenges) == (200, 1, 1)


async def test_wrong_credentials_are_seen() -> None:
    script = TrunkScript(username="bridge", password="secret")
    async with SipTrunk(SipTrunkOptions(default=script)) as trunk:
        options = SipPhoneOptions(to=f"sip:{CALLED}@{trunk.address}", username="bridge", password="wrong")
        result = await call_sip(options)
        assert (result.status, result.ended_by) == (401, "refused")
        assert [violation.rule for violation in trunk.violations] == ["RFC 7616 3.4.1"]


@pytest.mark.parametrize("progress", [(100, 200), (486,), ()])
async def test_a_referral(progress: tuple[int, ...]) -> None:
    async with SipTrunk(SipTrunkOptions(default=TrunkScript(ring_ms=0))) as trunk:
        referral = Referral(progress=progress, interval_s=0.02)
        options = SipPhoneOptions(
            to=f"sip:{CALLED}@{trunk.address}", actions=(Silence(ms=400), HangUp()), referral=referral
        )
        running = asyncio.create_task(call_sip(options))
        call = await trunk.next_call()
        await call.leg.confirmed.wait()
        response = await call.leg.ask("REFER", ("Refer-To", "<sip:+4930123456@trunk.example.com>"))
        result = await running
        assert response is not None
        assert response.status == 202
        assert result.referred_to == ["<sip:+4930123456@trunk.example.com>"]
        assert result.ended_by == ("caller" if progress == (486,) else "transferred")


async def test_a_route_set() -> None:
    async with SipTrunk() as trunk:
        routes = (f"<sip:{trunk.address};lr;hop=1>", f"<sip:{trunk.address};lr;hop=2>")
        script = TrunkScript(ring_ms=0, record_routes=routes, actions=(Silence(ms=100), WaitForClose()))
        trunk.options = SipTrunkOptions(default=script)
        options = SipPhoneOptions(to=f"sip:{CALLED}@{trunk.address}", actions=(Silence(ms=60), HangUp()))
        result = await call_sip(options)
        bye = next(part for part in result.trace.split(">>> ") if "\nBYE " in part)
        assert [line for line in bye.splitlines() if line.startswith("Route:")] == [
            f"Route: {routes[1]}",
            f"Route: {routes[0]}",
        ]
        assert result.ended_by == "caller"


async def test_nobody_is_there() -> None:
    options = SipPhoneOptions(to="sip:+15550123@127.0.0.1:9", t1_s=0.004)
    result = await call_sip(options)
    assert (result.status, result.ended_by) == (0, "lost")
    assert 4 <= result.trace.count("INVITE sip:") <= 7, "once, and by timer A until timer B"


async def test_silence_on_the_trunk_is_repeated_into() -> None:
    async with SipTrunk(SipTrunkOptions(default=TrunkScript(is_silent=True))) as trunk:
        result = await call_sip(SipPhoneOptions(to=f"sip:{CALLED}@{trunk.address}", t1_s=0.004))
        assert result.ended_by == "lost"
        assert trunk.parties[Transport.UDP].retransmissions >= 3


async def test_an_ack_that_never_comes_is_seen() -> None:
    async with SipTrunk(SipTrunkOptions(default=TrunkScript(ring_ms=0), t1_s=0.01)) as trunk:
        options = SipPhoneOptions(
            to=f"sip:{CALLED}@{trunk.address}", acks=False, actions=(Silence(ms=1000),), max_duration_s=0.9
        )
        result = await call_sip(options)
        assert result.retransmissions >= 3
        assert "200 to INVITE was never acknowledged" in [violation.text for violation in trunk.violations]


async def test_lost_audio_and_a_mute_caller() -> None:
    _, trunk = await both(TrunkScript(ring_ms=0), Silence(ms=100), LoseAudio(ms=200), Silence(ms=100), HangUp())
    assert len(trunk.rtp.gaps) == 1
    assert trunk.rtp.gaps[0].length_ms == pytest.approx(220, abs=60)
    _, trunk = await both(TrunkScript(ring_ms=0), Silence(ms=100), HangUp(), is_mute=True)
    assert trunk.rtp.received == 0


async def test_options_outside_of_a_call() -> None:
    async with SipTrunk() as trunk:
        phone = SipPhone(SipPhoneOptions(to=f"sip:{CALLED}@{trunk.address}"))
        await phone.open()
        response = await phone.ping()
        await phone.close()
        assert response is not None
        assert (response.status, trunk.pings, phone.notes.violations) == (200, 1, [])


async def test_a_recording_has_both_sides(tmp_path: Path) -> None:
    target = tmp_path / "call.wav"
    script = TrunkScript(ring_ms=0)
    await both(script, Silence(ms=100), HangUp(), recording=target)
    assert target.stat().st_size > 2000


async def test_headers_and_names_go_out() -> None:
    script = TrunkScript(status=486, ring_ms=0)
    _, trunk = await both(script, headers={"X-CALL-ID": "7"}, display_name="Ann")
    assert trunk.invite["X-CALL-ID"] == "7"
    assert trunk.invite["From"].startswith('"Ann" <sip:+15550100@')


async def test_the_ring_back_tone_is_440_hz() -> None:
    script = TrunkScript(provisional=(183,), ring_ms=400.0)
    async with SipTrunk(SipTrunkOptions(default=script)) as trunk:
        options = SipPhoneOptions(to=f"sip:{CALLED}@{trunk.address}", actions=(Silence(ms=100), HangUp()))
        await call_sip(options)
        there = await trunk.ended(trunk.calls[0])
        said = decode(bytes(there.said[800:2400]), ULAW_8K)
        [peak] = dominant_frequencies(said, 8000)
        assert peak.frequency_hz == pytest.approx(440, abs=8)


def test_options_that_do_not_work() -> None:
    for to, said in (("tel:+1", "sip:"), ("sip:", "no SIP URI"), ("sip:a@b;transport=sctp", "udp, tcp or tls")):
        with pytest.raises(ValueError, match=said):
            SipPhone(SipPhoneOptions(to=to))
    with pytest.raises(ValueError, match="telephone"):
        LegOptions(actions=(ReportError(),))


async def test_results_for_people_and_programs() -> None:
    phone, _ = await both(TrunkScript(ring_ms=0), Silence(ms=60), HangUp())
    assert "ended by caller" in phone.to_text()
    document = phone.to_json()
    assert (document["status"], document["violations"], document["gap_count"]) == (200, (), 0)
    assert "heard" not in document
    assert document["rtp"]["received"] == phone.rtp.received
