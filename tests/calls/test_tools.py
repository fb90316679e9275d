"""What an agent's tool call comes to: an order that may be carried out, or words that its model understands."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls import tool_words as words
from bridge.calls import tools
from bridge.calls.http_tools import HttpParameter, HttpTool, Method, ValueKind
from bridge.calls.orders import (
    EndOrder,
    HoldOrder,
    HttpOrder,
    Order,
    Refused,
    TonesOrder,
    TransferOrder,
    VoicemailOrder,
)
from bridge.calls.tools import (
    END,
    HOLD,
    MAX_MESSAGE_CHARS,
    MAX_REASON_CHARS,
    MAX_TONES,
    RESUME,
    STANDARD_TOOLS,
    TONES,
    TRANSFER,
    VOICEMAIL,
    Abilities,
    Toolbox,
    ToolOptions,
    allowed_patterns,
    checked_names,
    masked_keys,
)
from bridge.leg import ToneWay, TransferKind

FLOW, BLIND, WARM, REFER = TransferKind.FLOW, TransferKind.BLIND, TransferKind.WARM, TransferKind.REFER
NUMBER = "+14155550100"
ORDER_STATUS = HttpTool(
    name="order_status",
    description="Looks up an order.",
    url="https://shop.example.com/orders/{order_id}",
    method=Method.GET,
    parameters=(HttpParameter("order_id", "Number"), HttpParameter("count", "How many", ValueKind.INTEGER, False)),
)
ALLOW = allowed_patterns(["+1*", "+49301234567", "sip:*@pbx.example.com", "Sales"])
BOX = Toolbox(ToolOptions(transfer_allow=ALLOW, http_tools={"order_status": ORDER_STATUS}))
TWILIO = Abilities(frozenset({WARM, BLIND}), ToneWay.EXCURSION)
TRUNK = Abilities(frozenset({WARM, BLIND, REFER}), ToneWay.LEG)
GENESYS = Abilities(frozenset({FLOW}))


def transfer(abilities: Abilities = TWILIO, box: Toolbox = BOX, **parameters: Any) -> Order:
    return box.read(TRANSFER, parameters, abilities)


def refusal(order: Order) -> str:
    assert isinstance(order, Refused), order
    return order.words


# --- transfers: what is asked ---


def test_a_transfer_with_everything() -> None:
    order = transfer(
        transfer_number="+1 (415) 555-0100",
        client_message=" Please hold.\nI am connecting you. ",
        agent_message="A caller with order 7.",
        reason="billing",
        transfer_type="conference",
        post_dial_digits="ww12#",
        something_else={"a": 1},
    )
    assert order == TransferOrder(
        kind=WARM,
        target=NUMBER,
        client_message="Please hold. I am connecting you.",
        agent_message="A caller with order 7.",
        reason="billing",
        post_dial_digits="ww12#",
    )


@pytest.mark.parametrize(
    ("parameters", "target"),
    [
        ({"transfer_number": "0049 30 1234567"}, "+49301234567"),
        ({"sip_uri": "sip:desk@PBX.example.com"}, "sip:desk@pbx.example.com"),
        ({"destination": "+49301234567"}, "+49301234567"),
        ({"transfer_number": "", "sip_uri": None, "destination": NUMBER}, NUMBER),
        ({"transfer_number": NUMBER, "sip_uri": "sip:desk@pbx.example.com"}, NUMBER),
        ({"transfer_number": "sip:desk@pbx.example.com"}, "sip:desk@pbx.example.com"),
    ],
)
def test_where_a_transfer_goes(parameters: dict[str, Any], target: str) -> None:
    assert transfer(**parameters) == TransferOrder(kind=WARM, target=target)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, words.NO_TARGET),
        ({"transfer_number": None, "destination": "  "}, words.NO_TARGET),
        ({"transfer_number": 14155550100}, words.NO_TARGET_TEXT.format(parameter="transfer_number")),
        ({"sip_uri": ["sip:a@b"]}, words.NO_TARGET_TEXT.format(parameter="sip_uri")),
        ({"transfer_number": True}, words.NO_TARGET_TEXT.format(parameter="transfer_number")),
        ({"transfer_number": "x" * 257}, words.UNREADABLE_TARGET),
        ({"sip_uri": "sip:a@b@c"}, words.UNREADABLE_TARGET),
        ({"transfer_number": "030 1234567"}, words.NATIONAL_TARGET),
        ({"transfer_number": "+33140205050"}, words.NOT_ALLOWED),
        ({"destination": "support"}, words.NOT_ALLOWED),
        ({"transfer_number": "sip:112@pbx.example.com"}, words.EMERGENCY),
        ({"destination": "sales"}, words.WORD_TARGET),
        ({"destination": "sales", "transfer_type": "conference"}, words.WORD_TARGET),
        ({"transfer_number": NUMBER, "client_message": 7}, words.NOT_A_TEXT.format(parameter="client_message")),
        ({"transfer_number": NUMBER, "agent_message": []}, words.NOT_A_TEXT.format(parameter="agent_message")),
        ({"transfer_number": NUMBER, "transfer_type": 1}, words.NOT_A_TEXT.format(parameter="transfer_type")),
        ({"transfer_number": NUMBER, "post_dial_digits": 12}, words.NOT_A_TEXT.format(parameter="post_dial_digits")),
        ({"transfer_number": NUMBER, "post_dial_digits": "12,"}, words.WRONG_KEYS.format(parameter="post_dial_digits")),
        (
            {"transfer_number": NUMBER, "transfer_type": "teleport"},
            words.UNKNOWN_KIND.format(kinds="conference, blind"),
        ),
        (
            {"transfer_number": NUMBER, "transfer_type": "sip_refer"},
            words.WRONG_KIND.format(kind="sip_refer", kinds="conference, blind"),
        ),
        (
            {"transfer_number": NUMBER, "transfer_type": "flow"},
            words.WRONG_KIND.format(kind="flow", kinds="conference, blind"),
        ),
    ],
)
def test_a_transfer_that_cannot_be(parameters: dict[str, Any], told: str) -> None:
    assert refusal(transfer(**parameters)) == told


def test_a_line_without_transfers() -> None:
    assert refusal(transfer(Abilities(), transfer_number=NUMBER)) == words.NO_TRANSFERS


def test_without_a_list_nobody_is_transferred() -> None:
    assert refusal(transfer(box=Toolbox(ToolOptions()), transfer_number=NUMBER)) == words.NOT_ALLOWED


def test_an_emergency_number_is_dialled_where_it_is_listed() -> None:
    box = Toolbox(ToolOptions(transfer_allow=allowed_patterns(["112", "*"])))
    assert transfer(box=box, transfer_number="112") == TransferOrder(kind=WARM, target="112")
    assert refusal(transfer(box=box, transfer_number="911")) == words.EMERGENCY


def test_a_reason_that_is_no_text_is_none() -> None:
    assert transfer(transfer_number=NUMBER, reason=["x"]) == TransferOrder(kind=WARM, target=NUMBER)


# --- transfers: how ---


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [
        ("conference", WARM),
        ("Conference Transfer", WARM),
        ("WARM", WARM),
        ("warm-transfer", WARM),
        ("blind", BLIND),
        (" Blind_Transfer ", BLIND),
        ("cold", BLIND),
        ("sip_refer", REFER),
        ("SIP-REFER", REFER),
        ("sip refer transfer", REFER),
        ("refer", REFER),
        ("", WARM),
        ("default", WARM),
        (None, WARM),
    ],
)
def test_spellings_of_the_kind(spelling: str | None, kind: TransferKind) -> None:
    order = transfer(TRUNK, sip_uri="sip:desk@pbx.example.com", transfer_type=spelling)
    assert order == TransferOrder(kind=kind, target="sip:desk@pbx.example.com")


@pytest.mark.parametrize(
    ("possible", "default", "kind"),
    [
        ({WARM, BLIND, FLOW, REFER}, None, WARM),
        ({BLIND, FLOW, REFER}, None, BLIND),
        ({FLOW, REFER}, None, FLOW),
        ({REFER}, None, REFER),
        ({WARM, BLIND}, BLIND, BLIND),
        ({WARM}, BLIND, WARM),
    ],
)
def test_the_kind_that_nobody_asked_for(
    possible: set[TransferKind], default: TransferKind | None, kind: TransferKind
) -> None:
    box = Toolbox(ToolOptions(transfer_allow=ALLOW, default_kind=default))
    order = transfer(Abilities(frozenset(possible)), box, sip_uri="sip:desk@pbx.example.com")
    assert order == TransferOrder(kind=kind, target="sip:desk@pbx.example.com")


def test_what_is_asked_wins_over_the_default() -> None:
    box = Toolbox(ToolOptions(transfer_allow=ALLOW, default_kind=BLIND))
    assert transfer(box=box, transfer_number=NUMBER, transfer_type="warm") == TransferOrder(kind=WARM, target=NUMBER)


def test_refer_takes_sip_addresses() -> None:
    only = Abilities(frozenset({REFER}))
    assert refusal(transfer(TRUNK, transfer_number=NUMBER, transfer_type="sip_refer")) == words.REFER_NEEDS_SIP
    assert refusal(transfer(only, transfer_number=NUMBER)) == words.REFER_NEEDS_SIP


def test_refer_takes_numbers_where_the_carrier_does() -> None:
    only = Abilities(frozenset({REFER}), refer_takes_numbers=True)
    assert transfer(only, transfer_number=NUMBER) == TransferOrder(kind=REFER, target=NUMBER)
    assert refusal(transfer(only, destination="sales")) == words.WORD_TARGET


def test_a_flow_takes_any_word_of_the_list() -> None:
    assert transfer(GENESYS, destination="sales", reason="asked") == TransferOrder(
        kind=FLOW, target="sales", reason="asked"
    )
    assert transfer(GENESYS, transfer_number=NUMBER) == TransferOrder(kind=FLOW, target=NUMBER)
    both = Abilities(frozenset({FLOW, WARM}))
    assert transfer(both, destination="sales") == TransferOrder(kind=FLOW, target="sales")


@pytest.mark.parametrize(("abilities", "kind"), [(GENESYS, "flow"), (TRUNK, "sip_refer")])
def test_keys_after_a_transfer_that_is_out_of_our_hands(abilities: Abilities, kind: str) -> None:
    order = transfer(abilities, sip_uri="sip:desk@pbx.example.com", transfer_type=kind, post_dial_digits="1")
    assert refusal(order) == words.NO_KEYS_AFTER


def test_messages_are_cut_at_a_word() -> None:
    order = transfer(
        transfer_number=NUMBER, client_message="word " * 1_000, agent_message="x" * 5_000, reason="r" * 900
    )
    assert isinstance(order, TransferOrder)
    assert order.client_message == ("word " * (MAX_MESSAGE_CHARS // 5)).strip()
    assert order.agent_message == "x" * MAX_MESSAGE_CHARS
    assert order.reason == "r" * MAX_REASON_CHARS


def test_messages_hold_nothing_that_cannot_be_sent() -> None:
    order = transfer(transfer_number=NUMBER, client_message="a\x00b\ud800\u202e c\t\nd")
    assert order == TransferOrder(kind=WARM, target=NUMBER, client_message="ab c d")


# --- keys ---


@pytest.mark.parametrize(
    ("given", "digits"), [("1", "1"), ("0123456789*#wW", "0123456789*#wW"), (" 1 2 3 # ", "123#"), ("1" * 50, "1" * 50)]
)
def test_keys(given: str, digits: str) -> None:
    assert BOX.read(TONES, {"dtmf_tones": given, "reason": "menu"}, TWILIO) == TonesOrder(digits)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, words.NO_KEYS),
        ({"dtmf_tones": None}, words.NO_KEYS),
        ({"dtmf_tones": ""}, words.NO_KEYS),
        ({"dtmf_tones": "wW"}, words.NO_KEYS),
        ({"dtmf_tones": 12}, words.NOT_A_TEXT.format(parameter="dtmf_tones")),
        ({"dtmf_tones": "12a"}, words.WRONG_KEYS.format(parameter="dtmf_tones")),
        ({"dtmf_tones": "1,2"}, words.WRONG_KEYS.format(parameter="dtmf_tones")),
        ({"dtmf_tones": "\u0661"}, words.WRONG_KEYS.format(parameter="dtmf_tones")),
        ({"dtmf_tones": "1\n"}, words.WRONG_KEYS.format(parameter="dtmf_tones")),
        (
            {"dtmf_tones": "1" * (MAX_TONES + 1)},
            words.TOO_MANY_KEYS.format(parameter="dtmf_tones", most=50, pause_s=20),
        ),
        ({"dtmf_tones": "1" + "W" * 21}, words.TOO_MANY_KEYS.format(parameter="dtmf_tones", most=50, pause_s=20)),
        ({"dtmf_tones": " " * 9_999}, words.TOO_MANY_KEYS.format(parameter="dtmf_tones", most=50, pause_s=20)),
    ],
)
def test_keys_that_cannot_be_pressed(parameters: dict[str, Any], told: str) -> None:
    assert refusal(BOX.read(TONES, parameters, TWILIO)) == told


def test_the_words_name_the_keys_that_there_are() -> None:
    told = refusal(BOX.read(TONES, {"dtmf_tones": "1a"}, TWILIO))
    assert told == (
        "Nothing was done: dtmf_tones has characters that are no keys. Allowed are the digits 0-9, * and #, w for a "
        "pause of half a second and W for a pause of one second. Call the tool again with only these."
    )


def test_a_line_without_tones() -> None:
    assert refusal(BOX.read(TONES, {"dtmf_tones": "1"}, GENESYS)) == words.NO_TONES


def test_keys_can_be_kept_out_of_records() -> None:
    given = {"dtmf_tones": "1234#", "post_dial_digits": ["9"], "reason": "PIN"}
    assert masked_keys(given) == {"dtmf_tones": "***", "post_dial_digits": "***", "reason": "PIN"}
    assert masked_keys({"dtmf_tones": "", "transfer_number": NUMBER}) == {"dtmf_tones": "", "transfer_number": NUMBER}


# --- the others ---


@pytest.mark.parametrize(
    ("name", "parameters", "order"),
    [
        (END, {"reason": "done", "message": "Goodbye!"}, EndOrder("done", "Goodbye!")),
        (END, {}, EndOrder("")),
        (END, {"reason": 7, "message": {}}, EndOrder("")),
        (VOICEMAIL, {"reason": "a beep"}, VoicemailOrder("a beep")),
        (VOICEMAIL, {}, VoicemailOrder("")),
        (HOLD, {}, HoldOrder(True)),
        (RESUME, {"reason": "back"}, HoldOrder(False)),
    ],
)
def test_what_every_line_can(name: str, parameters: dict[str, Any], order: Order) -> None:
    assert BOX.read(name, parameters, Abilities()) == order


def test_a_tool_of_the_operators() -> None:
    assert BOX.read("order_status", {"order_id": "7", "x": 1}, Abilities()) == HttpOrder(
        "order_status", {"order_id": "7"}
    )


def test_a_tool_of_the_operators_with_wrong_parameters() -> None:
    assert refusal(BOX.read("order_status", {"order_id": 7}, Abilities())) == (
        "Nothing was done: order_id must be a text. Ask the caller if you do not know it, then call again."
    )


@pytest.mark.parametrize("name", ["", "open_url", "Transfer_To_Number", "x" * 1_000, "a\n\ud800"])
def test_a_tool_that_there_is_not(name: str) -> None:
    told = refusal(BOX.read(name, {}, TWILIO))
    assert told.startswith(f"The tool {name[:64]!r} is not available on this phone line.")
    told.encode()


# --- names ---


def test_an_agent_may_have_names_of_its_own() -> None:
    box = Toolbox(ToolOptions(names={TRANSFER: "connect", HOLD: ""}, transfer_allow=ALLOW))
    assert box.read("connect", {"transfer_number": NUMBER}, TWILIO) == TransferOrder(kind=WARM, target=NUMBER)
    for name in (TRANSFER, HOLD, ""):
        assert refusal(box.read(name, {}, TWILIO)) == words.UNAVAILABLE.format(name=name)
    assert [box.standard_name(name) for name in ("connect", TRANSFER, END)] == [TRANSFER, "", END]


def test_a_name_that_was_given_up_may_be_the_operators() -> None:
    box = Toolbox(ToolOptions(names={END: "hang_up"}, http_tools={END: HttpTool(END, "x", "https://a.example/")}))
    assert box.read(END, {}, TWILIO) == HttpOrder(END, {})
    box = Toolbox(ToolOptions(http_tools={END: HttpTool(END, "x", "https://a.example/")}))
    assert box.read(END, {}, TWILIO) == EndOrder("")


def test_names_are_checked() -> None:
    given = {TRANSFER: "connect", HOLD: "", RESUME: "hold"}
    assert checked_names(given) == given


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"transfer": "x"},
            "has 'transfer', which is no tool; there are transfer_to_number, play_keypad_touch_tone, end_call, "
            "voicemail_detection, hold, resume",
        ),
        ({END: "hang up"}, "calls end_call what is no name; use up to 64 letters, digits, underscores and hyphens"),
        ({END: "hold"}, "gives two tools the name hold; each needs its own"),
        ({END: "x", HOLD: "x"}, "gives two tools the name x; each needs its own"),
    ],
)
def test_names_that_do_not_work(names: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        checked_names(names)
    assert str(caught.value) == message


# --- whatever comes ---

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARAMETERS = st.dictionaries(
    st.sampled_from(
        [
            *("transfer_number", "sip_uri", "destination", "client_message", "agent_message", "reason"),
            *("transfer_type", "post_dial_digits", "dtmf_tones", "message", "order_id", "count"),
        ]
    )
    | st.text(max_size=5),
    ANYTHING
    | st.sampled_from([NUMBER, "sip:desk@pbx.example.com", "sales", "blind", "sip_refer", "flow", "1w#", "112"])
    | st.from_regex(r"[+0-9*#wW ]{0,60}", fullmatch=True),
)
ABILITIES = st.builds(Abilities, st.frozensets(st.sampled_from(TransferKind)), st.sampled_from(ToneWay), st.booleans())


@given(st.sampled_from([*STANDARD_TOOLS, "order_status", "open_url"]) | st.text(), PARAMETERS, ABILITIES)
def test_whatever_an_agent_asks_it_comes_to_an_order(
    name: str, parameters: dict[str, Any], abilities: Abilities
) -> None:
    order = BOX.read(name, parameters, abilities)
    assert isinstance(order, get_args(Order))
    if isinstance(order, Refused):
        assert order.words.endswith((".", ")"))
        order.words.encode()
    if isinstance(order, TransferOrder):
        assert order.kind in abilities.transfers
        assert len(order.client_message) <= MAX_MESSAGE_CHARS
        (order.client_message + order.agent_message + order.reason + order.target).encode()
    if isinstance(order, TonesOrder):
        assert set(order.digits) <= set("0123456789*#wW")
        assert abilities.tones is not ToneWay.NONE


def test_the_words_of_results_are_at_hand() -> None:
    assert tools.PRESSED == words.KEYS_PRESSED
    assert all(hasattr(tools, name) for name in tools.__all__)
