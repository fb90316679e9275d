"""One SIP call between its three parts: the dialog (``SipCall``), the media (``MediaHandle``) and the session.

For the session it is the carrier's socket: it takes audio and orders (``bridge.sip.line_words``) and brings frames and
notices. What it is not: the way in and out of the network (``bridge.server.sip.service``).

Orders are carried out at once; what follows from them is written when the session's step is over (``Desk.wake``), so
that nothing here is called from within itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from bridge.media.format import FRAME_MS, Encoding
from bridge.server.logs import get_logger
from bridge.server.metrics_sip import RtpCounts
from bridge.server.sip.media_engine import MediaHandle
from bridge.server.sip.media_ports import PortPair
from bridge.server.sockets import Nobody, SocketOwner
from bridge.sip import line_words as words
from bridge.sip import media_events as media
from bridge.sip.call import SipCall
from bridge.sip.dtmf_info import RELAY, build_relay
from bridge.sip.media import CallMedia
from bridge.sip.media_stats import MediaStats
from bridge.sip.offer_answer import Agreement
from bridge.sip.ua_events import (
    CallAnswered,
    CallOver,
    EarlyMedia,
    InfoDigit,
    MediaChanged,
    SipEnd,
    TransferProgress,
    UaEvent,
)

if TYPE_CHECKING:
    from bridge.server.session import Session

NORMAL_CLEARING = 'Q.850;cause=16;text="Normal call clearing"'
"""Reason header (RFC 3326) of a BYE after a call that ended as calls should."""
TEMPORARY_FAILURE = 'Q.850;cause=41;text="Temporary failure"'

MAX_EARLY = 500
"""Pieces of audio and marks that wait for the media: the call's lead of a second, cut as small as agents cut it."""

NOBODY = Nobody()


class Desk(Protocol):
    """What a line needs of the service."""

    def wake(self) -> None:
        """Commands were given: write what follows from them, soon."""

    def open_media(self, line: SipLine, pair: PortPair, agreement: Agreement) -> MediaHandle:
        """Put the line's media into service."""

    def free(self, pair: PortPair) -> None:
        """Ports that were taken and never opened."""

    def line_over(self, line: SipLine, over: CallOver) -> None:
        """The dialog has ended; called once."""


