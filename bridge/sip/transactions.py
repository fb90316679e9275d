"""All SIP transactions of one user agent: between the bytes of the network and the user, who has calls and dialogs.

Public: ``TransactionLayer`` and its events ``NewRequest``, ``NewResponse``, ``Cancelled``, ``TimedOut``,
``SendFailed``, ``Gone``.

What the layer does by itself: it repeats requests and final responses over UDP, absorbs the repeats of the peer,
sends 100 to an INVITE that nobody answers within 200 ms, acknowledges final responses other than 2xx, answers CANCEL,
refuses merged requests (482) and those that come while too many are open (503). What is the user's: the ACK of a 2xx
and the repeats of a 2xx until that ACK comes (RFC 3261 sections 13.2.2.4 and 13.3.1.4), both by ``send``.

Sources: RFC 3261 sections 8.2.2.2, 9, 17 and 18.2.2, RFC 6026 (2xx keep their transaction), RFC 3581 (rport), RFC 4320
(what is no INVITE is not answered late). Pure: ``now`` is monotonic seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.errors import LocalError
from bridge.sip.envelope import Envelope
from bridge.sip.errors import HeaderError, Rejection
from bridge.sip.flow import Flow, Outgoing
from bridge.sip.grammar import split_list
from bridge.sip.message import Request, Response, make_response, reject
from bridge.sip.timers import TimerList, Timers
from bridge.sip.transaction_client import (
    ClientState,
    ClientTransaction,
    InviteClient,
    NonInviteClient,
    client_key,
    make_cancel,
    own_key,
)
from bridge.sip.transaction_server import (
    InviteServer,
    NonInviteServer,
    ServerState,
    ServerTransaction,
    server_key,
    way_back,
)
from bridge.sip.values import parse_via

MAX_SERVER_TRANSACTIONS = 20_000
"""Open transactions of peers. 100 calls a second over UDP, each INVITE and BYE kept for 32 s, are 6,400."""
MAX_SERVER_BYTES = 64 * 1024 * 1024
"""What their requests may come to together: most have below 2 kB, but each may have as much as the parser takes."""
IN_DIALOG_SHARE = 5
"""One part in so many is kept for requests within dialogs: a flood does not keep calls from being hung up."""
RETRY_AFTER_S = 5
"""When a peer may come again that was refused for too many of them."""

OVERLOADED = Rejection(503, "Service Unavailable", (("Retry-After", str(RETRY_AFTER_S)),))
MERGED = Rejection(482, "Merged Request")
DEFAULT_TIMERS = Timers()

MergeKey = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request for the user, once: repeats are absorbed. Never a CANCEL. Answer with ``respond(key, ...)``.

    An ACK of a 2xx, and every ACK that belongs to no transaction, comes with an empty key: it has no answer. ACKs of
    other final responses do not come.
    """

    key: str
    request: Request
    envelope: Envelope
    flow: Flow
    """Whence it came."""


@dataclass(frozen=True, slots=True)
class NewResponse:
    """A response for the user: provisional ones each time, a final one once.

    Further 2xx of an INVITE (repeats, and those of other forks) come each time, for 64 * T1 after the first; the user
    acknowledges each. A 2xx of an INVITE that belongs to no transaction (any more) comes with an empty key.
    """

    key: str
    response: Response
    envelope: Envelope
    flow: Flow


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The peer cancelled its INVITE before there was a final response (the CANCEL is answered): now answer it 487."""

    key: str
    """Of the INVITE."""
    request: Request
    """The CANCEL, for its Reason header."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """Nothing came: no final response to a request of ours (timers B, F, or 64 * T1 after a CANCEL), or no ACK of a
    rejection of ours (timer H; of no consequence but for the log). The transaction is gone."""

    key: str


@dataclass(frozen=True, slots=True)
class SendFailed:
    """The transport could not send a request of ours. The transaction is gone: try another way with a new branch."""

    key: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A transaction of ours that had its final response is over: nothing comes with this key any more."""

    key: str


