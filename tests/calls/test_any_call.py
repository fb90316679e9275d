"""Whatever happens to a call, in any order: nothing raises, it ends once, and nobody gets anything twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import events, outcome
from bridge.calls.effects import AskAdmission, ConnectAgent, DigitsTyped, Finished, Heard, Note
from bridge.calls.http_tools import HttpTool
from bridge.calls.keypad import KeypadOptions
from bridge.calls.machine import MachineAction, MachineOptions
from bridge.calls.options import CallOptions
from bridge.calls.state import State
from bridge.calls.tools import Abilities, ToolOptions
from bridge.convai.messages import InitiationData
from bridge.leg import CloseSocket, ToneWay, TransferKind
from tests.kit import convai, twilio
from tests.kit.calls import OPTIONS, Line
from tests.kit.legs import FAKE_SPEC, FakeLeg, caller_audio, offer

LOOK_UP = HttpTool("look_up", "d", "https://t.example/a", timeout_s=3.0)
TOOLS = ToolOptions(transfer_allow=("*",), http_tools={"look_up": LOOK_UP})


def options(kinds: set[TransferKind], tones: ToneWay, action: MachineAction, *, apologise: bool) -> CallOptions:
    return dataclasses.replace(
        OPTIONS,
        tools=TOOLS,
        abilities=Abilities(frozenset(kinds), tones),
        keypad=KeypadOptions(redact=apologise),
        machine=MachineOptions(action, "Hello"),
        reconnect_s=2.0,
        apologise=apologise,
        results_wait_s=2.0,
        tool_timeout_s=4.0,
    )


class Driver:
    """Does to a line what a driver may do, and no more: it answers only what it was asked."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.said = 0  # frames of agent audio so far
        self.tickets: list[int] = []
        self.called: list[tuple[str, str, dict[str, object]]] = []  # tools
        self.connections = 0  # connections to the agent that were made
        self.begun: set[int] = set()  # conversations that were started, by ``id``

    @property
    def _asked_for(self) -> int:
        return sum(isinstance(effect, ConnectAgent) for effect in self.line.effects)

    @property
    def _hears_agent(self) -> bool:
        return id(self.line.call.conversation) in self.begun

    # --- the agent's side ---

    def connect(self) -> None:
        if self.connections < self._asked_for:
            self.connections = self._asked_for
            self.begun.add(id(self.line.call.conversation))
            self.line.call.agent_connected(InitiationData(), self.line.clock.now)
            self.line.drain()

    def agent(self, message: str) -> None:
        if self._hears_agent:
            self.line.agent(message)

    def ready(self) -> None:
        self.connect()
        self.agent(convai.metadata())

    def speak(self, frames: int) -> None:
        numbers = range(self.said + 1, self.said + 1 + frames)
        self.said += frames
        self.agent(convai.audio(b"".join(bytes([number % 120 + 1]) * 160 for number in numbers), event_id=None))

    def tool(self, name: str, **parameters: object) -> None:
        if self._hears_agent:
            self.called.append((name, f"t{len(self.called)}", parameters))
            self.repeat()

    def repeat(self) -> None:
        if self._hears_agent and self.called:
            name, call_id, parameters = self.called[-1]
            self.line.tool(name, call_id, **parameters)

    def answer(self, back: int, *, is_error: bool = False) -> None:
        """To one of the latest tool calls."""
        for _, call_id, _ in self.called[-back:][:1]:
            self.line.answer(call_id, is_error=is_error)

    def agent_lost(self, code: int) -> None:
        if self._asked_for:
            self.line.agent_lost(code)

    # --- the driver itself ---

    def admit(self) -> None:
        if self.line.call.state in (State.ADMITTING, State.QUEUED):
            self.line.admit()

    def hold(self) -> None:
        if self.line.call.state in (State.ADMITTING, State.QUEUED):
            self.line.queue()

    def refuse(self) -> None:
        if self.line.call.state in (State.ADMITTING, State.QUEUED):
            self.line.refuse(outcome.CAPACITY)

    def ask(self) -> None:
        self.tickets.append(self.line.ask_heard())

    def put_on_hold(self, on: bool) -> None:
        self.line.call.put_on_hold(on, self.line.clock.now)
        self.line.drain()

    def results(self) -> None:
        self.line.call.give_results({"a": "1"}, self.line.clock.now)
        self.line.drain()

    def over(self) -> None:
        self.line.call.line_over(outcome.CALLER_HANGUP, "completed", self.line.clock.now)
        self.line.drain()

    def handed_over(self) -> None:
        self.line.call.handed_over("blind", self.line.clock.now)
        self.line.drain()


