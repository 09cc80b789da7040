"""The read model of a campaign's history: what happened to it, who did it, and when."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, get_args
from uuid import UUID

import msgspec
from msgspec import NODEFAULT, Struct, structs
from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, Table, Text, Uuid, literal_column, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import Label

from domain.decider import copied
from domain.errors import NotFound
from domain.events import (
    BudgetAsked,
    BudgetRequested,
    CampaignActivated,
    CampaignArchived,
    CampaignChanged,
    CampaignCompleted,
    CampaignCreated,
    CampaignExpired,
    CampaignPaused,
)
from domain.terms import CampaignTerms
from infra.composed import fetch
from infra.database import Connection
from infra.event_log import Recorded, type_of
from infra.tables import metadata
from projections.listing import BadCursor, Page
from projections.rows import subject_of, upsert
from projections.runner import Projection

VERSION_DIGITS_MAX: Final = 9

histories = Table(
    "histories",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("campaign_id", Uuid, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("fields", JSONB, nullable=False),
    comment="Read model: what happened to each campaign.",
)


_IS_REQUEST: Final = histories.c.type == literal_column(f"'{BudgetRequested.__struct_config__.tag}'")
Index("ix_histories_requests", histories.c.ledger_id, postgresql_where=_IS_REQUEST)


class HistoryRow(Struct, frozen=True, kw_only=True):
    """One event of a campaign: what it set, by whom, and when."""

    campaign_id: UUID
    version: int
    position: int
    type: str
    actor: str
    recorded_at: datetime
    fields: dict[str, Any]


class HistoryEvent(HistoryRow, frozen=True, kw_only=True):
    """One event of a campaign, and what the fields that it set were before; empty where there was no campaign yet."""

    before: dict[str, Any]


_UNSAID: Final = msgspec.json.encode(
    {
        field.name: field.default if field.default is not NODEFAULT else field.default_factory()
        for field in structs.fields(CampaignCreated)
        if not field.required
    }
).decode()

# What a field was before is what the last event that named it said; where none did, what a campaign begins with.
_BEFORE: Final[Label[dict[str, Any]]] = literal_column(f"""
    coalesce((
        SELECT jsonb_object_agg(field, coalesce((
            SELECT earlier.fields -> field FROM histories AS earlier
            WHERE earlier.ledger_id = histories.ledger_id AND earlier.campaign_id = histories.campaign_id
                AND earlier.version < histories.version AND earlier.fields ? field
            ORDER BY earlier.version DESC LIMIT 1
        ), '{_UNSAID}'::jsonb -> field))
        FROM jsonb_object_keys(histories.fields) AS field WHERE histories.version > 1
    ), '{{}}')
""").label("before")


def fold(recorded: Recorded) -> HistoryRow:
    """Return the row of an entry."""
    entry = recorded.entry
    event = entry.event
    # What the log leaves unsaid, because it is as usual, is said here: what comes later changes it.
    fields = msgspec.to_builtins(copied(CampaignTerms, event) if isinstance(event, CampaignCreated) else event)
    fields.pop("type", None)
    return HistoryRow(
        campaign_id=subject_of(recorded),
        version=entry.version,
        position=recorded.position,
        type=type_of(entry),
        actor=entry.actor,
        recorded_at=entry.recorded_at,
        fields=fields,
    )


async def write(connection: Connection, ledger_id: UUID, batch: Sequence[Recorded]) -> None:
    """Write a batch into the table."""
    await upsert(connection, histories, ledger_id, [fold(recorded) for recorded in batch])


async def read(
    connection: Connection,
    ledger_id: UUID,
    campaign_id: UUID,
    *,
    cursor: str | None,
    limit: int,
    until: int | None = None,
) -> Page[HistoryEvent]:
    """Return the events of a campaign up to a position, oldest first; raise NotFound when there is no such campaign."""
    after = version_after(cursor)
    # A row of this read model never changes, so what stood at a position is what has come by it.
    conditions = [] if until is None else [histories.c.position <= until]
    columns = [histories.columns[name] for name in HistoryRow.__struct_fields__]
    statement = (
        select(*columns, _BEFORE)
        .where(histories.c.ledger_id == ledger_id, histories.c.campaign_id == campaign_id, histories.c.version > after)
        .where(*conditions)
        .order_by(histories.c.version)
        .limit(limit + 1)
    )
    rows = await fetch(connection, statement, HistoryEvent)
    if not rows and not after:
        raise NotFound("campaign", campaign_id)
    return Page(items=rows[:limit], next_cursor=str(rows[limit - 1].version) if len(rows) > limit else None)


async def campaign_asked(connection: Connection, ledger_id: UUID, request_id: UUID) -> UUID:
    """Return the campaign that a request for a budget was made for, answered or not; raise NotFound."""
    asked = histories.c.fields["request_id"].astext == str(request_id)
    statement = select(*(histories.columns[name] for name in HistoryRow.__struct_fields__))
    statement = statement.where(histories.c.ledger_id == ledger_id, _IS_REQUEST, asked)
    for row in await fetch(connection, statement, HistoryRow):
        return row.campaign_id
    raise NotFound("request", request_id)


def version_after(cursor: str | None) -> int:
    """Return the version after which a page begins; raise BadCursor."""
    if cursor is None:
        return 0
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > VERSION_DIGITS_MAX:
        raise BadCursor("The cursor is not one that this list handed out.", pointer="/cursor")
    return int(cursor)


PROJECTION: Final = Projection(
    name="history",
    version=2,
    handles=(
        CampaignCreated,
        CampaignChanged,
        CampaignActivated,
        CampaignPaused,
        CampaignCompleted,
        CampaignExpired,
        CampaignArchived,
        *get_args(BudgetAsked),
    ),
    key=lambda recorded: recorded.entry.stream,
    write=write,
    table=histories,
)
