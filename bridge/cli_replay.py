"""``bridge replay FILE``: a call's flight record, fed through the code again.

Shows what came out, and where it is not what was recorded. Works on the file alone: no bridge, no network.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from bridge.replay import Out, ReplayResult

EXIT_DIFFERS = 1
EXIT_UNREADABLE = 2

MAX_FILE_BYTES = 64 * 1024 * 1024
"""No flight record is larger, packed."""

_SHOWN_CHARS = 160


def replay_command(
    file: Annotated[Path, typer.Argument(help="A flight record, <call id>.flight.gz.", metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Write a picture of the call here.")] = None,
) -> None:
    """Feed a call's flight record through the code again, and say whether it does the same.

    Exit code 0: it does. 1: it does something else. 2: the file cannot be read.
    """
    from bridge.calls.flight_file import FlightFileError, decode_flight  # what a look at --help does not need
    from bridge.replay import replay
    from bridge.replay_picture import picture_of

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise FlightFileError(f"this is no flight record: it has more than {MAX_FILE_BYTES} bytes")
        result = replay(decode_flight(file.read_bytes()))
        if svg is not None:
            svg.write_text(picture_of(result), "utf-8")
    except (FlightFileError, OSError) as error:
        typer.echo(f"{file}: {error.strerror if isinstance(error, OSError) else error}", err=True)
        raise typer.Exit(EXIT_UNREADABLE) from None
    typer.echo(_json(result) if as_json else _text(result))
    if not result.is_same:
        raise typer.Exit(EXIT_DIFFERS)


def _json(result: ReplayResult) -> str:
    log = result.log
    document = {
        "same": result.is_same,
        "call": {
            name: getattr(log.header, name)
            for name in ("call_id", "provider", "bridge", "created_at", "result", "reason", "detail", "lost")
        },
        "entries": len(log.entries),
        "compared_until_s": result.compared_until_s,
        "crash": result.crash,
        "differences": result.differences,
        "states": [{"at_s": _since(result, at), "state": state.value} for at, state in result.history],
        "events": [
            {"at_s": _since(result, out.t), "kind": out.kind, "what": str(out)}
            for out in result.events
            if not out.kind.endswith("audio_out")
        ],
    }
    return msgspec.json.encode(document).decode()


def _text(result: ReplayResult) -> str:
    header = result.log.header
    lines = [
        f"call {header.call_id} ({header.provider}), recorded by bridge {header.bridge}: "
        f"{header.result or 'in progress'} {header.reason}".rstrip(),
        *(_line(result, out) for out in result.events if not out.kind.endswith("audio_out")),
    ]
    if result.crash:
        lines.append(f"the code raised {result.crash}")
    if result.compared_until_s is not None:
        until = f"compared until {result.compared_until_s:.3f} s"
        lines.append(f"{until}: there the record has a gap, or a message that was too long to be kept")
    for difference in result.differences:
        lines.append(
            f"DIFFERENT at {difference.at_s:.3f} s ({difference.stream})\n"
            f"  recorded: {difference.recorded[:_SHOWN_CHARS] or '(nothing)'}\n"
            f"  replayed: {difference.replayed[:_SHOWN_CHARS] or '(nothing)'}"
        )
    lines.append(f"{len(result.log.entries)} entries, {'the same again' if result.is_same else 'not the same'}")
    return "\n".join(lines)


def _line(result: ReplayResult, out: Out) -> str:
    side = {"c": "to carrier", "a": "to agent", "n": "call"}[out.kind[0]]
    return f"{_since(result, out.t):9.3f} s  {side:10}  {str(out)[:_SHOWN_CHARS]}"


def _since(result: ReplayResult, t: float) -> float:
    return round(t - result.log.header.opened_s, 3)
