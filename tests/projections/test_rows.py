"""Things as they stand: a row is what the events say, however they came, and is kept as it is."""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.campaign import status_of
from domain.decider import fold
from domain.events import (
    AdvertiserChanged,
    CampaignPaused,
    CreativePaused,
    PersonalDataErased,
    SlotChanged,
    SlotKeyIssued,
)
from infra.database import Pool
from projections import advertisers, campaigns, creatives, slots
from projections.rows import ReadModel, load, upsert
from tests.domain.strategies import evenly, law
from tests.projections.histories import LIVES, Life, cut, cuts, recorded_at
from tests.writing import new_ledger, rows

MODELS: Final[Mapping[str, ReadModel[Any]]] = {
    model.thing: model
    for model in (advertisers.READ_MODEL, campaigns.READ_MODEL, creatives.READ_MODEL, slots.READ_MODEL)
}
with_pool = settings(law, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def told(life: Life) -> dict[str, Any]:
    """Return what the row of a thing has to say, by the state that the domain makes of its events."""
    first, last = life.recorded[0], life.recorded[-1]
    fields = {
        "id": life.subject,
        "version": last.entry.version,
        "position": last.position,
        "created_at": first.entry.recorded_at,
        "updated_at": last.entry.recorded_at,
    }
    fields |= {name: getattr(life.state.terms, name) for name in life.state.terms.__struct_fields__}
    match life.decider.thing:
        case "advertiser":
            fields |= {name: getattr(life.state, name) for name in ("currency", "funds_micros", "legal_hold")}
            erased = [each for each in life.recorded if isinstance(each.entry.event, PersonalDataErased)]
            fields["erased_at"] = erased[-1].entry.recorded_at if erased else None
        case "campaign":
            fields |= {"status": status_of(life.state), "budget_request": life.state.asked}
        case "creative":
            fields |= {name: getattr(life.state, name) for name in ("status", "review", "denial_reason")}
    return fields


@settings(with_pool, max_examples=60)
@given(life=evenly(*LIVES.values()), places=cuts)
async def test_a_row_is_what_the_events_say(pool: Pool, life: Life, places: list[int]) -> None:
    """However a history is cut into batches, the row in the table is the state that the domain folds from it."""
    model = MODELS[life.decider.thing]
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        for batch in cut(life.recorded, places):
            await model.write(connection, ledger_id, batch)
        row = await model.read(connection, ledger_id, life.subject)
    assert row is not None
    found = {name: getattr(row, name) for name in row.__struct_fields__}
    keys = found.pop("keys", ())
    assert found == told(life)
    if model is slots.READ_MODEL:
        issued = [each for each in life.recorded if isinstance(each.entry.event, SlotKeyIssued)]
        at = {each.entry.event.key_id: each.entry.recorded_at for each in issued}  # type: ignore[union-attr]  # filtered just above
        assert [(key.key_id, key.issued_at) for key in keys] == [(key_id, at[key_id]) for key_id in life.state.keys]


@with_pool
@given(lives=st.lists(LIVES["campaign"], min_size=2, max_size=4, unique_by=lambda life: life.subject), places=cuts)
async def test_things_in_one_batch_do_not_mix(pool: Pool, lives: list[Life], places: list[int]) -> None:
    """Entries of several things, mixed in one batch, lead to the rows that each would have alone."""
    mixed = sorted((each for life in lives for each in life.recorded), key=lambda each: each.entry.version)
    async with pool.connection() as connection:
        ledger_id = await new_ledger(connection)
        for batch in cut(mixed, places):
            await campaigns.READ_MODEL.write(connection, ledger_id, batch)
        found = await load(
            connection, campaigns.campaigns, campaigns.CampaignRow, ledger_id, [life.subject for life in lives]
        )
    assert found == {life.subject: _folded(campaigns.READ_MODEL, life) for life in lives}


def _folded(model: ReadModel[Any], life: Life) -> Any:
    row = None
    for recorded in life.recorded:
        row = model.fold(row, recorded)
    return row


@pytest.mark.parametrize(
    ("model", "event"),
    [
        (advertisers.READ_MODEL, AdvertiserChanged(name="Hats")),
        (campaigns.READ_MODEL, CampaignPaused()),
        (creatives.READ_MODEL, CreativePaused()),
        (slots.READ_MODEL, SlotChanged(name="Top")),
    ],
    ids=lambda each: getattr(each, "thing", ""),
)
def test_a_history_begins_with_a_creation(model: ReadModel[Any], event: Any) -> None:
    """A row cannot begin with anything but the creation of its thing."""
    with pytest.raises(ValueError, match="begins with its creation"):
        model.fold(None, recorded_at(1, f"{model.thing}-{uuid4()}", 1, event))


async def test_nothing_is_written_for_nothing(pool: Pool, ledger_id: UUID) -> None:
    """Without rows there is nothing to write, and what is not there is not found."""
    async with pool.connection() as connection:
        await upsert(connection, slots.slots, ledger_id, [])
        await slots.READ_MODEL.write(connection, ledger_id, [])
        assert await slots.READ_MODEL.read(connection, ledger_id, uuid4()) is None
        assert await rows(connection, "SELECT FROM slots") == []


def test_lives_are_worth_folding() -> None:
    """The histories that are tried go through most of the statuses that a campaign can have."""
    reached: set[str] = set()

    @settings(law, max_examples=150, database=None, derandomize=True)
    @given(life=LIVES["campaign"])
    def collect(life: Life) -> None:
        states = [fold(life.decider, None, [r.entry.event for r in life.recorded[:n]]) for n in range(1, 20)]
        reached.update(status_of(state) for state in states if state is not None)

    collect()
    assert reached >= {"draft", "active", "paused", "inactive"}
