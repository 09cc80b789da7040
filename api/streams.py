"""The log as it streams: all of it as NDJSON, and its end as server-sent events, a page in memory at a time."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct, structs

from infra import event_log
from infra.database import Pool
from infra.event_log import Recorded, Text
from infra.writer import LogBusy

PAGE_ENTRIES: Final = 1_000
LOOK_EVERY_SECONDS: Final = 0.25
BREATHE_EVERY_SECONDS: Final = 15
"""How often a quiet tail says that it is alive, so that nobody in between closes it."""

TAIL_SECONDS_MAX: Final = 600
"""A tail ends within the life of an access token; whoever follows comes back with another, and misses nothing."""

TAILS_MAX: Final = 50
"""Bounds how many follow the log in one process."""

CHANGE: Final = '_changed"'
"""What stands in the entry of every change, at the end of its type; where it stands in another, nothing is lost."""

_tails: Final = asyncio.Semaphore(TAILS_MAX)


class Selection(Struct, frozen=True, kw_only=True):
    """Which entries are asked for: those after a position, up to another (None: the end), of what the filters name."""

    after: int = 0
    until: int | None = None
    event_type: str | None = None
    stream: str | None = None
    actor: str | None = None


class _Streamed(Struct, frozen=True, kw_only=True):
    stream: str


_decode_stream: Final = msgspec.json.Decoder(_Streamed).decode


class Line(Text, frozen=True, kw_only=True, omit_defaults=True):
    """An entry as it is shown: its position, its exact text and, of a change, what the fields that it sets were."""

    before: dict[str, Any] | None = None


async def read(pool: Pool, ledger_id: UUID, asked: Selection, *, limit: int) -> list[Line]:
    """Return the first entries of a selection."""
    async with pool.connection() as connection:
        texts = await event_log.read_texts(
            connection,
            ledger_id,
            asked.after,
            until=asked.until,
            event_type=asked.event_type,
            stream=asked.stream,
            actor=asked.actor,
            limit=limit,
        )
        streams = {_decode_stream(text.entry).stream for text in texts if CHANGE in text.entry}
        before: dict[int, dict[str, Any]] = {}
        with suppress(msgspec.DecodeError):  # the log can be read, whatever somebody put into it
            before = _before(await event_log.read_streams(connection, ledger_id, streams)) if streams else {}
    return [Line(position=text.position, entry=text.entry, before=before.get(text.position)) for text in texts]


def _before(streams: Mapping[str, Sequence[Recorded]]) -> dict[int, dict[str, Any]]:
    """Return by position what the fields that a change sets were before it."""
    found: dict[int, dict[str, Any]] = {}
    for recorded in streams.values():
        fields: dict[str, Any] = {}
        for each in recorded:
            kind = event_log.type_of(each.entry)
            if kind.endswith(("_created", "_changed")):
                said = {name: value for name, value in msgspec.to_builtins(each.entry.event).items() if name != "type"}
                if kind.endswith("_changed"):
                    found[each.position] = {name: fields.get(name) for name in said}
                else:  # what a creation leaves unsaid is as by default
                    said = msgspec.to_builtins(structs.asdict(each.entry.event))
                fields |= said
    return found


async def ndjson(pool: Pool, ledger_id: UUID, asked: Selection, *, limit: int | None) -> AsyncIterator[bytes]:
    """Yield a selection up to where the log ends now, a line an entry; all of it, or as many as `limit`."""
    async with pool.connection() as connection:
        head = (await event_log.read_head(connection, ledger_id)).position
    asked = structs.replace(asked, until=head if asked.until is None else min(head, asked.until))
    left = limit
    while left is None or left > 0:
        wanted = PAGE_ENTRIES if left is None else min(left, PAGE_ENTRIES)
        texts = await read(pool, ledger_id, asked, limit=wanted)
        yield b"".join(msgspec.json.encode(text) + b"\n" for text in texts)
        if len(texts) < wanted:
            return
        asked = structs.replace(asked, after=texts[-1].position)
        left = None if left is None else left - len(texts)


def tail(pool: Pool, ledger_id: UUID, asked: Selection, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    """Return a selection as server-sent events, then what the log gains, until the process is about to stop.

    Raises LogBusy when too many follow.
    """
    if _tails.locked():
        raise LogBusy
    return _follow(pool, ledger_id, asked, stopping)


async def _follow(pool: Pool, ledger_id: UUID, asked: Selection, stopping: asyncio.Event) -> AsyncIterator[bytes]:
    async with _tails:
        ends_at = monotonic() + TAIL_SECONDS_MAX
        breathed_at = monotonic()
        yield b"retry: 1000\n\n"
        while monotonic() < ends_at and not stopping.is_set():
            async with pool.connection() as connection:
                head = (await event_log.read_head(connection, ledger_id)).position
            page = structs.replace(asked, until=head if asked.until is None else min(head, asked.until))
            texts = await read(pool, ledger_id, page, limit=PAGE_ENTRIES)
            full = len(texts) == PAGE_ENTRIES
            asked = structs.replace(asked, after=texts[-1].position if full else max(asked.after, head))
            if texts:
                yield b"".join(
                    b"id: %d\nevent: entry\ndata: %b\n\n" % (text.position, msgspec.json.encode(text)) for text in texts
                )
            elif monotonic() - breathed_at >= BREATHE_EVERY_SECONDS:
                yield b":\n\n"
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_EVERY_SECONDS)
                continue
            breathed_at = monotonic()
