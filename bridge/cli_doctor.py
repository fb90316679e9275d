"""``bridge doctor``: looks at everything that calls need, and says what to do.

Exit code 0: nothing failed; 1: something did; 2: the settings do not work. The table goes to standard output, progress
to standard error, so that ``--json`` has standard output to itself.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bridge.config import Configuration


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    no_conversation: Annotated[
        bool,
        typer.Option(
            "--no-conversation",
            help="Do not open a conversation with the agent; otherwise one is begun and closed at once.",
        ),
    ] = False,
    at: Annotated[
        str,
        typer.Option(help="Where the running bridge listens, if not at BRIDGE_PORT here: http://10.0.0.5:8080."),
    ] = "",
) -> None:
    """Check everything that calls need before the first one comes: agent, carriers, public address, stores."""
    from rich.console import Console

    from bridge.doctor.findings import EXIT_SETTINGS, exit_code
    from bridge.doctor.plan import examine
    from bridge.doctor.report import table, to_json
    from bridge.doctor.tools import DoctorOptions
    from bridge.server import logs

    if at and not at.startswith(("http://", "https://")):
        typer.echo("--at: give an address such as http://10.0.0.5:8080", err=True)
        raise typer.Exit(EXIT_SETTINGS)
    configuration = _configuration(as_json)
    logs.configure("error", configuration.settings.log_format)  # a stand-in's refusals are findings, not log lines
    options = DoctorOptions(conversation=not no_conversation, at=at)
    findings = asyncio.run(examine(configuration, options, lambda line: typer.echo(line, err=True)))
    if as_json:
        typer.echo(to_json(findings))
    else:
        console = Console()
        console.print(table(findings, console.width))
    raise typer.Exit(exit_code(findings))


def _configuration(as_json: bool) -> Configuration:
    """The configuration, or exit code 2 with all its mistakes."""
    from bridge.config import load_configuration
    from bridge.doctor.findings import EXIT_SETTINGS, failed
    from bridge.doctor.plan import SETTINGS_NAME
    from bridge.doctor.report import to_json
    from bridge.errors import ConfigError

    try:
        return load_configuration()
    except ConfigError as error:
        if as_json:
            broken = failed(SETTINGS_NAME, str(error), "Correct what is named, then run the doctor again.")
            typer.echo(to_json([broken]))
        else:
            typer.echo(str(error), err=True)
        raise typer.Exit(EXIT_SETTINGS) from None
