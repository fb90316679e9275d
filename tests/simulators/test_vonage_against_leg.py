"""The strict simulated socket against the bridge's own leg, joined in virtual time.

Neither imports the other; here each is the judge of the other.
"""

from __future__ import annotations

import pytest

from bridge.events import Accept, Audio, Dtmf, Event, Flush, Mark, Offered, Play, PlaybackReached
from bridge.leg import CloseSocket as LegCloses
from bridge.leg import LegOptions, UpgradeRequest
from bridge.providers.vonage import VonageLeg
from bridge.simulators.vonage_socket import SocketSetup, VonageSocket

T = 500.0
UUID = "63f61863-4a51-4f6b-86e1-0123456789ab"


class Joined:
    """A socket and a leg, without delay between them."""

    def __init__(self, rate_hz: int = 16000, **setup: bool) -> None:
        self.now = T
        self.size = rate_hz // 25
        self.socket = VonageSocket(SocketSetup(rate_hz=rate_hz, headers={"uuid": UUID, "token": "t"}, **setup), T)
        self.leg = VonageLeg(LegOptions(5.0, 30.0, {}), UpgradeRequest("/vonage/media", {}, {}), T)
        self.events: list[Event] = []
        self.turn()
        [offered] = self.events
        assert isinstance(offered, Offered)
        assert (offered.info.call_sid, offered.info.token) == (UUID, "t")
        self.leg.send(Accept(offered.media_choices[0]), self.now)
        self.events.clear()

    def turn(self) -> None:
        """Everything that is under way arrives."""
        self.socket.advance(self.now)
        while out := self.socket.drain():
            for item in out:
                assert isinstance(item, str | bytes)
                self.events += self.leg.receive(item, self.now)
        for sent in self.leg.drain():
            if not isinstance(sent, LegCloses):
                self.socket.receive(sent, self.now)

    def pass_ms(self, ms: int) -> None:
        """Let time pass in frames, with audio both ways."""
        for _ in range(ms // 20):
            self.now += 0.02
            self.socket.send_audio(bytes(self.size))
            self.turn()


@pytest.mark.parametrize("rate_hz", [8000, 16000, 24000])
@pytest.mark.parametrize("size_bytes", [2, 318, 322, 640, 3200, 3334, 10_000])
def test_whatever_is_played_arrives_in_frames_of_20_ms(rate_hz: int, size_bytes: int) -> None:
    both = Joined(rate_hz)
    both.leg.send(Play(b"\x01\x02" * (size_bytes // 2)), both.now)
    both.turn()
    assert both.socket.violations == []
    assert both.socket.frames_received == -(-size_bytes // both.size)
    both.pass_ms(2000)
    assert both.socket.playout.take_heard().strip(b"\0") == b"\x01\x02" * (size_bytes // 2)
    audio = [event for event in both.events if isinstance(event, Audio)]
    assert sum(len(event.payload) for event in audio) == 100 * both.size


@pytest.mark.parametrize("echo_cleared", [False, True])
def test_marks_and_flush(echo_cleared: bool) -> None:
    both = Joined(echo_cleared=echo_cleared)
    both.leg.send(Play(bytes(6400)), both.now)
    both.leg.send(Mark("a"), both.now)
    both.pass_ms(100)
    assert not [event for event in both.events if isinstance(event, PlaybackReached)]
    both.pass_ms(200)
    assert [event for event in both.events if isinstance(event, PlaybackReached)] == [PlaybackReached("a")]
    both.events.clear()
    both.leg.send(Play(bytes(64_000)), both.now)
    both.leg.send(Mark("b"), both.now)
    both.leg.send(Flush(), both.now)
    both.turn()
    both.turn()
    assert [event for event in both.events if isinstance(event, PlaybackReached)] == [PlaybackReached("b")], "once"
    assert [round(clear.dropped_ms) for clear in both.socket.clears] == [2000]
    assert both.socket.violations == []


@pytest.mark.parametrize("nested", [False, True])
def test_keys(nested: bool) -> None:
    both = Joined(nested_dtmf=nested)
    for digit in "0#*":
        both.socket.send_dtmf(digit)
    both.turn()
    assert both.events == [Dtmf("0", 260), Dtmf("#", 260), Dtmf("*", 260)]


@pytest.mark.parametrize("size_bytes", [1, 320, 639, 641, 960, 1280])
def test_a_bridge_that_sent_another_size_would_be_found_out(size_bytes: int) -> None:
    both = Joined()
    both.leg._out.append(bytes(size_bytes))  # the fault: as if the leg neither cut nor padded
    both.turn()
    [violation] = both.socket.violations
    assert violation.text == f"unexpected frame size {size_bytes}, when required 640"
    assert both.socket.over
