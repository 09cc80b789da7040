"""A campaign's history: every event, in order, with who did it and what it set."""

from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec import structs

from domain.decider import stream_of
from domain.errors import NotFound
from domain.events import CampaignActivated, CampaignChanged
from domain.terms import CampaignTerms
from infra.database import Pool
from projections.history import HistoryEvent, fold, read, version_after, write
from projections.listing import BadCursor
from tests.domain.strategies import law
from tests.projections.histories import LIVES, Life, cut, cuts, recorded_at
from tests.writing import drafted, new_ledger


@settings(law, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(life=LIVES["campaign"], places=cuts)
async def test_a_history_is_complete(pool: Pool, life: Life, places: list[int]) -> None:
    """Page after page, the history is every event of the campaign in order, with its fields as the log has them."""
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        for batch in cut(life.recorded, places):
            await write(connection, ledger_id, batch)
        found, cursor = [], None
        while True:
            page = await read(connection, ledger_id, life.subject, cursor=cursor, limit=2)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
    folded, campaign = list[HistoryEvent](), None
    for recorded in life.recorded:
        row, was = fold(recorded), msgspec.to_builtins(campaign)
        before = {} if was is None else {name: was["terms"][name] for name in row.fields}
        folded.append(HistoryEvent(**structs.asdict(row), before=before))
        campaign = life.decider.evolve(campaign, recorded.entry.event)
    assert msgspec.json.encode(found, order="sorted") == msgspec.json.encode(folded, order="sorted")
    for row, recorded in zip(found, life.recorded, strict=True):
        entry = recorded.entry
        assert (row.version, row.position, row.actor) == (entry.version, recorded.position, entry.actor)
        said = msgspec.json.decode(msgspec.json.encode(entry.event))
        assert {"type": row.type, **row.fields} == (said if row.version > 1 else dict(row.fields) | said)
        assert row.version > 1 or row.fields.keys() == set(CampaignTerms.__struct_fields__)


async def test_an_unknown_campaign_has_no_history(pool: Pool, ledger_id: UUID) -> None:
    """The history of a campaign that is not there is not found; after its last event there is an empty page."""
    campaign_id = uuid4()
    async with pool.connection() as connection:
        with pytest.raises(NotFound):
            await read(connection, ledger_id, campaign_id, cursor=None, limit=10)
        await write(connection, ledger_id, [recorded_at(1, stream_of("campaign", campaign_id), 1, drafted())])
        page = await read(connection, ledger_id, campaign_id, cursor="1", limit=10)
    assert page.items == []
    assert page.next_cursor is None


def test_a_row_holds_only_what_was_set() -> None:
    """A change shows the fields it set, an empty limit included, and a step none."""
    stream = stream_of("campaign", uuid4())
    assert fold(recorded_at(2, stream, 2, CampaignChanged(name="New", end_date=None))).fields == {
        "name": "New",
        "end_date": None,
    }
    assert fold(recorded_at(3, stream, 3, CampaignActivated())).fields == {}


@pytest.mark.parametrize("cursor", ["", "-1", "x", "1.0", "٣", "1234567890", " 1"])
def test_foreign_cursors_are_refused(cursor: str) -> None:
    """A cursor is a version in digits, and nothing else."""
    with pytest.raises(BadCursor):
        version_after(cursor)
