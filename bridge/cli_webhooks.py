"""``bridge webhooks``: events that wait or were given up, and how to send them again.

It works on the database, beside a running bridge or without one; a running one sends what was replayed within its
poll of a second. Bodies are never shown: they hold what callers said.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import msgspec
import typer

if TYPE_CHECKING:
    from bridge.server.store.delivery import Delivery
    from bridge.server.store.outbox import OutboxStore

    OpenOutbox = Callable[[], AbstractAsyncContextManager[OutboxStore]]
    """Opens the outbox of the configured database. Raises ``typer.Exit`` with its own message when it cannot."""

EXIT_NOT_DEAD = 1
"""Exit code when an event that was to be replayed is not there or not dead."""
EXIT_USAGE = 2

_T = TypeVar("_T")


class Shown(enum.Enum):
    """Which events are listed."""

    PENDING = "pending"
    DEAD = "dead"


_STATES: dict[Shown | None, tuple[Literal["pending", "dead"], ...]] = {
    None: ("pending", "dead"),
    Shown.PENDING: ("pending",),
    Shown.DEAD: ("dead",),
}


def webhooks_app(open_outbox: OpenOutbox) -> typer.Typer:
    """The commands, on whatever database ``open_outbox`` opens."""
    app = typer.Typer(no_args_is_help=True, help="Webhook events that wait or were given up.")

    def with_outbox(work: Callable[[OutboxStore], Awaitable[_T]]) -> _T:
        async def run() -> _T:
            async with open_outbox() as outbox:
                return await work(outbox)

        return asyncio.run(run())

    @app.command("list")
    def list_events(
        state: Annotated[Shown | None, typer.Option(help="Only these; both by default.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=10_000, help="Events at most, oldest first.")] = 1_000,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
    ) -> None:
        """Show events that are still to be delivered, and dead ones."""
        found = with_outbox(lambda outbox: outbox.in_states(_STATES[state], limit))
        if as_json:
            typer.echo(msgspec.json.encode(found).decode())
            return
        for event in found:
            typer.echo(_line(event))
        typer.echo(f"{len(found)} events", err=True)

    @app.command("replay")
    def replay_events(
        ids: Annotated[list[str] | None, typer.Argument(help="Ids of dead events.")] = None,
        all_dead: Annotated[bool, typer.Option("--all-dead", help="All of them.")] = False,
    ) -> None:
        """Send dead events again, under their old ids."""
        if bool(ids) == all_dead:
            typer.echo("give the ids of dead events, or --all-dead", err=True)
            raise typer.Exit(EXIT_USAGE)
        done = with_outbox(lambda outbox: outbox.replayed(None if all_dead else ids))
        for name in done:
            typer.echo(name)
        missing = sorted(set(ids or ()) - set(done))
        for name in missing:
            typer.echo(f"{name}: no dead event has this id", err=True)
        typer.echo(f"{len(done)} events are sent again", err=True)
        if missing:
            raise typer.Exit(EXIT_NOT_DEAD)

    return app


def _line(event: Delivery) -> str:
    since = datetime.fromtimestamp(event.created_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{event.state:7}  {since}  {event.attempts:3} attempts  {event.id}  {event.last_error}".rstrip()
