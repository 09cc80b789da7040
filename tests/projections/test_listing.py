"""Lists: sorted by any field, page after page, without missing or repeating a row."""

import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.decider import stream_of
from domain.events import CampaignActivated
from infra.database import Connection, Pool
from infra.event_log import Recorded
from projections.campaigns import READ_MODEL, CampaignRow
from projections.listing import BadCursor, BadSort, Listing
from tests.domain.given import NOW
from tests.projections.histories import recorded_at
from tests.writing import drafted

COUNT = 11


def drafts(count: int, *, first: int = 1) -> list[Recorded]:
    """Return the creations of campaigns, most of which share a name, a priority and a moment."""
    return [
        recorded_at(
            number,
            stream_of("campaign", UUID(int=number)),
            1,
            drafted(name=f"name {number % 3}", priority=1 + number % 2),
            NOW + timedelta(microseconds=number % 2),
        )
        for number in range(first, first + count)
    ]


async def browsed(connection: Connection, ledger_id: UUID, sort: str, limit: int = 2) -> list[CampaignRow]:
    """Return all rows of the list, as they come page by page."""
    found: list[CampaignRow] = []
    cursor = None
    while True:
        page = await READ_MODEL.browse(connection, ledger_id, Listing(limit=limit, cursor=cursor, sort=sort))
        found += page.items
        if page.next_cursor is None:
            return found
        assert len(page.items) == limit
        cursor = page.next_cursor


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("field", READ_MODEL.sortable)
async def test_pages_follow_one_another(pool: Pool, ledger_id: UUID, field: str, descending: bool) -> None:
    """Rows that are equal in the sorted field are in the order of their ids, and no page repeats or skips one."""
    async with pool.connection() as connection:
        await READ_MODEL.write(connection, ledger_id, drafts(COUNT))
        found = await browsed(connection, ledger_id, f"-{field}" if descending else field)

    def place(row: CampaignRow) -> tuple[Any, UUID]:
        return getattr(row, field), row.id

    assert len(found) == COUNT
    assert [row.id for row in found] == [row.id for row in sorted(found, key=place, reverse=descending)]


async def test_a_cursor_survives_insertions(pool: Pool, ledger_id: UUID) -> None:
    """What is added before the place that a reader has come to does not shift the pages that follow."""
    async with pool.connection() as connection:
        await READ_MODEL.write(connection, ledger_id, drafts(4, first=10))
        first = await READ_MODEL.browse(connection, ledger_id, Listing(limit=2, sort="name"))
        await READ_MODEL.write(connection, ledger_id, drafts(3))
        listing = Listing(limit=100, sort="name", cursor=first.next_cursor)
        rest = await READ_MODEL.browse(connection, ledger_id, listing)
    seen = [row.id.int for row in (*first.items, *rest.items)]
    assert [number for number in seen if number >= 10] == [12, 10, 13, 11]
    assert len(set(seen)) == len(seen)


async def test_a_list_can_be_filtered(pool: Pool, ledger_id: UUID) -> None:
    """Filters that are given have to hold together; those that are not given hold for all."""
    async with pool.connection() as connection:
        activated = recorded_at(99, stream_of("campaign", UUID(int=3)), 2, CampaignActivated())
        await READ_MODEL.write(connection, ledger_id, [*drafts(6), activated])

        async def found(**filters: object) -> list[int]:
            page = await READ_MODEL.browse(connection, ledger_id, Listing(sort="created_at"), **filters)
            return sorted(row.id.int for row in page.items)

        assert await found(name=None) == [1, 2, 3, 4, 5, 6]
        assert await found(name="name 0") == [3, 6]
        assert await found(name="name 0", status="draft") == [6]
        assert await found(name="no such") == []


async def test_a_list_is_sorted_by_what_it_offers(pool: Pool, ledger_id: UUID) -> None:
    """Sorting by anything else is refused, and says by what it can be sorted."""
    async with pool.connection() as connection:
        for sort in ("budget_micros", "", "--name", "name desc", "ledger_id"):
            with pytest.raises(BadSort, match="priority"):
                await READ_MODEL.browse(connection, ledger_id, Listing(sort=sort))


def written(*parts: Any) -> str:
    """Return a cursor as the list writes them."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


SOME_ID = str(UUID(int=1))
FOREIGN: Sequence[tuple[str, str]] = [
    ("created_at", ""),
    ("created_at", "%%%"),
    ("created_at", "\N{SNOWMAN}"),
    ("created_at", "eA"),
    ("created_at", written("created_at", "2026-03-10")),
    ("created_at", written("-created_at", "2026-03-10", SOME_ID)),
    ("created_at", written("name", "a", SOME_ID)),
    ("created_at", written("created_at", "the day after", SOME_ID)),
    ("created_at", written("created_at", "2026-03-10", "no id")),
    ("priority", written("priority", "high", SOME_ID)),
    ("priority", written("priority", "99999999999999999999", SOME_ID)),
    ("name", written("name", "a\x00b", SOME_ID)),
    ("start_date", written("start_date", "99999999-01-01", SOME_ID)),
]


@pytest.mark.parametrize(("sort", "cursor"), FOREIGN)
async def test_foreign_cursors_are_refused(pool: Pool, ledger_id: UUID, sort: str, cursor: str) -> None:
    """A cursor that this list did not hand out for this order is refused, whatever is wrong with it."""
    async with pool.connection() as connection:
        await READ_MODEL.write(connection, ledger_id, drafts(1))
        with pytest.raises(BadCursor):
            await READ_MODEL.browse(connection, ledger_id, Listing(sort=sort, cursor=cursor))
        assert len(await browsed(connection, ledger_id, sort)) == 1
