"""How the simulated agent behaves: what ``bridge agent`` takes as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bridge.media.format import ULAW_8K
from bridge.simulators.agent_scenarios import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOptions:
    """How the simulated agent behaves. The defaults suit a phone: mu-law both ways."""

    scenario: str | Scenario = "demo"
    """Name of a scenario, or one's own; an agent id ``sim_<name>`` asks for another per conversation."""
    later: Sequence[str | Scenario] = ()
    """Scenarios of the second conversation, the third and so on, in the order in which they are asked for; the last one
    goes on for all that follow. Empty = ``scenario`` for all."""
    upgrade_delay_s: float = 0.0
    """How long a conversation's socket takes to open."""
    input_format: str = ULAW_8K.name
    """Format announced for the caller's audio."""
    output_format: str = ULAW_8K.name
    """Format of the agent's audio."""
    chunk_ms: int = 100
    """Audio per message."""
    odd_chunks: bool = False
    """Cut the agent's speech into prime numbers of bytes instead."""
    speed: float = 8.0
    """How many times faster than real time the agent's speech is sent; 0 = all at once."""
    ping_interval_s: float = 2.0
    strict: bool = True
    """Whether a breach of the contract ends the conversation."""
    init_timeout_s: float = 5.0
    """How long a strict agent waits for the initiation message."""
    receive_timeout_s: float = 60.0
    """How long the client may send no input before close 1002 ``transport_receive_timeout``."""
    api_key: str = ""
    """Needed as ``xi-api-key`` for signed URLs, and for conversations without one; empty = a public agent."""
    data_collection: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    """What the agent's analysis finds in every conversation: data collection results by name."""
    analysis_delay_s: float = 0.3
    """How long after its end a conversation is still ``processing``."""
    compression: bool = False
    """Whether the server takes up permessage-deflate when it is offered."""
    keep_audio: bool = True
    """Whether the log keeps the caller's audio."""
