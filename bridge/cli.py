"""The command line: ``bridge serve | demo | agent | call | webhooks | tools | doctor | replay | bench``.

Every command reads its settings the same way and reports all mistakes in them at once, with exit code 2.
Heavy imports wait inside the commands, so that ``bridge --help`` is quick.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import bridge.cli_sip  # noqa: F401 -- adds its command to call_app
from bridge import __version__
from bridge.cli_bench import bench
from bridge.cli_call import call_app
from bridge.cli_doctor import doctor
from bridge.cli_replay import replay_command
from bridge.cli_tools import tools_app
from bridge.cli_webhooks import webhooks_app
from bridge.errors import ConfigError

if TYPE_CHECKING:
    from bridge.cli_tools import ToolsSetup
    from bridge.config import Settings
    from bridge.server.store.outbox import OutboxStore

EXIT_CONFIG = 2
"""Exit code for settings or arguments that do not work."""

app = typer.Typer(
    name="bridge",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Joins phone calls to ElevenLabs conversational agents.",
)
app.add_typer(call_app, name="call")


@contextlib.asynccontextmanager
async def _open_outbox() -> AsyncIterator[OutboxStore]:
    """The outbox of the configured database."""
    from bridge.server.store.database import open_database
    from bridge.server.store.outbox import OutboxStore

    settings = _settings()
    url = settings.database_url
    try:
        database = open_database(None if url is None else url.get_secret_value(), settings.data_dir)
        if problem := await database.check():
            _fail(f"the database: {problem}")
    except ConfigError as error:
        _fail(str(error))
    try:
        yield OutboxStore(database)
    finally:
        await database.close()


app.add_typer(webhooks_app(_open_outbox), name="webhooks")


def _tools_setup() -> ToolsSetup:
    """What ``bridge tools`` needs of the settings."""
    from bridge.calls.tool_definitions import ExportOptions
    from bridge.cli_tools import ToolsSetup
    from bridge.config import load_configuration
    from bridge.server.handing import WHISPER_S

    try:
        configuration = load_configuration()
    except ConfigError as error:
        _fail(str(error))
    settings = configuration.settings
    key = settings.elevenlabs_api_key
    return ToolsSetup(
        ExportOptions(
            settings.tool_name_map,
            configuration.tools,
            settings.transfer_ring_s,
            WHISPER_S,
            settings.tool_timeout_s,
        ),
        settings.elevenlabs_base_url,
        key.get_secret_value() if key is not None else "",
        settings.elevenlabs_agent_id or "",
    )


app.add_typer(tools_app(_tools_setup), name="tools")


def _run(coroutine: Any) -> Any:
    """Run on uvloop; Ctrl-C ends quietly."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_CONFIG)


def _say(message: str) -> None:
    """Progress goes to standard error, so that ``--json`` has standard output to itself."""
    typer.echo(message, err=True)


def _settings() -> Settings:
    from bridge.config import load_settings

    try:
        return load_settings()
    except ConfigError as error:
        _fail(str(error))


