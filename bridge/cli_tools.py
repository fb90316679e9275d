"""``bridge tools``: the bridge's tools as an agent has to know them, to paste or to push into it.

``export`` prints client tool definitions as JSON; with ``--push`` it also puts them into an agent of the workspace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer

if TYPE_CHECKING:  # heavy: ``bridge --help`` does without
    from bridge.calls.tool_definitions import ExportOptions, ToolDefinition
    from bridge.calls.tools import Abilities

EXIT_FAILED = 1
"""Exit code when the vendor did not take the tools."""
EXIT_USAGE = 2


@dataclass(frozen=True, slots=True)
class ToolsSetup:
    """What the commands need of the settings."""

    export: ExportOptions
    base_url: str = "https://api.elevenlabs.io"
    api_key: str = field(default="", repr=False)
    agent_id: str = ""
    """The default agent."""


LoadSetup = Callable[[], ToolsSetup]
"""Reads the settings. Raises ``typer.Exit`` with its own message when they do not work."""


def tools_app(load: LoadSetup) -> typer.Typer:
    """The commands, on whatever settings ``load`` reads."""
    app = typer.Typer(no_args_is_help=True, help="The bridge's tools, for the agent.")

    @app.callback()
    def tools() -> None:
        """The bridge's tools, for the agent."""

    @app.command("export")
    def export(
        carrier: Annotated[str, typer.Option(help="Only what this carrier can do; every tool by default.")] = "",
        tool: Annotated[str, typer.Option(help="Only the tool of this name, as one JSON object to paste.")] = "",
        agent: Annotated[str, typer.Option(help="The agent to push into; ELEVENLABS_AGENT_ID by default.")] = "",
        push: Annotated[bool, typer.Option("--push", help="Put the tools into the agent, by ElevenLabs' API.")] = False,
    ) -> None:
        """Print the tool definitions as JSON, to paste into an agent's tools; with --push, put them there."""
        setup = load()
        chosen = _chosen(setup.export, carrier, tool)
        if push:
            _push(chosen, agent or setup.agent_id, setup)
            return
        documents = [each.document() for each in chosen]
        shown = documents[0] if tool else documents
        typer.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())

    return app


def _chosen(options: ExportOptions, carrier: str, tool: str) -> list[ToolDefinition]:
    from bridge.calls.tool_definitions import definitions

    found = definitions(options, _abilities(carrier) if carrier else None)
    if not tool:
        return found
    named = [each for each in found if each.name == tool]
    if not named:
        _refuse(f"there is no tool {tool!r}; there are {', '.join(each.name for each in found)}")
    return named


def _abilities(carrier: str) -> Abilities:
    from bridge.calls.carriers import ALL_CARRIERS
    from bridge.calls.tools import Abilities

    spec = ALL_CARRIERS.get(carrier.lower())
    if spec is None:
        _refuse(f"there is no carrier {carrier!r}; there are {', '.join(sorted(ALL_CARRIERS))}")
    return Abilities(spec.transfers, spec.tones)


def _push(chosen: list[ToolDefinition], agent: str, setup: ToolsSetup) -> None:
    from bridge.server.agent_tools import PushFailed, PushOptions, push

    if not setup.api_key:
        _refuse("set ELEVENLABS_API_KEY to a key that may write agents")
    if not agent:
        _refuse("give --agent, or set ELEVENLABS_AGENT_ID")
    try:
        push(chosen, agent, PushOptions(setup.base_url, setup.api_key), typer.echo)
    except PushFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_FAILED) from None


def _refuse(words: str) -> NoReturn:
    typer.echo(words, err=True)
    raise typer.Exit(EXIT_USAGE)
