"""What changed between two positions of the log: by campaign, the fields, the money and the counts."""

from typing import Any
from uuid import UUID

import msgspec
from msgspec import Struct

from domain.decider import stream_of
from domain.errors import Refusal
from infra.database import Connection, connect_to
from infra.event_log import CATALOGUE, read_streams
from projections import campaigns, delivery
from projections.campaigns import CampaignRow
from projections.delivery import DeliveryQuery, DeliveryReport
from projections.listing import LIMIT_MAX
from projections.replay import replayed

STAMPS = frozenset({"id", "position", "updated_at"})
"""What every event sets, so that it is no news."""


class OutOfOrder(Refusal):
    """The later moment comes before the earlier one."""

    code = "moments_out_of_order"


class FieldChange(Struct, frozen=True, kw_only=True):
    """A field of a campaign before and after; before is null where there was no campaign yet."""

    before: Any
    after: Any


class CampaignChanges(Struct, frozen=True, kw_only=True):
    """What changed of a campaign: its fields by name, and what was delivered meanwhile, of each currency."""

    campaign_id: UUID
    fields: dict[str, FieldChange]
    delivered: list[DeliveryReport]


async def read_changes(
    url: str, ledger_id: UUID, *, after: int, until: int, begin: UUID | None, limit: int
) -> list[CampaignChanges]:
    """Return what the entries after one position, up to another, changed: campaigns by id, those after `begin`."""
    delivered: dict[UUID, list[DeliveryReport]] = {}
    query = DeliveryQuery(group_by=("campaign",))
    async with replayed(url, delivery.PROJECTION, ledger_id, until, after=after) as connection:
        while lines := await delivery.read_report(
            connection, ledger_id, query, limit=LIMIT_MAX, offset=sum(map(len, delivered.values()))
        ):
            for line in lines:
                assert line.campaign_id is not None  # noqa: S101  the report is grouped by it
                delivered.setdefault(line.campaign_id, []).append(line)
    async with await connect_to(url, ledger_id) as connection:
        touched = await _touched(connection, ledger_id, after, until)
        concerned = sorted(each for each in touched | delivered.keys() if begin is None or each > begin)[:limit]
        fields = await _fields(connection, ledger_id, [each for each in concerned if each in touched], after, until)
    return [
        CampaignChanges(campaign_id=each, fields=fields.get(each, {}), delivered=delivered.get(each, []))
        for each in concerned
    ]


async def _touched(connection: Connection, ledger_id: UUID, after: int, until: int) -> set[UUID]:
    """Return the campaigns about which commands wrote something."""
    cursor = await connection.execute(
        f"""
        SELECT DISTINCT stream_id FROM events
        WHERE ledger_id = %(ledger_id)s AND position > %(after)s AND position <= %(until)s
            AND {CATALOGUE} AND stream_id LIKE %(streams)s
        """,
        {"ledger_id": ledger_id, "after": after, "until": until, "streams": f"{campaigns.READ_MODEL.thing}-%"},
    )
    return {UUID(row["stream_id"].partition("-")[2]) for row in await cursor.fetchall()}


async def _fields(
    connection: Connection, ledger_id: UUID, subjects: list[UUID], after: int, until: int
) -> dict[UUID, dict[str, FieldChange]]:
    """Return the fields that differ between the rows at the two positions, folded from the streams."""
    streams = {stream_of(campaigns.READ_MODEL.thing, subject): subject for subject in subjects}
    found: dict[UUID, dict[str, FieldChange]] = {}
    for stream, entries in (await read_streams(connection, ledger_id, streams)).items():
        before: CampaignRow | None = None
        row: CampaignRow | None = None
        for recorded in entries:
            if recorded.position <= until:
                row = campaigns.fold(row, recorded)
            if recorded.position <= after:
                before = row
        found[streams[stream]] = _differing(before, row)
    return found


def _differing(before: CampaignRow | None, after: CampaignRow | None) -> dict[str, FieldChange]:
    old: dict[str, Any] = {} if before is None else msgspec.to_builtins(before)
    new: dict[str, Any] = {} if after is None else msgspec.to_builtins(after)
    return {
        name: FieldChange(before=old.get(name), after=value)
        for name, value in new.items()
        if name not in STAMPS and (name not in old or old[name] != value)
    }