def _of_the_agent(driver: Driver) -> dict[str, Callable[[], None]]:
    return {
        "connect": driver.connect,
        "ready": driver.ready,
        "speak": lambda: driver.speak(3),
        "speak long": lambda: driver.speak(60),
        "interrupt": lambda: driver.agent(convai.interruption(1)),
        "turn": lambda: driver.agent(convai.agent_response("Hello")),
        "fault": lambda: driver.agent(convai.error(1011, "x", "y")),
        "transfer": lambda: driver.tool("transfer_to_number", transfer_number="+14155550100", client_message="W"),
        "blind": lambda: driver.tool("transfer_to_number", transfer_number="+14155550100", transfer_type="blind"),
        "tones": lambda: driver.tool("play_keypad_touch_tone", dtmf_tones="12"),
        "look up": lambda: driver.tool("look_up"),
        "end": lambda: driver.tool("end_call", reason="r", message="Bye"),
        "end at once": lambda: driver.tool("end_call", reason="r"),
        "voicemail": lambda: driver.tool("voicemail_detection", reason="beep"),
        "hold tool": lambda: driver.tool("hold"),
        "resume tool": lambda: driver.tool("resume"),
        "unknown tool": lambda: driver.tool("dance"),
        "agent gone": lambda: driver.agent_lost(1006),
        "agent good-bye": lambda: driver.agent_lost(1000),
        "quota": lambda: driver.agent(convai.FLAT_ERROR),
    }


def _of_the_driver(driver: Driver) -> dict[str, Callable[[], None]]:
    line = driver.line
    return {
        "admit": driver.admit,
        "queue": driver.hold,
        "refuse": driver.refuse,
        "ask heard": driver.ask,
        "repeat tool": driver.repeat,
        "answer last": lambda: driver.answer(1),
        "answer second": lambda: driver.answer(2, is_error=True),
        "answer third": lambda: driver.answer(3),
        "speech": lambda: line.speech(b"\xf0" * 1600),
        "no speech": lambda: line.speech(None),
        "machine": lambda: line.verdict("machine_end_beep"),
        "human": lambda: line.verdict("human"),
        "hold": lambda: driver.put_on_hold(True),
        "unhold": lambda: driver.put_on_hold(False),
        "results": driver.results,
        "line over": driver.over,
        "handed over": driver.handed_over,
        "unreachable": lambda: line.fail(outcome.AGENT_UNREACHABLE),
        "carrier stuck": lambda: line.carrier_writable(False),
        "carrier moves": lambda: line.carrier_writable(True),
        "agent stuck": lambda: line.agent_writable(False),
        "agent moves": lambda: line.agent_writable(True),
        "carrier lost": line.carrier_lost,
        "wait a little": lambda: line.run(0.15),
        "wait": lambda: line.run(1.1),
        "wait long": lambda: line.run(5.0),
    }


def _of_twilio(driver: Driver) -> dict[str, Callable[[], None]]:
    line = driver.line

    def first() -> None:
        if line.call.state is State.WAITING:
            line.offer()

    def come_back() -> None:
        if line.call.is_waited_for:
            line.come_back()

    def after_start(act: Callable[[], None]) -> Callable[[], None]:
        def happens() -> None:
            if line.call.state is not State.WAITING:
                act()

        return happens

    def marks() -> None:
        line.reached(*twilio.marks(line.to_carrier))

    return (
        _of_the_agent(driver)
        | _of_the_driver(driver)
        | {
            "offer": first,
            "say": after_start(lambda: line.say(b"\x01" * 160)),
            "key": after_start(lambda: line.carrier(twilio.dtmf("4", stream_sid=line.stream_sid))),
            "marks": after_start(marks),
            "stop": after_start(line.stop),
            "let leave": line.let_leave,
            "stayed": line.stayed,
            "come back": come_back,
        }
    )


def _of_another(driver: Driver, leg: FakeLeg) -> dict[str, Callable[[], None]]:
    line = driver.line

    def event(*coming: events.Event) -> Callable[[], None]:
        def happens() -> None:
            if line.call.state not in (State.WAITING, State.ENDED):
                leg.coming = list(coming)
                line.carrier("x")

        return happens

    def first() -> None:
        if line.call.state is State.WAITING:
            leg.coming = [offer()]
            line.carrier("x")

    def marks() -> None:
        names = [command.name for command in leg.commands if isinstance(command, events.Mark)]
        event(*(events.PlaybackReached(name) for name in names))()

    return (
        _of_the_agent(driver)
        | _of_the_driver(driver)
        | {
            "offer": first,
            "say": event(caller_audio(b"\x01" * 160)),
            "key": event(events.Dtmf("4")),
            "marks": marks,
            "stop": event(events.Ended(outcome.CALLER_HANGUP)),
            "pause": event(events.Paused()),
            "resume": event(events.Resumed()),
        }
    )


