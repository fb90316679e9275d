"""The simulated vendor's word on a conversation: state first, results a moment after its end."""

from __future__ import annotations

from bridge.simulators.agent_log import ConversationLog
from bridge.simulators.agent_options import AgentOptions
from bridge.simulators.agent_rest import conversation_details

OPTIONS = AgentOptions(data_collection={"city": "Berlin", "guests": 4}, analysis_delay_s=1.0)


def test_the_life_of_a_conversation() -> None:
    log = ConversationLog("conv_1", agent_id="agent_1", started_s=10.0)
    assert conversation_details(log, OPTIONS, 11.0)["status"] == "initiated"
    log.initiation = {"dynamic_variables": {"a": 1}}
    details = conversation_details(log, OPTIONS, 15.5)
    assert (details["status"], details["analysis"]) == ("in-progress", None)
    assert details["metadata"]["call_duration_secs"] == 5
    log.close("client", 1000, "", 20.0)
    assert conversation_details(log, OPTIONS, 20.9)["status"] == "processing"
    details = conversation_details(log, OPTIONS, 21.0)
    assert details["status"] == "done"
    assert details["conversation_initiation_client_data"] == {"dynamic_variables": {"a": 1}}
    results = details["analysis"]["data_collection_results"]
    assert {name: result["value"] for name, result in results.items()} == {"city": "Berlin", "guests": 4}
