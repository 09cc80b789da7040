"""The read model of slots: row, fold and queries."""

from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from msgspec import Struct, structs
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from domain.decider import begun, named_fields
from domain.events import SlotChanged, SlotCreated, SlotEvent, SlotKeyIssued, SlotKeyRevoked
from domain.terms import SlotTerms
from infra.event_log import Recorded
from infra.tables import metadata
from projections.rows import ReadModel, stamp, subject_of
from projections.runner import Projection

slots = Table(
    "slots",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("name", Text, nullable=False),
    Column("ad_type", Text, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("media_types", JSONB, nullable=False),
    Column("floor_cpm_micros", BigInteger, nullable=False),
    Column("max_rating", Text, nullable=False),
    Column("hold_seconds", Integer, nullable=False),
    Column("token_seconds", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("keys", JSONB, nullable=False),
    Column("refresh_seconds", Integer),
    Column("closable", Boolean, nullable=False),
    Column("traffic", Text, nullable=False),
    Column("click_without_impression", Text, nullable=False),
    comment="Read model: slots as they stand.",
)


class SlotKey(Struct, frozen=True, kw_only=True):
    """A valid key of a slot; the key itself is shown only once, when it is made."""

    key_id: UUID
    issued_at: datetime


class SlotRow(SlotTerms, frozen=True, kw_only=True):
    """A slot as it stands, its valid keys, and since when."""

    id: UUID
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    keys: tuple[SlotKey, ...] = ()


def fold(row: SlotRow | None, recorded: Recorded) -> SlotRow:
    """Return the row after an entry."""
    entry = recorded.entry
    event: SlotEvent = entry.event  # type: ignore[assignment]  # the runner hands over what is handled
    match event:
        case SlotCreated():
            return SlotRow(
                id=subject_of(recorded), created_at=entry.recorded_at, **stamp(recorded), **structs.asdict(event)
            )
        case SlotChanged():
            return structs.replace(begun(row), **stamp(recorded), **named_fields(event))
        case SlotKeyIssued():
            issued = SlotKey(key_id=event.key_id, issued_at=entry.recorded_at)
            return structs.replace(begun(row), **stamp(recorded), keys=(*begun(row).keys, issued))
        case SlotKeyRevoked():
            kept = tuple(key for key in begun(row).keys if key.key_id != event.key_id)
            return structs.replace(begun(row), **stamp(recorded), keys=kept)
        case _:
            assert_never(event)


READ_MODEL: Final = ReadModel(
    "slot", "slots", slots, SlotRow, fold, sortable=("created_at", "updated_at", "name", "status", "ad_type")
)

PROJECTION: Final = Projection(
    name=READ_MODEL.projection,
    version=1,
    handles=(SlotCreated, SlotChanged, SlotKeyIssued, SlotKeyRevoked),
    key=lambda recorded: recorded.entry.stream,
    write=READ_MODEL.write,
    table=slots,
)
