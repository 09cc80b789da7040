"""What a worker has to know of what was delivered, a second ago: the figures that pacing goes by."""

from collections.abc import Collection, Mapping
from datetime import date, datetime
from typing import Final
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.traffic import WEEK_HOURS
from infra.database import Connection

# A campaign's day is that of its time zone; what is leased is held by workers or free to be.
_SPENT: Final = """
    SELECT budget_id, impressions, spent_micros, day, day_impressions, day_spent_micros, leased_impressions
    FROM budgets WHERE ledger_id = %(ledger_id)s AND budget_id = ANY(%(campaigns)s)
"""

_WORKERS: Final = """
    SELECT count(*) AS alive FROM workers WHERE ledger_id = %s AND alive_until > clock_timestamp()
"""

# Hours are counted from 1970, those of the week from its first Thursday.
_ASKED: Final = """
    SELECT slot_id, min(first) AS first_hour, array_agg(hour) AS hours, array_agg(requests) AS requests
    FROM (
        SELECT slot_id, extract(epoch FROM hour)::bigint / 3600 %% %(week)s AS hour,
            min(extract(epoch FROM hour)::bigint / 3600) AS first, sum(requests)::bigint AS requests
        FROM ad_requests WHERE ledger_id = %(ledger_id)s AND hour >= %(since)s AND hour < %(until)s
        GROUP BY 1, 2
    ) AS weekly
    GROUP BY 1
"""


class Spent(Struct, frozen=True, kw_only=True):
    """What a campaign was billed, in all and on `day`, and how many impressions are set aside for workers."""

    budget_id: UUID
    impressions: int
    spent_micros: int
    day: date
    day_impressions: int
    day_spent_micros: int
    leased_impressions: int


class Asked(Struct, frozen=True, kw_only=True):
    """What a slot asked for, by hour of the week, since the first hour in which it asked for anything."""

    slot_id: UUID
    first_hour: int
    requests: Mapping[int, int]


async def read_spent(connection: Connection, ledger_id: UUID, campaigns: Collection[UUID]) -> dict[UUID, Spent]:
    """Return what campaigns were billed and what of them is leased."""
    cursor = await connection.execute(_SPENT, {"ledger_id": ledger_id, "campaigns": list(campaigns)})
    return {row["budget_id"]: msgspec.convert(row, Spent) for row in await cursor.fetchall()}


async def count_workers(connection: Connection, ledger_id: UUID) -> int:
    """Return how many workers are alive."""
    row = await (await connection.execute(_WORKERS, (ledger_id,))).fetchone()
    return 0 if row is None else int(row["alive"])


async def read_asked(connection: Connection, ledger_id: UUID, since: datetime, until: datetime) -> list[Asked]:
    """Return what slots asked for within a span of full hours."""
    cursor = await connection.execute(
        _ASKED, {"ledger_id": ledger_id, "since": since, "until": until, "week": WEEK_HOURS}
    )
    return [
        Asked(
            slot_id=row["slot_id"],
            first_hour=row["first_hour"],
            requests=dict(zip(row["hours"], row["requests"], strict=True)),
        )
        for row in await cursor.fetchall()
    ]
