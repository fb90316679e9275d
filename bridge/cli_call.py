"""``bridge call``: the simulated carriers, each strict about its wire.

Heavy imports wait inside the commands, so that ``bridge --help`` is quick.
"""

from __future__ import annotations

import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

EXIT_USAGE = 2
"""Exit code for arguments that do not work."""

call_app = typer.Typer(no_args_is_help=True, help="Place a simulated call, strict about the wire.")

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run on uvloop, as the bridge itself does."""
    import asyncio

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def fail(message: str) -> NoReturn:
    """Say what is wrong with the arguments, and end."""
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)


def say(message: str) -> None:
    """Progress goes to standard error, so that ``--json`` has standard output to itself."""
    typer.echo(message, err=True)


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
    rest_port: Annotated[int, typer.Option(help="Be Twilio's REST interface too, on this port.")] = 0,
    account_sid: Annotated[str, typer.Option(envvar="TWILIO_ACCOUNT_SID", help="With --rest-port.")] = "",
    human: Annotated[list[str] | None, typer.Option(help="Who answers: NUMBER=busy, NUMBER=machine, ...")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Place a Twilio call: through the answer webhook (--voice), or straight to a media socket (--to).

    With --rest-port the rest of Twilio is simulated as well: transfers, keypad tones, hang-ups, placed calls. Run the
    bridge with TWILIO_API_BASE_URL=http://127.0.0.1:PORT. Without --voice, calls that the bridge places are waited for.
    """
    if rest_port:
        _whole_twilio(
            _cloud_run(rest_port, account_sid, auth_token, public_url, called, human or [])
            | {"voice": voice, "caller": caller, "recording": recording, "max_duration_s": max_duration_s},
            as_json=as_json,
        )
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
        fail("give --voice URL or --to URL, one of them")
    say(f"calling {voice or to}")
    result = run(placed.run())
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


def _cloud_run(
    port: int, account_sid: str, auth_token: str, public_url: str, called: str, humans: list[str]
) -> dict[str, Any]:
    """The account that is simulated, as members of a ``CloudRun``."""
    from bridge.simulators.twilio_cloud_options import CloudOptions
    from bridge.simulators.twilio_person import Answer, PersonScript

    if not account_sid or not auth_token:
        fail("--rest-port needs TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, the same as the bridge's")
    people = {}
    for entry in humans:
        number, _, answer = entry.partition("=")
        try:
            people[number.strip()] = PersonScript(answer=Answer(answer.strip() or "pick_up"))
        except ValueError:
            fail(f"--human {entry}: write NUMBER=ANSWER with one of {', '.join(each.value for each in Answer)}")
    token = auth_token.partition(",")[0].strip()
    options = CloudOptions(
        port=port, account_sid=account_sid, auth_token=token, numbers=(called,), people=people, public_url=public_url
    )
    return {"cloud": options}


def _whole_twilio(members: dict[str, Any], *, as_json: bool) -> NoReturn:
    """Run the simulated Twilio until its calls are over, and say what came of them."""
    from bridge.simulators.twilio_cloud import CloudRun, run_cloud
    from bridge.simulators.twilio_line import DEMO_ACTIONS
    from bridge.simulators.twilio_person import PersonScript

    wanted = CloudRun(person=PersonScript(actions=DEMO_ACTIONS), **members)
    waits_for = f"calling {wanted.voice}" if wanted.voice else "waiting for calls that the bridge places"
    try:
        result = run(run_cloud(wanted, lambda cloud: say(f"TWILIO_API_BASE_URL={cloud.base_url}; {waits_for}")))
    except OSError as error:
        fail(f"--rest-port: cannot listen there ({error.strerror}); choose another")
    if as_json:
        typer.echo(json.dumps(result.to_json()))
    else:
        for at_ms, call_sid, what in result.timeline:
            typer.echo(f"{at_ms / 1000:6.2f} s  {call_sid[-6:]:6}  {what}")
        for line in (*result.webhooks, *result.rest_requests):
            typer.echo(line)
        for violation in result.violations:
            typer.echo(f"breach {violation.code}: {violation.text}")
    raise typer.Exit(1 if result.violations or not result.calls else 0)


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
        fail(str(error))
    say(f"calling {placed.url}")
    result = run(placed.run())
    typer.echo(json.dumps(result.to_json()) if as_json else result.to_text())
    raise typer.Exit(0 if result.succeeded else 1)


@call_app.command("vonage")
def call_vonage(
    to: Annotated[str, typer.Option(help="Media socket, e.g. ws://127.0.0.1:8080/vonage/media.")] = "",
    answer: Annotated[str, typer.Option(help="Answer webhook, e.g. http://127.0.0.1:8080/vonage/answer.")] = "",
    events: Annotated[str, typer.Option(help="Event webhook, with --answer.")] = "",
    method: Annotated[str, typer.Option(help="How --answer is asked: GET or POST.")] = "GET",
    rate_hz: Annotated[int, typer.Option(help="Of the socket, with --to: 8000, 16000 or 24000.")] = 16000,
    caller: Annotated[str, typer.Option(help="Caller's number.")] = "+15550100",
    called: Annotated[str, typer.Option(help="Called number.")] = "+15550199",
    secret: Annotated[str, typer.Option(envvar="VONAGE_SIGNATURE_SECRET", help="Signs the requests.")] = "",
    application_id: Annotated[str, typer.Option(envvar="VONAGE_APPLICATION_ID", help="In the signatures.")] = "",
    public_url: Annotated[str, typer.Option(envvar="PUBLIC_URL", help="The bridge's PUBLIC_URL.")] = "",
    reach_url: Annotated[str, typer.Option(help="Where PUBLIC_URL is really reached.")] = "",
    api_port: Annotated[int, typer.Option(help="Be Vonage's REST interface on this port, with --answer.")] = 0,
    digits: Annotated[str, typer.Option(help="Keys to press after the greeting.")] = "",
    script: Annotated[Path | None, typer.Option(help="The caller's actions, a JSON file.")] = None,
    recording: Annotated[Path | None, typer.Option(help="Stereo WAV to write: caller left, agent right.")] = None,
    max_duration_s: Annotated[float, typer.Option(help="Hang up after so long in any case.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Place a Vonage call: through the answer webhook (--answer), or straight to a media socket (--to).

    For hang-ups and transfers run the bridge with VONAGE_API_BASE_URL=http://127.0.0.1:API_PORT.
    """
    from bridge.simulators import vonage_command
    from bridge.simulators.genesys_person import caller_actions

    try:
        command = vonage_command.VonageCommand(
            to=to,
            answer=answer,
            events=events,
            method=method.upper(),
            rate_hz=rate_hz,
            caller=caller,
            called=called,
            secret=secret.partition(",")[0].strip(),
            application_id=application_id,
            public_url=public_url,
            reach_url=reach_url,
            api_port=api_port,
            actions=caller_actions(script, digits),
            recording=recording,
            max_duration_s=max_duration_s,
        )
        vonage_command.check(command)
    except (ValueError, OSError) as error:
        fail(str(error))
    say(f"calling {to or answer}")
    try:
        report = run(vonage_command.call_vonage(command))
    except OSError as error:
        fail(f"--api-port: cannot listen there ({error.strerror}); choose another")
    typer.echo(json.dumps(report.to_json()) if as_json else report.to_text())
    raise typer.Exit(0 if report.succeeded else 1)
