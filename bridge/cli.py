"""The command line: ``bridge serve | demo | agent | call | webhooks | bench``.

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

from bridge import __version__
from bridge.cli_bench import bench
from bridge.cli_webhooks import webhooks_app
from bridge.errors import ConfigError

if TYPE_CHECKING:
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
call_app = typer.Typer(no_args_is_help=True, help="Place a simulated call, strict about the wire.")
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
        _run(run_server(settings, routing=configuration.routing, source=source))
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


@call_app.command("twilio")
def call_twilio(
    to: Annotated[str, typer.Option(help="Media socket, e.g. ws://127.0.0.1:8080/twilio/media.")] = "",
    voice: Annotated[str, typer.Option(help="Answer webhook, e.g. http://127.0.0.1:8080/twilio/voice.")] = "",
    auth_token: Annotated[str, typer.Option(envvar="TWILIO_AUTH_TOKEN", help="Signs the requests.")] = "",
    public_url: Annotated[str, typer.Option(envvar="PUBLIC_URL", help="The bridge's PUBLIC_URL.")] = "",
    caller: Annotated[str, typer.Option(help="Caller's number.")] = "+15550100",
    called: Annotated[str, typer.Option(help="Called number.")] = "+15550199",
    recording: Annotated[Path | None, typer.Option(help="Stereo WAV to write: caller left, agent right.")] = None,
    max_duration_s: Annotated[float, typer.Option(help="Hang up after so long in any case.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Place a Twilio call: through the answer webhook (--voice), or straight to a media socket (--to)."""
    from bridge.simulators.twilio_caller import TwilioCall, TwilioCallOptions

    try:
        placed = TwilioCall(
            TwilioCallOptions(
                to=to,
                voice=voice,
                auth_token=auth_token,
                public_url=public_url,
                caller=caller,
                called=called,
                recording=recording,
                max_duration_s=max_duration_s,
            )
        )
    except ValueError:
        _fail("give --voice URL or --to URL, one of them")
    _say(f"calling {voice or to}")
    result = _run(placed.run())
    if as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        for at_ms, what in result.timeline:
            typer.echo(f"{at_ms / 1000:6.2f} s  {what}")
        typer.echo(f"ended by {result.ended_by} with {result.close_code} after {result.duration_ms / 1000:.1f} s")
        typer.echo(f"TwiML: {', '.join(result.verbs) or 'none'}; gaps: {len(result.gaps)}")
        for violation in result.violations:
            typer.echo(f"breach {violation.code}: {violation.text}")
    raise typer.Exit(1 if result.violations or result.ended_by in ("lost", "refused") else 0)


@call_app.command("genesys")
def call_genesys(
    to: Annotated[str, typer.Option(help="Base URI and Connector ID, e.g. ws://127.0.0.1:8080/genesys/AGENT.")],
    connector_id: Annotated[str, typer.Option(help="Appended to --to as it stands.")] = "",
    api_key: Annotated[str, typer.Option(envvar="GENESYS_API_KEY", help="Sent as X-API-KEY.")] = "",
    client_secret: Annotated[str, typer.Option(envvar="GENESYS_CLIENT_SECRET", help="Signs the request.")] = "",
    organization_id: Annotated[str, typer.Option(envvar="GENESYS_ORGANIZATION_ID", help="Default: random.")] = "",
    public_url: Annotated[str, typer.Option(envvar="PUBLIC_URL", help="The bridge's PUBLIC_URL.")] = "",
    caller: Annotated[str, typer.Option(help="Caller's number.")] = "+15550100",
    called: Annotated[str, typer.Option(help="Called number.")] = "+15550199",
    variable: Annotated[list[str] | None, typer.Option(help="Input variable NAME=VALUE; may be repeated.")] = None,
    custom_config: Annotated[str, typer.Option(help="The integration's advanced configuration, a JSON object.")] = "",
    language: Annotated[str, typer.Option(help="Language of the flow.")] = "en-US",
    media: Annotated[str, typer.Option(help="What is offered; Genesys offers external.")] = "external",
    digits: Annotated[str, typer.Option(help="Keys to press after the greeting.")] = "",
    script: Annotated[Path | None, typer.Option(help="The caller's actions, a JSON file.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Only try the connection, as on activation.")] = False,
    retries: Annotated[int, typer.Option(help="Connections tried again; Genesys does up to 5.")] = 0,
    recording: Annotated[Path | None, typer.Option(help="Stereo WAV to write: caller left, agent right.")] = None,
    max_duration_s: Annotated[float, typer.Option(help="Hang up after so long in any case.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Place a Genesys Cloud call: open an Audio Connector session and hold it to every rule of the protocol."""
    from bridge.simulators.genesys_caller import GenesysCall, GenesysCallOptions
    from bridge.simulators.genesys_person import caller_actions
    from bridge.simulators.genesys_setup import parse_custom_config, parse_variables

    try:
        placed = GenesysCall(
            GenesysCallOptions(
                to=to,
                connector_id=connector_id,
                api_key=api_key.partition(",")[0],
                client_secret=client_secret.partition(",")[0],
                organization_id=organization_id.partition(",")[0],
                public_url=public_url,
                caller=caller,
                called=called,
                input_variables=parse_variables(variable or ()),
                custom_config=parse_custom_config(custom_config),
                language=language,
                media=media,
                actions=caller_actions(script, digits),
                probe=probe,
                retries=retries,
                recording=recording,
                max_duration_s=max_duration_s,
            )
        )
    except (ValueError, OSError) as error:
        _fail(str(error))
    _say(f"calling {placed.url}")
    result = _run(placed.run())
    typer.echo(json.dumps(result.to_json()) if as_json else result.to_text())
    raise typer.Exit(0 if result.succeeded else 1)


app.command()(bench)


def main() -> None:
    """The console script."""
    # Before numpy is loaded: its products here are tiny, and idle BLAS threads spin on the calls' core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