def _version(value: bool) -> None:
    if value:
        typer.echo(f"telephony-bridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Joins phone calls to ElevenLabs conversational agents."""


@app.command()
def serve(
    workers: Annotated[int, typer.Option(help="Processes; this version runs one.")] = 1,
) -> None:
    """Run the bridge. Settings come from the environment, .env and bridge.toml."""
    from bridge.config import configuration_files, load_configuration
    from bridge.server import logs
    from bridge.server.serve import serve as run_server
    from bridge.server.watch import ConfigurationSource

    if workers != 1:
        _fail(
            "--workers: one process runs one worker. For more, run several instances behind a load balancer, "
            "with REDIS_URL for their limits and DATABASE_URL for their records."
        )
    try:
        configuration = load_configuration()
    except ConfigError as error:
        _fail(str(error))
    settings = configuration.settings
    logs.configure(settings.log_level, settings.log_format)
    source = ConfigurationSource(load_configuration, configuration_files())
    try:
        _run(
            run_server(
                settings,
                routing=configuration.routing,
                tools=configuration.tools,
                trunks=configuration.trunks,
                source=source,
            )
        )
    except ConfigError as error:
        _fail(str(error))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End with the call.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Run one call with real speech through bridge, agent and caller on this machine, and show what came of it."""
    from rich.console import Console

    from bridge.server import logs
    from bridge.simulators.demo import prepare, run_demo
    from bridge.simulators.demo_report import DemoReport

    settings = _settings()
    logs.configure("warning" if settings.log_level == "info" else settings.log_level, settings.log_format)
    is_public = settings.public_url is not None
    settings, local_agent = prepare(settings, port_is_set="bridge_port" in settings.model_fields_set)
    console = Console()

    def show(report: DemoReport) -> None:
        if as_json:
            typer.echo(report.to_json())
        else:
            console.print(report.table())
            console.print(f"recording  {report.recording}\npicture    {report.picture}", soft_wrap=True)
        if not once:
            _say_where(settings, is_public=is_public)

    try:
        report = _run(run_demo(settings, local_agent=local_agent, once=once, say=_say, show=show))
    except ConfigError as error:
        _fail(str(error))
    else:
        raise typer.Exit(0 if report.succeeded else 1)


def _say_where(settings: Settings, *, is_public: bool) -> None:
    """What to do with the server that the demo leaves running."""
    here = f"http://{settings.bridge_host}:{settings.bridge_port}/"
    _say(f"The bridge stays up: open {here} (Ctrl-C ends it).")
    if not is_public:
        _say("For real calls set PUBLIC_URL, TWILIO_AUTH_TOKEN, ELEVENLABS_API_KEY and ELEVENLABS_AGENT_ID, run")
        _say("`bridge serve`, and set the Twilio number's voice webhook to PUBLIC_URL/twilio/voice (deploy/twilio.md).")
    else:
        _say(f"Set the Twilio number's voice webhook to {settings.public_base_url}/twilio/voice (POST).")


@app.command()
def agent(
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 9090,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    scenario: Annotated[str, typer.Option(help="What it does; agent id sim_NAME asks for another per call.")] = "demo",
    script: Annotated[Path | None, typer.Option(help="A scenario of your own, a JSON file.")] = None,
    input_format: Annotated[str, typer.Option(help="Format it hears.")] = "ulaw_8000",
    output_format: Annotated[str, typer.Option(help="Format it speaks.")] = "ulaw_8000",
    chunk_ms: Annotated[int, typer.Option(help="Audio in one message.")] = 100,
    odd_chunks: Annotated[bool, typer.Option(help="Cut its speech into prime numbers of bytes.")] = False,
    api_key: Annotated[str, typer.Option(help="Key it wants for signed URLs; empty = public agent.")] = "",
    strict: Annotated[bool, typer.Option(help="End conversations that break the contract.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print each conversation's log as a JSON line.")] = False,
    list_scenarios: Annotated[bool, typer.Option("--list", help="Name the scenarios.")] = False,
) -> None:
    """Run an agent that speaks the ElevenLabs WebSocket protocol, for trials without an account."""
    from bridge.simulators.agent_log import ConversationLog
    from bridge.simulators.agent_options import AgentOptions
    from bridge.simulators.agent_scenarios import PATTERNS, SCENARIOS, load_script, scenario_for
    from bridge.simulators.agent_server import AgentServer, serve_agent

    if list_scenarios:
        typer.echo("\n".join([*sorted(SCENARIOS), *PATTERNS]))
        raise typer.Exit
    try:
        chosen = load_script(script) if script is not None else scenario_for(scenario)
    except ConfigError as error:
        _fail(str(error))
    options = AgentOptions(
        scenario=chosen,
        input_format=input_format,
        output_format=output_format,
        chunk_ms=chunk_ms,
        odd_chunks=odd_chunks,
        api_key=api_key,
        strict=strict,
    )

    def ready(server: AgentServer) -> None:
        _say(f"agent listens at {server.base_url} (set ELEVENLABS_BASE_URL to it; Ctrl-C ends it)")

    def ended(log: ConversationLog) -> None:
        if as_json:
            typer.echo(json.dumps(log.to_json()))
        else:
            _say(f"{log.conversation_id}: closed by {log.closed_by} with {log.close_code}, breaches: {log.violations}")

    try:
        _run(serve_agent(host, port, options, on_ready=ready, on_end=ended))
    except OSError as error:
        _fail(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port")


app.command()(bench)
app.command()(doctor)
app.command("replay")(replay_command)


def main() -> None:
    """The console script."""
    # Before numpy is loaded: its products here are tiny, and idle BLAS threads spin on the calls' core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
