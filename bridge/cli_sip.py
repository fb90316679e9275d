"""``bridge call sip``: a simulated telephone on a SIP trunk, strict about the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from bridge.cli_call import call_app, fail, run, say


@call_app.command("sip")
def call_sip(
    to: Annotated[str, typer.Argument(help="Whom to call, e.g. 'sip:+15550199@127.0.0.1:5060;transport=tcp'.")],
    caller: Annotated[str, typer.Option(help="Caller's number.")] = "+15550100",
    username: Annotated[str, typer.Option(envvar="SIP_USERNAME", help="Answers the bridge's challenge.")] = "",
    password: Annotated[str, typer.Option(envvar="SIP_PASSWORD", help="Its password.")] = "",
    header: Annotated[list[str] | None, typer.Option(help="Of the INVITE, besides: 'X-Contact-ID: 7'.")] = None,
    codecs: Annotated[str, typer.Option(help="What is offered, in this order.")] = "PCMU,PCMA",
    local_host: Annotated[str, typer.Option(help="Address to call from.")] = "127.0.0.1",
    ca_file: Annotated[Path | None, typer.Option(help="Who signed the bridge's certificate, for TLS.")] = None,
    digits: Annotated[str, typer.Option(help="Keys to press after the greeting.")] = "",
    keys: Annotated[str, typer.Option(help="How keys go: rfc4733, info or inband.")] = "rfc4733",
    script: Annotated[Path | None, typer.Option(help="The caller's actions, a JSON file.")] = None,
    recording: Annotated[Path | None, typer.Option(help="Stereo WAV to write: caller left, agent right.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show the SIP messages.")] = False,
    max_duration_s: Annotated[float, typer.Option(help="Hang up after so long in any case.")] = 120.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Place a call over SIP, as a trunk or a telephone would."""
    from bridge.calls.trunk_checks import codecs as checked_codecs
    from bridge.simulators.genesys_person import caller_actions
    from bridge.simulators.sip_leg_options import Keys
    from bridge.simulators.sip_phone import SipPhone, SipPhoneOptions
    from bridge.simulators.sip_terms import Wanted

    try:
        phone = SipPhone(
            SipPhoneOptions(
                to=to,
                caller=caller,
                username=username,
                password=password.partition(",")[0].strip(),
                headers=_headers(header or []),
                local_host=local_host,
                ca_file=ca_file,
                actions=caller_actions(script, digits),
                wanted=Wanted(codecs=checked_codecs(codecs)),
                keys=Keys(keys.lower()),
                recording=recording,
                max_duration_s=max_duration_s,
            )
        )
    except (ValueError, OSError) as error:
        fail(str(error))
    say(f"calling {to}")
    try:
        result = run(phone.run())
    except OSError as error:
        fail(f"--local-host: cannot call from there ({error.strerror}); give an address of this machine")
    if trace:
        typer.echo(result.trace, err=True)
    typer.echo(json.dumps(result.to_json()) if as_json else result.to_text())
    raise typer.Exit(0 if result.succeeded else 1)


def _headers(lines: list[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise ValueError("--header is no header; give one such as 'X-Contact-ID: 7'")
        headers[name.strip()] = value.strip()
    return headers
