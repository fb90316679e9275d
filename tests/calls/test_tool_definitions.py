"""The definitions of the tools: the vendor's schema, what each carrier can do, and time-outs that outlast the work."""

from __future__ import annotations

from typing import Any

import pytest
from elevenlabs.types import ClientToolConfigInput, ToolRequestModel
from elevenlabs.types.tool_request_model_tool_config import ToolRequestModelToolConfig_Client

from bridge.calls.http_tools import TOOL_NAME, HttpParameter, HttpTool, ValueKind
from bridge.calls.orders import Refused
from bridge.calls.tool_definitions import (
    FOREVER,
    ExportOptions,
    ToolDefinition,
    bound_s,
    definitions,
    vendor_timeout_s,
)
from bridge.calls.tools import (
    END,
    HOLD,
    RESUME,
    STANDARD_TOOLS,
    TONES,
    TRANSFER,
    VOICEMAIL,
    Abilities,
    Toolbox,
    ToolOptions,
)
from bridge.leg import ToneWay, TransferKind

FLOW, BLIND, WARM, REFER = TransferKind.FLOW, TransferKind.BLIND, TransferKind.WARM, TransferKind.REFER
LITERAL = {"type", "description", "enum"}
ORDER_STATUS = HttpTool(
    name="order_status",
    description="Looks up an order.",
    url="https://shop.example.com/orders",
    timeout_s=4.5,
    parameters=(
        HttpParameter("order_id", "Number"),
        HttpParameter("count", "How many", ValueKind.INTEGER, required=False),
        HttpParameter("size", "Which", required=False, choices=("small", "large")),
    ),
)
TOOLS = ExportOptions(http_tools={"order_status": ORDER_STATUS})


def by_name(options: ExportOptions = TOOLS, abilities: Abilities | None = None) -> dict[str, ToolDefinition]:
    return {each.name: each for each in definitions(options, abilities)}


def properties(definition: ToolDefinition) -> dict[str, Any]:
    return {} if definition.parameters is None else definition.parameters["properties"]


def required(definition: ToolDefinition) -> list[str]:
    assert definition.parameters is not None
    found: list[str] = definition.parameters["required"]
    return found


def test_keypad_tones_to_the_letter() -> None:
    assert by_name()[TONES].document() == {
        "type": "client",
        "name": "play_keypad_touch_tone",
        "description": "Presses keys on the telephone, to get through a menu or to enter an extension or code. Listen "
        "to what the line answers before you press more.",
        "parameters": {
            "type": "object",
            "properties": {
                "dtmf_tones": {
                    "type": "string",
                    "description": "The keys in order, up to 50: 0-9, * and #, w for a pause of half a second, W for "
                    "a pause of a second",
                },
                "reason": {"type": "string", "description": "Why, in a few words; for the records only"},
            },
            "required": ["dtmf_tones"],
        },
        "response_timeout_secs": 60,
        "execution_mode": "immediate",
        "expects_response": True,
        "tool_error_handling_mode": "passthrough",
    }


def test_all_of_them() -> None:
    found = by_name()
    assert list(found) == [*STANDARD_TOOLS, "order_status"]
    assert {each.execution_mode for name, each in found.items() if name in (TRANSFER, END, HOLD)} == {
        "post_tool_speech"
    }
    assert {each.execution_mode for name, each in found.items() if name not in (TRANSFER, END, HOLD)} == {"immediate"}
    assert "parameters" not in found[RESUME].document()
    assert required(found[VOICEMAIL]) == ["reason"]
    assert required(found[TRANSFER]) == []
    assert list(properties(found[TRANSFER])) == [
        "transfer_number",
        "sip_uri",
        "client_message",
        "agent_message",
        "reason",
        "post_dial_digits",
        "transfer_type",
    ]
    assert properties(found[TRANSFER])["transfer_type"]["enum"] == ["conference", "blind", "sip_refer"]


@pytest.mark.parametrize("name", [*STANDARD_TOOLS, "order_status"])
def test_the_vendors_own_types_take_them(name: str) -> None:
    document = by_name()[name].document()
    ClientToolConfigInput.model_validate(document, strict=True)
    request = ToolRequestModel.model_validate({"tool_config": document})
    assert isinstance(request.tool_config, ToolRequestModelToolConfig_Client)
    assert not request.tool_config.model_extra  # nothing that the vendor's schema does not have
    assert request.tool_config.name == name
    assert TOOL_NAME.fullmatch(name)
    assert request.tool_config.response_timeout_secs is not None
    assert 1 <= request.tool_config.response_timeout_secs <= 120
    for about in document.get("parameters", {}).get("properties", {}).values():
        assert set(about) <= LITERAL
        assert about["description"]


