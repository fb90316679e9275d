"""``bridge bench``: what calls, admission and lists cost on this machine.

Benchmarks are no tests: they say figures and judge nothing, except by the warnings that belong to a figure.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, NoReturn

import typer

EXIT_USAGE = 2


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(EXIT_USAGE)


def _say(message: str) -> None:
    """Progress goes to standard error, so that ``--json`` has standard output to itself."""
    typer.echo(message, err=True)


def bench(
    calls: Annotated[
        int | None,
        typer.Option(help="Simulated calls at once; 400 with Twilio, 200 with Genesys, 100 with Vonage by default."),
    ] = None,
    carrier: Annotated[str, typer.Option(help="twilio, genesys, vonage or sip.")] = "twilio",
    mode: Annotated[
        str,
        typer.Option(
            help="passthrough (same format both ways), convert (agent at PCM 16 kHz; Vonage at 8 kHz), or convert-24k "
            "(Vonage at 24 kHz)."
        ),
    ] = "passthrough",
    duration_s: Annotated[float, typer.Option(help="Seconds measured, after the warm-up.")] = 15.0,
    warmup_s: Annotated[float, typer.Option(help="Seconds before that.")] = 3.0,
    ramp_s: Annotated[
        float | None, typer.Option(help="Seconds over which the calls are placed; by default 4 (Genesys: 50 a second).")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Calls up and down so many times, memory read after each.")] = 1,
    target: Annotated[list[str] | None, typer.Option(help="bridge, floor, plain; all that fit by default.")] = None,
    plain_calls: Annotated[int, typer.Option(help="Calls that the plain design gets at most.")] = 100,
    flight: Annotated[bool, typer.Option(help="Whether the bridge keeps flight records.")] = False,
    admission: Annotated[
        bool, typer.Option("--admission", help="Instead: decisions a second and their delay with a Redis of its own.")
    ] = False,
    lists: Annotated[
        bool, typer.Option("--lists", help="Instead: how long a page of GET /v1/calls takes with 10,000 calls stored.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Measure CPU, delay and memory per call, beside HAProxy (the floor) and the plain design, in one run."""
    if admission and lists:
        _fail("give --admission or --lists, one of them")
    if admission:
        _admission(as_json=as_json)
        return
    if lists:
        _lists(as_json=as_json)
        return
    from bridge.bench.load import BenchError
    from bridge.bench.options import usual_options
    from bridge.bench.runner import run_bench

    try:
        options = usual_options(
            carrier,
            calls=calls,
            ramp_s=ramp_s,
            targets=None if target is None else tuple(target),
            mode=mode,
            duration_s=duration_s,
            warmup_s=warmup_s,
            rounds=rounds,
            plain_calls=plain_calls,
            flight=flight,
        )
        report = run_bench(options, _say)
    except (BenchError, ValueError) as error:
        _fail(str(error))
    typer.echo(report.to_json() if as_json else report.render_text())


def _admission(*, as_json: bool) -> None:
    from bridge.bench.admission import measure_admission

    try:
        figures = measure_admission()
    except (FileNotFoundError, RuntimeError) as error:
        _fail(str(error))
    typer.echo(json.dumps(asdict(figures), indent=2) if as_json else figures.render_text())


def _lists(*, as_json: bool) -> None:
    from bridge.bench.lists import measure_lists

    try:
        figures = measure_lists(_say)
    except RuntimeError as error:
        _fail(str(error))
    typer.echo(json.dumps(asdict(figures), indent=2) if as_json else figures.render_text())