_OPENINGS = [[], ["offer"], ["offer", "queue"], ["offer", "admit"], *[["offer", "admit", "ready"]] * 6]
_SAMPLE = Line()
_TWILIO_HAPPENINGS = sorted(_of_twilio(Driver(_SAMPLE)))
_OTHER_HAPPENINGS = sorted(_of_another(Driver(_SAMPLE), FakeLeg()))
_ACTIONS = st.sampled_from(list(MachineAction))
_TWILIO_KINDS = {TransferKind.WARM, TransferKind.BLIND}


def assert_sound(driver: Driver) -> None:
    """What holds after every step."""
    line = driver.line
    ended = line.call.state is State.ENDED
    assert len(line.finished()) == ended
    heard = line.heard()
    assert len(heard) == len(set(heard))
    assert not ended or set(heard) == set(driver.tickets), "nobody waits for a call that is over"
    if line.call.state is State.RECONNECTING and not driver._hears_agent:
        assert line.call.conversation.messages_received == 0


def assert_answered_once(line: Line) -> None:
    """At most one result for an id in a conversation, and nothing before a conversation's first message."""
    answered: list[str] = []
    begun = False
    for item in twilio.sent(line.to_agent):
        if isinstance(item, CloseSocket):
            continue
        if item.get("type") == "conversation_initiation_client_data":
            answered, begun = [], True
            continue
        assert begun, item
        if item.get("type") == "client_tool_result":
            assert item["tool_call_id"] not in answered
            answered.append(item["tool_call_id"])


def assert_in_order(driver: Driver, played: bytes) -> None:
    """What the agent said comes in order, nothing twice; hold audio and silence may stand between."""
    assert len(played) % 160 == 0
    frames = [played[at : at + 160] for at in range(0, len(played), 160)]
    numbers = [frame[0] - 1 for frame in frames if frame == frame[:1] * 160 and 1 <= frame[0] <= 120]
    spoken = iter([number % 120 for number in range(1, driver.said + 1)])
    assert all(any(number == later for later in spoken) for number in numbers)


def run(driver: Driver, table: dict[str, Callable[[], None]], happenings: list[str]) -> None:
    """Let it all happen, then the end; afterwards nothing comes out any more."""
    line = driver.line
    for name in happenings:
        over = line.call.state is State.ENDED
        sizes = len(line.to_carrier), len(line.to_agent), len(line.effects)
        table[name]()
        assert_sound(driver)
        if over:
            assert (len(line.to_carrier), len(line.to_agent)) == sizes[:2], name
            assert all(isinstance(effect, Heard) for effect in line.effects[sizes[2] :]), name
    line.fail(outcome.OPERATOR_HANGUP)
    line.run(100.0)
    assert_sound(driver)
    assert_answered_once(line)
    after = line.effects[next(at for at, effect in enumerate(line.effects) if isinstance(effect, Finished)) + 1 :]
    assert not [effect for effect in after if isinstance(effect, Note | DigitsTyped | ConnectAgent | AskAdmission)]


@given(st.sampled_from(_OPENINGS), st.lists(st.sampled_from(_TWILIO_HAPPENINGS), max_size=30), _ACTIONS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_twilio_call(opening: list[str], happenings: list[str], action: MachineAction, apologise: bool) -> None:
    line = Line(options=options(_TWILIO_KINDS, ToneWay.EXCURSION, action, apologise=apologise))
    driver = Driver(line)
    run(driver, _of_twilio(driver), opening + happenings)
    assert_in_order(driver, line.played())


@given(st.sampled_from(_OPENINGS), st.lists(st.sampled_from(_OTHER_HAPPENINGS), max_size=30), _ACTIONS, st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_call_of_a_carrier_with_a_flow(
    opening: list[str], happenings: list[str], action: MachineAction, apologise: bool
) -> None:
    leg = FakeLeg()
    spec = dataclasses.replace(FAKE_SPEC, takes_results=True)
    line = Line(leg=leg, spec=spec, options=options({TransferKind.FLOW}, ToneWay.LEG, action, apologise=apologise))
    driver = Driver(line)
    run(driver, _of_another(driver, leg), opening + happenings)
    assert_in_order(driver, b"".join(c.payload for c in leg.commands if isinstance(c, events.Play)))
