"""The read model of advertisers: row, fold and queries."""

from datetime import datetime
from typing import Final, assert_never
from uuid import UUID

from msgspec import structs
from sqlalchemy import BigInteger, Column, DateTime, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from domain.advertiser import funds_after, without_contact
from domain.decider import begun, named_fields
from domain.events import (
    AdvertiserChanged,
    AdvertiserCreated,
    AdvertiserEvent,
    FundsDeposited,
    FundsWithdrawn,
    LegalHoldLifted,
    LegalHoldPlaced,
    PersonalDataErased,
)
from domain.terms import AdvertiserTerms
from domain.values import CurrencyCode
from infra.event_log import Recorded
from infra.tables import metadata
from projections.rows import ReadModel, stamp, subject_of
from projections.runner import Projection

advertisers = Table(
    "advertisers",
    metadata,
    Column("ledger_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("name", Text, nullable=False),
    Column("company_name", Text, nullable=False),
    Column("email", Text),
    Column("phone", Text),
    Column("status", Text, nullable=False),
    Column("currency", Text),
    Column("funds_micros", BigInteger),
    Column("legal_hold", Text),
    Column("erased_at", DateTime(timezone=True)),
    Column("attribution_window", JSONB, nullable=False),
    Column("click_id_parameter", Text),
    comment="Read model: advertisers as they stand.",
)


class AdvertiserRow(AdvertiserTerms, frozen=True, kw_only=True):
    """An advertiser as it stands, and since when; its funds are what it deposited less what it withdrew.

    `erased_at` says when its contact was last erased, `legal_hold` why it must not be.
    """

    id: UUID
    version: int
    position: int
    created_at: datetime
    updated_at: datetime
    currency: CurrencyCode | None = None
    funds_micros: int | None = None
    legal_hold: str | None = None
    erased_at: datetime | None = None


def fold(row: AdvertiserRow | None, recorded: Recorded) -> AdvertiserRow:
    """Return the row after an entry."""
    entry = recorded.entry
    event: AdvertiserEvent = entry.event  # type: ignore[assignment]  # the runner hands over what is handled
    match event:
        case AdvertiserCreated():
            return AdvertiserRow(
                id=subject_of(recorded), created_at=entry.recorded_at, **stamp(recorded), **structs.asdict(event)
            )
        case AdvertiserChanged():
            return structs.replace(begun(row), **stamp(recorded), **named_fields(event))
        case FundsDeposited() | FundsWithdrawn():
            known = begun(row)
            funds = funds_after(known.funds_micros, event)
            return structs.replace(known, **stamp(recorded), currency=event.currency, funds_micros=funds)
        case LegalHoldPlaced():
            return structs.replace(begun(row), **stamp(recorded), legal_hold=event.reason)
        case LegalHoldLifted():
            return structs.replace(begun(row), **stamp(recorded), legal_hold=None)
        case PersonalDataErased():
            erased = without_contact(begun(row))
            return structs.replace(erased, **stamp(recorded), erased_at=entry.recorded_at)
        case _:
            assert_never(event)


READ_MODEL: Final = ReadModel(
    "advertiser",
    "advertisers",
    advertisers,
    AdvertiserRow,
    fold,
    sortable=("created_at", "updated_at", "name", "status"),
    advertiser=advertisers.c.id,
)

PROJECTION: Final = Projection(
    name=READ_MODEL.projection,
    version=3,
    handles=(
        AdvertiserCreated,
        AdvertiserChanged,
        FundsDeposited,
        FundsWithdrawn,
        LegalHoldPlaced,
        LegalHoldLifted,
        PersonalDataErased,
    ),
    key=lambda recorded: recorded.entry.stream,
    write=READ_MODEL.write,
    table=advertisers,
)