TransactionEvent = NewRequest | NewResponse | Cancelled | TimedOut | SendFailed | Gone


class TransactionLayer:
    """The transactions of one user agent, both roles. Not thread-safe; every call returns at once.

    The caller's duty: ``drain`` after each call, ``handle_timer`` when ``next_timer`` is due.
    """

    def __init__(
        self,
        timers: Timers = DEFAULT_TIMERS,
        *,
        may_answer: Callable[[Flow, float], bool] | None = None,
        max_server_transactions: int = MAX_SERVER_TRANSACTIONS,
        max_server_bytes: int = MAX_SERVER_BYTES,
    ) -> None:
        """``may_answer`` says whether a source gets the layer's own refusals (481, 482, 503); None = everybody does."""
        self._timers = timers
        self._may_answer = may_answer or _always
        self._max_servers = max_server_transactions
        self._max_server_bytes = max_server_bytes
        self._server_bytes = 0
        self._out: list[Outgoing] = []
        self._clients: dict[str, ClientTransaction] = {}
        self._servers: dict[str, ServerTransaction] = {}
        self._mergeable: set[MergeKey] = set()
        self._rejected: dict[MergeKey, InviteServer] = {}  # those that wait for the ACK of a rejection
        self._timer_list: TimerList[ClientTransaction | ServerTransaction] = TimerList()

    # From the network

    def receive_request(self, request: Request, envelope: Envelope, flow: Flow, now: float) -> list[TransactionEvent]:
        """Take a request that is stamped and whose envelope was read: NewRequest, Cancelled, or nothing."""
        if request.method == "ACK":
            return self._receive_ack(request, envelope, flow, now)
        key = server_key(envelope, request.method)
        known = self._servers.get(key)
        if known is not None:
            known.repeat()
            return []
        if request.method == "CANCEL":
            return self._receive_cancel(key, request, envelope, flow, now)
        merge_key = _merge_key(envelope)
        refusal = self._refusal(envelope, merge_key)
        if refusal is not None:
            if self._may_answer(flow, now):
                self.send(reject(request, refusal, _layer_tag(envelope)), flow)
            return []
        self._open_server(key, request, envelope, flow, now).merge_key = merge_key
        if merge_key is not None:
            self._mergeable.add(merge_key)
        return [NewRequest(key, request, envelope, flow)]

    def receive_response(
        self, response: Response, envelope: Envelope, flow: Flow, now: float
    ) -> list[TransactionEvent]:
        """Take a response: NewResponse (and Gone, where nothing can follow it), or nothing."""
        events: list[TransactionEvent] = []
        transaction = self._clients.get(client_key(envelope.via, envelope.cseq.method))
        if transaction is not None:
            if transaction.receive(response, now) and not transaction.is_silent:
                events.append(NewResponse(transaction.key, response, envelope, flow))
            self._tend_client(transaction, now, events)
        if not events and 200 <= response.status < 300 and envelope.cseq.method == "INVITE":
            # Too late, from a fork that lost, or after a rejection: whoever sent it believes that there is a call.
            events.append(NewResponse("", response, envelope, flow))
        return events

    def send_failed(self, key: str, now: float) -> list[TransactionEvent]:
        """The transport could not send what carried this ``Outgoing.key``: SendFailed, or nothing if it is past."""
        transaction = self._clients.get(key)
        if transaction is None or not transaction.fail():
            return []
        del self._clients[key]
        return [] if transaction.is_silent else [SendFailed(key)]

    # From the user

    def respond(self, key: str, response: Response, now: float) -> None:
        """Send a response to the request of ``NewRequest.key``. Unknown keys (it is long over) are ignored.

        Raises ``LocalError`` for a second final response, and for a provisional one after it. Repeats of a 2xx to
        INVITE go by ``send``.
        """
        transaction = self._servers.get(key)
        if transaction is None:
            return
        transaction.respond(response, now)
        if response.status >= 300:
            self._unmerge(transaction)
            if isinstance(transaction, InviteServer):
                self._rejected[transaction.call_key] = transaction
        self._tend_server(transaction)

    def forget(self, key: str) -> None:
        """Leave a request unanswered for good: no 100, and a flood of such costs no memory.

        A repeat is a new request then. What was answered for good already stays as it is.
        """
        transaction = self._servers.get(key)
        if transaction is not None and transaction.forget():
            self._tend_server(transaction)

    def request(self, request: Request, flow: Flow, now: float) -> str:
        """Send a request other than ACK and CANCEL; gives the key of its transaction.

        Its one Via has a branch that was never used. Raises ``LocalError`` where not.
        """
        key = own_key(request)
        if key in self._clients:
            raise LocalError("a branch was used before")
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        self._open_client(kind(key, request, flow, self._timers, self._out, now))
        return key

    def cancel(self, key: str, now: float, fields: Iterable[tuple[str, str]] = ()) -> None:
        """Cancel an INVITE of ours; ``fields`` are further headers of the CANCEL (Reason).

        The CANCEL waits for a provisional response. Nothing happens if there was a final one, and if it is cancelled
        already. The final response (487 as a rule, a 2xx that crossed perhaps) comes as ever, or TimedOut 64 * T1
        after the CANCEL. Never answered at all, the INVITE times out as ever.
        """
        transaction = self._clients.get(key)
        if isinstance(transaction, InviteClient):
            transaction.cancel(now, fields)
            self._tend_client(transaction, now, [])

    def send(self, message: Request | Response, flow: Flow) -> None:
        """Send outside of transactions: the ACK of a 2xx, a 2xx again, a rejection of what has no envelope.

        A response goes back as its Via and ``flow``, that on which its request came, want it.
        """
        data = message.encode()
        if isinstance(message, Response):
            try:
                via = parse_via(split_list(message.headers.get("Via") or "")[0])
            except HeaderError:  # a rejection of just that
                self._out.append(Outgoing(data, flow))
            else:
                self._out.append(way_back(data, via, flow))
        else:
            self._out.append(Outgoing(data, flow))

    # For the owner

    def next_timer(self) -> float:
        """When ``handle_timer`` is due; ``math.inf`` = not at all."""
        return self._timer_list.next()

    def handle_timer(self, now: float) -> list[TransactionEvent]:
        """Do what is due: repeats, TimedOut, Gone."""
        events: list[TransactionEvent] = []
        for transaction in self._timer_list.take_due(now):
            if isinstance(transaction, InviteClient | NonInviteClient):
                transaction.handle_timer(now)
                self._tend_client(transaction, now, events)
            else:
                if transaction.handle_timer(now):
                    events.append(TimedOut(transaction.key))
                self._tend_server(transaction)
        return events

    def drain(self) -> list[Outgoing]:
        """What is to be sent, in order; each once."""
        drained = self._out[:]
        self._out.clear()  # the transactions share the list
        return drained

    def __len__(self) -> int:
        """Open transactions."""
        return len(self._clients) + len(self._servers)

    # Server side

    def _receive_ack(self, ack: Request, envelope: Envelope, flow: Flow, now: float) -> list[TransactionEvent]:
        transaction = self._servers.get(server_key(envelope, "INVITE"))
        if transaction is None:
            # SIPp 3.6 for one gives the ACK of a 401 a branch of its own; the 401 would be repeated for 32 s.
            rejected = self._rejected.get(_call_key(envelope))
            transaction = rejected if rejected is not None and rejected.local_tag == envelope.to.tag else None
        if isinstance(transaction, InviteServer) and transaction.owns_ack(envelope):
            is_for_user = transaction.acknowledge(now)
            self._tend_server(transaction)
            if not is_for_user:
                return []
        return [NewRequest("", ack, envelope, flow)]

    def _receive_cancel(
        self, key: str, cancel: Request, envelope: Envelope, flow: Flow, now: float
    ) -> list[TransactionEvent]:
        invite = self._servers.get(server_key(envelope, "INVITE"))
        if isinstance(invite, InviteServer):
            response = make_response(cancel, 200, to_tag=invite.local_tag or _layer_tag(envelope))
        elif not self._may_answer(flow, now):
            return []
        else:
            response = make_response(cancel, 481, to_tag=_layer_tag(envelope))
        if self._has_room(envelope):
            self._open_server(key, cancel, envelope, flow, now)
            self.respond(key, response, now)
        else:
            self.send(response, flow)
        if isinstance(invite, InviteServer) and invite.cancel():
            return [Cancelled(invite.key, cancel)]
        return []

    def _refusal(self, envelope: Envelope, merge_key: MergeKey | None) -> Rejection | None:
        if merge_key in self._mergeable:
            return MERGED
        return None if self._has_room(envelope) else OVERLOADED

    def _has_room(self, envelope: Envelope) -> bool:
        count, size = self._max_servers, self._max_server_bytes
        if not envelope.to.tag:
            count -= count // IN_DIALOG_SHARE
            size -= size // IN_DIALOG_SHARE
        return len(self._servers) < count and self._server_bytes < size

    def _open_server(self, key: str, request: Request, envelope: Envelope, flow: Flow, now: float) -> ServerTransaction:
        transaction: ServerTransaction
        if request.method == "INVITE":
            transaction = InviteServer(key, request, envelope, flow, self._timers, self._out, now)
        else:
            transaction = NonInviteServer(key, request, envelope, flow, self._timers, self._out, now)
        self._servers[key] = transaction
        self._server_bytes += transaction.size_bytes
        self._timer_list.note(transaction)
        return transaction

    def _tend_server(self, transaction: ServerTransaction) -> None:
        if transaction.state is ServerState.TERMINATED:
            del self._servers[transaction.key]
            self._server_bytes -= transaction.size_bytes
            self._unmerge(transaction)
            if isinstance(transaction, InviteServer) and self._rejected.get(transaction.call_key) is transaction:
                del self._rejected[transaction.call_key]
        self._timer_list.note(transaction)

    def _unmerge(self, transaction: ServerTransaction) -> None:
        if transaction.merge_key is not None:
            self._mergeable.remove(transaction.merge_key)
            transaction.merge_key = None

    # Client side

    def _open_client(self, transaction: ClientTransaction) -> None:
        self._clients[transaction.key] = transaction
        self._timer_list.note(transaction)

    def _tend_client(self, transaction: ClientTransaction, now: float, events: list[TransactionEvent]) -> None:
        if isinstance(transaction, InviteClient) and transaction.wants_cancel:
            transaction.wants_cancel = False
            cancel = make_cancel(transaction.request, transaction.cancel_fields)
            key = own_key(cancel)
            self._open_client(
                NonInviteClient(key, cancel, transaction.flow, self._timers, self._out, now, is_silent=True)
            )
        if transaction.state is ClientState.TERMINATED:
            del self._clients[transaction.key]
            if not transaction.is_silent:
                events.append(TimedOut(transaction.key) if transaction.has_timed_out else Gone(transaction.key))
        self._timer_list.note(transaction)


def _always(_: Flow, __: float) -> bool:
    return True


def _merge_key(envelope: Envelope) -> MergeKey | None:
    """What copies of a request have in common that took several ways here; None within a dialog (8.2.2.2)."""
    if envelope.to.tag:
        return None
    return _call_key(envelope)


def _call_key(envelope: Envelope) -> MergeKey:
    """The same of an INVITE and of its ACK, whatever their branches."""
    method = "INVITE" if envelope.cseq.method == "ACK" else envelope.cseq.method
    return envelope.from_.tag, envelope.call_id, envelope.cseq.number, method


def _layer_tag(envelope: Envelope) -> str:
    """A tag of To for responses that found no dialog: of a repeated request the same (RFC 3261 section 8.2.7)."""
    text = f"{envelope.call_id}\n{envelope.from_.tag}\n{envelope.cseq.number}\n{envelope.via.branch}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