def test_a_tool_of_the_operators() -> None:
    assert by_name()["order_status"].document() == {
        "type": "client",
        "name": "order_status",
        "description": "Looks up an order.",
        "parameters": {
            "type": "object",
            "properties": {
                "order_id": {"type": "string", "description": "Number"},
                "count": {"type": "integer", "description": "How many"},
                "size": {"type": "string", "description": "Which", "enum": ["small", "large"]},
            },
            "required": ["order_id"],
        },
        "response_timeout_secs": 15,
        "execution_mode": "immediate",
        "expects_response": True,
        "tool_error_handling_mode": "passthrough",
    }
    bare = HttpTool("ping", "Pings.", "https://a.example/")
    assert by_name(ExportOptions(http_tools={"ping": bare}))["ping"].parameters is None


# --- what a carrier can do ---


def test_a_flow_takes_words_and_nothing_more() -> None:
    found = by_name(TOOLS, Abilities(frozenset({FLOW})))
    assert list(found) == [TRANSFER, END, VOICEMAIL, HOLD, RESUME, "order_status"]
    assert list(properties(found[TRANSFER])) == ["destination", "reason"]
    assert required(found[TRANSFER]) == ["destination"]


def test_a_line_that_can_nothing() -> None:
    assert list(by_name(TOOLS, Abilities())) == [END, VOICEMAIL, HOLD, RESUME, "order_status"]


@pytest.mark.parametrize(
    ("transfers", "kinds", "missing"),
    [
        ({WARM, BLIND}, ["conference", "blind"], set()),
        ({BLIND, REFER}, ["blind", "sip_refer"], {"agent_message"}),
        ({WARM}, None, {"transfer_type"}),
        ({REFER}, None, {"transfer_type", "agent_message", "post_dial_digits"}),
        ({FLOW, BLIND}, None, {"transfer_type", "agent_message"}),
    ],
)
def test_kinds_of_transfer(transfers: set[TransferKind], kinds: list[str] | None, missing: set[str]) -> None:
    everything = set(properties(by_name()[TRANSFER]))
    found = properties(by_name(TOOLS, Abilities(frozenset(transfers), ToneWay.LEG))[TRANSFER])
    assert found.get("transfer_type", {}).get("enum") == kinds
    assert everything - set(found) == missing


@pytest.mark.parametrize(
    "abilities",
    [
        Abilities(frozenset({WARM, BLIND}), ToneWay.EXCURSION),
        Abilities(frozenset({FLOW})),
        Abilities(frozenset({REFER}), ToneWay.LEG),
    ],
)
def test_what_is_defined_is_understood(abilities: Abilities) -> None:
    """An agent that fills in what a definition declares is never refused."""
    values = {
        "transfer_number": "",
        "sip_uri": "sip:desk@pbx.example.com",
        "destination": "sales",
        "post_dial_digits": "1w#",
        "dtmf_tones": "1w#",
        "order_id": "7",
        "count": 1,
        "size": "small",
    }
    box = Toolbox(ToolOptions(transfer_allow=("*",), http_tools=TOOLS.http_tools))
    for definition in definitions(TOOLS, abilities):
        names = list(properties(definition))
        given = {name: values.get(name, "text") for name in names if name != "transfer_type"}
        for kind in properties(definition).get("transfer_type", {}).get("enum", [None]):
            order = box.read(definition.name, {**given, "transfer_type": kind}, abilities)
            assert not isinstance(order, Refused), order


# --- names ---


def test_an_agents_own_names() -> None:
    options = ExportOptions(names={TRANSFER: "connect", VOICEMAIL: "", RESUME: "back"})
    found = by_name(options)
    assert list(found) == ["connect", TONES, END, HOLD, "back"]
    assert found[HOLD].description.endswith("Call back to go back to them.")


def test_a_name_is_never_defined_twice() -> None:
    clash = HttpTool(END, "x", "https://a.example/")
    assert [each.name for each in definitions(ExportOptions(http_tools={END: clash}))] == list(STANDARD_TOOLS)


# --- time-outs ---


def test_a_transfer_outlasts_ringing_and_whisper() -> None:
    assert bound_s(TRANSFER, ExportOptions(ring_s=30, whisper_s=45)) == 75
    assert by_name(ExportOptions(ring_s=30, whisper_s=45))[TRANSFER].response_timeout_secs == 85


def test_a_transfer_that_the_vendor_cannot_wait_for_has_no_time_out() -> None:
    assert by_name(ExportOptions(ring_s=90, whisper_s=45))[TRANSFER].response_timeout_secs == FOREVER


@pytest.mark.parametrize(("bound", "timeout"), [(0.1, 11), (20, 30), (20.1, 31), (110, 120), (110.5, -1)])
def test_the_vendor_waits_longer_than_the_bridge(bound: float, timeout: int) -> None:
    assert vendor_timeout_s(bound) == timeout


def test_bounds_of_the_others() -> None:
    assert bound_s(HOLD, ExportOptions(tool_timeout_s=7)) == 7
    assert bound_s(TONES, ExportOptions(tool_timeout_s=7)) == 50
    assert bound_s(TONES, ExportOptions(tool_timeout_s=70)) == 70
