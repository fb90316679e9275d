"""SIP messages of calls on disk: whose, and how they come back."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from bridge.errors import RemoteError
from bridge.server.call_files import NoCallFileError
from bridge.server.sip import message_store
from bridge.server.sip.message_store import (
    SUFFIX,
    MessagesKept,
    MessageStore,
    MessageStoreOptions,
    decode_trace,
    encode_trace,
)
from bridge.sip.message_log import SipMessageEntry, SipTrace

TRACE = SipTrace(
    call_id="c1@192.0.2.10",
    messages=[
        SipMessageEntry(at=1.0, sent=False, transport="UDP", peer="192.0.2.10:5060", summary="INVITE", text="INVITE x")
    ],
)


async def settled(store: MessageStore) -> None:
    await asyncio.gather(*store._tasks)


def names(folder: Path) -> list[str]:
    return sorted(path.name.removesuffix(SUFFIX) for path in folder.iterdir())


async def test_a_trace_comes_back(tmp_path: Path) -> None:
    store = MessageStore(MessageStoreOptions(tmp_path))
    store.put("call1", TRACE, failed=False)
    assert await store.trace("call1") == TRACE  # while it is being written
    await settled(store)
    assert await store.trace("call1") == TRACE
    assert names(tmp_path) == ["call1"]
    await store.delete("call1")
    with pytest.raises(NoCallFileError):
        await store.trace("call1")
    await store.prune()
    await store.aclose()


@pytest.mark.parametrize(
    ("kept", "written"),
    [(MessagesKept.OFF, []), (MessagesKept.ERRORS, ["bad"]), (MessagesKept.ALL, ["bad", "good"])],
)
async def test_whose_are_kept(tmp_path: Path, kept: MessagesKept, written: list[str]) -> None:
    store = MessageStore(MessageStoreOptions(tmp_path), lambda call_id: None)
    store.configure(MessageStoreOptions(tmp_path / "elsewhere", kept))
    store.put("good", TRACE, failed=False)
    store.put("bad", TRACE, failed=True)
    await store.aclose()
    assert names(tmp_path) == written
    assert store.stats.written == len(written)


async def test_a_call_that_is_on(tmp_path: Path) -> None:
    store = MessageStore(MessageStoreOptions(tmp_path), {"live": TRACE}.get)
    assert await store.trace("live") == TRACE
    with pytest.raises(NoCallFileError):
        await store.trace("other")
    await store.aclose()


def test_a_damaged_file(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = encode_trace(TRACE)
    assert decode_trace(whole) == TRACE
    assert encode_trace(TRACE) == whole  # the same bytes at any time
    broken = (b"", b"\x1f\x8b", whole[:-9], whole[:12] + b"\xff" * 20, gzip.compress(b"{}"), gzip.compress(b"\xff"))
    for data in broken:
        with pytest.raises(RemoteError, match="the file of SIP messages is damaged"):
            decode_trace(data)
    monkeypatch.setattr(message_store, "MAX_UNPACKED_BYTES", 50)
    with pytest.raises(RemoteError):
        decode_trace(whole)