class SipLine:
    """See the module. A ``MediaLine``, and to the session what ``MediaSocket`` is for other carriers."""

    def __init__(self, desk: Desk, call: SipCall, pair: PortPair, encoding: Encoding) -> None:
        self.call = call
        self.encoding = encoding
        """Of the frames between session and line, whatever the peer chooses later."""
        self.owner: SocketOwner = NOBODY
        """Who has the call; nobody before it is let in, and after it is over."""
        self.transfer_over: Callable[[TransferProgress | CallOver], None] | None = None
        """Who waits for the outcome of a REFER; told of the dialog's end as well."""
        self.session: Session | None = None
        """The call's session; None until the call is one of the bridge's."""
        self.call_sid = call.call_id
        """The id that the call has for its carrier."""
        self.placed_as = ""
        """Our id of a call that we place, until there is a session."""
        self._desk = desk
        self._pair: PortPair | None = pair
        self._handle: MediaHandle | None = None
        self._early: list[bytes | words.MarkHere | words.Press] = []  # what waits for the media
        self._is_held = False
        self._is_over = False
        self._log = get_logger(call_sid=call.call_id, provider="sip")

    # --- the session's side: a socket ---

    def send_text(self, text: str) -> None:
        """An order of the leg's."""
        match words.read_order(text):
            case words.Ring():
                self.call.ring(monotonic())
            case words.PickUp():
                if not self.call.is_outbound:
                    self.call.answer(monotonic())
            case words.MarkHere() | words.Press() as order:
                self._play(order)
            case words.Clear():
                self._clear()
            case words.End() as end:
                self._end(end)
        self._desk.wake()

    def send_binary(self, payload: bytes) -> None:
        """Audio to be sent on the media clock."""
        self._play(payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """The session is done with the call."""
        self.hang_up(NORMAL_CLEARING)
        owner, self.owner = self.owner, NOBODY
        asyncio.get_running_loop().call_soon(owner.on_lost, code, reason)

    def hand_over(self, owner: SocketOwner) -> None:
        """Report to ``owner`` from now on, beginning with ``on_open``."""
        self.owner = owner
        owner.on_open(self)  # type: ignore[arg-type]  # what a session needs of its socket is here

    def cut(self) -> None:
        """Drop the call at once."""
        self.close()

    def hang_up(self, reason_header: str = "") -> None:
        """End the dialog and the media; harmless when done before."""
        if not self._is_over:
            self.call.hang_up(monotonic(), reason_header=reason_header)
        self._close_media()
        self._desk.wake()

    # --- the media's side ---

    def on_frame(self, frame: bytes) -> None:
        """See ``MediaLine``: 50 times a second. On hold the call itself keeps its agent in silence."""
        if not self._is_held:
            self.owner.on_message(frame)

    def on_media_event(self, event: media.MediaEvent) -> None:
        """See ``MediaLine``."""
        match event:
            case media.MarkReached(name):
                self._tell(words.Played(name))
            case media.KeyHeard(digit):
                self._tell(words.Key(digit.key, digit.duration_ms))
            case media.SendInfo(digit):
                self.call.send_info(RELAY, build_relay(digit), monotonic())
                self._desk.wake()
            case media.MediaLost():
                self._lost(event)
            case media.MediaBroken():
                self._tell(words.Over("media_broken", "the bridge failed on this call's media"))
                self.hang_up(TEMPORARY_FAILURE)
            case media.DigitsSent(is_complete):
                if not is_complete:
                    self._log.warning("keys_not_sent", detail="the peer took telephone-events away")
            case media.FirstMedia():
                self._log.debug("first_media")

    # --- the dialog's side ---

    def on_dialog(self, event: UaEvent) -> None:
        """An event of this call."""
        match event:
            case EarlyMedia(agreement=agreement):
                self._agree(agreement)
            case CallAnswered(agreement=agreement):
                self._agree(agreement)
                if self._handle is not None:
                    self._handle.media.answer(monotonic())
                    self._note_hold(agreement)
            case MediaChanged(agreement=agreement):
                self._agree(agreement)
                self._note_hold(agreement)
            case InfoDigit(digit=digit, duration_ms=duration_ms):
                self._tell(words.Key(digit, duration_ms))
            case TransferProgress():
                if self.transfer_over is not None:
                    self.transfer_over(event)
            case CallOver():
                self._over(event)
            case _:
                pass  # ringing and confirmation change nothing here

    @property
    def stats(self) -> MediaStats | None:
        """How the media were; None before there were any."""
        return None if self._handle is None else self._handle.media.stats()

    def rtp_counts(self) -> RtpCounts:
        """For the metrics, see ``RtpLive``."""
        stats = self.stats
        if stats is None:
            return RtpCounts()
        return RtpCounts(
            stats.packets_received,
            stats.packets_sent,
            stats.packets_lost,
            stats.packets_late,
            stats.frames_concealed * FRAME_MS / 1000,
        )

    def figures(self) -> dict[str, int | float | None]:
        """The same by name, for the call's record."""
        stats = self.stats
        if stats is None:
            return {}
        return {
            **asdict(stats),
            "loss": round(stats.loss, 4),
            "mos": None if stats.mos is None else round(stats.mos, 2),
        }

    @property
    def bridge_call_id(self) -> str:
        """Our id of the call, as records have it; empty before there is one."""
        return self.placed_as if self.session is None else self.session.call_id

    @property
    def is_over(self) -> bool:
        """Whether the dialog has ended."""
        return self._is_over

    # --- inside ---

    def _tell(self, notice: words.Notice) -> None:
        self.owner.on_message(words.encode(notice))

    def _play(self, item: bytes | words.MarkHere | words.Press) -> None:
        """Give the media what is to be sent; it waits while there are none: the agent speaks as soon as the call is
        answered, and the peer's 200 or ACK is still on its way through here."""
        if self._handle is not None:
            self._put(self._handle.media, item)
        elif self._pair is not None and len(self._early) < MAX_EARLY:
            self._early.append(item)
        elif isinstance(item, words.MarkHere):  # it will never be played, and whoever waits must not wait for ever
            asyncio.get_running_loop().call_soon(self._tell, words.Played(item.mark))

    def _put(self, call_media: CallMedia, item: bytes | words.MarkHere | words.Press) -> None:
        if isinstance(item, words.MarkHere):
            call_media.mark(item.mark)
        elif isinstance(item, words.Press):
            call_media.send_digits(item.digits)
        else:
            call_media.play(item)

    def _clear(self) -> None:
        if self._handle is not None:
            self._handle.media.flush()
            return
        marks = [item.mark for item in self._early if isinstance(item, words.MarkHere)]
        self._early = [item for item in self._early if isinstance(item, words.Press)]
        for mark in marks:
            asyncio.get_running_loop().call_soon(self._tell, words.Played(mark))

    def _end(self, end: words.End) -> None:
        now = monotonic()
        if self._is_over:
            return
        if self.call.is_answered or self.call.is_outbound:
            succeeded = end.cause.startswith("success/")
            self.call.hang_up(now, reason_header=NORMAL_CLEARING if succeeded else TEMPORARY_FAILURE)
        else:
            self.call.reject(end.status, now, retry_after_s=end.retry_after_s or None)

    def _agree(self, agreement: Agreement) -> None:
        if self._handle is not None:
            self._handle.media.agree(agreement, monotonic())
        elif self._pair is not None:
            pair, self._pair = self._pair, None
            handle = self._handle = self._desk.open_media(self, pair, agreement)
            early, self._early = self._early, []
            for item in early:
                self._put(handle.media, item)

    def _lost(self, lost: media.MediaLost) -> None:
        """No RTP for too long. While a REFER is being carried out that is no fault: the caller is with the trunk, and
        many (Asterisk for one) send nothing then; a BYE of ours would end in nothing, or end the transfer."""
        if self.transfer_over is not None and self._handle is not None:
            self._handle.media.watch_anew(monotonic())
            return
        self._log.warning("media_lost", silent_s=round(lost.silent_s, 1), has_begun=lost.has_begun)
        self._tell(words.Over("no_media", f"no RTP for {lost.silent_s:.0f} s"))
        self.hang_up(TEMPORARY_FAILURE)

    def _note_hold(self, agreement: Agreement) -> None:
        if agreement.is_held_by_peer != self._is_held:
            self._is_held = agreement.is_held_by_peer
            self._tell(words.Held() if self._is_held else words.Unheld())

    def _over(self, over: CallOver) -> None:
        self._is_over = True
        self._close_media()
        if self.transfer_over is not None:
            self.transfer_over(over)
        self._desk.line_over(self, over)
        if over.how is not SipEnd.LOCAL:
            self._tell(words.Over(over.how.value, f"{over.how.value} {over.status or ''}".strip()))

    def _close_media(self) -> None:
        if self._handle is not None:
            self._handle.close()
        if self._pair is not None:
            pair, self._pair = self._pair, None
            self._desk.free(pair)
