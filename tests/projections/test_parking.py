"""Poison events: parked under their key with the error, shown, and applied once the fold is mended."""

from typing import Final
from uuid import UUID

import pytest

from domain.advertiser import ADVERTISER
from domain.decider import stream_of
from domain.events import AdvertiserChanged, AdvertiserCreated
from infra import clock
from infra.database import Connection, Pool
from infra.event_log import Recorded
from projections import advertisers, parking
from projections.parking import NotApplied, read_parked, retry
from projections.runner import catch_up
from tests.domain.stored import stored
from tests.writing import appending, committed, new_ledger, owning, rows

FIRST, SECOND = UUID(int=1), UUID(int=2)
STREAM: Final = stream_of(ADVERTISER.thing, FIRST)
NAMES: Final = "SELECT name FROM advertisers ORDER BY id"


def stumbling(row: advertisers.AdvertiserRow | None, recorded: Recorded) -> advertisers.AdvertiserRow:
    """Fold all but one name."""
    folded = advertisers.fold(row, recorded)
    if folded.name == "Poison":
        raise ValueError("nobody is called that")
    return folded


BROKEN: Final = advertisers.PROJECTION._replace(write=advertisers.READ_MODEL._replace(fold=stumbling).write)


async def poisoned(connection: Connection) -> UUID:
    """Begin a ledger with two advertisers; a change of the first cannot be applied, and another waits behind it."""
    ledger_id = await new_ledger(connection)
    for subject in (FIRST, SECOND):
        asked = appending(ledger_id, subject, stored(AdvertiserCreated), thing=ADVERTISER.thing)
        await committed(connection, ledger_id, asked)
    for version, name in enumerate(("Poison", "Cured"), start=1):
        for subject in (FIRST, SECOND):
            event = AdvertiserChanged(name=name if subject == FIRST else f"Second {version}")
            asked = appending(ledger_id, subject, event, after=version, thing=ADVERTISER.thing)
            await committed(connection, ledger_id, asked)
    await catch_up(connection, BROKEN)
    return ledger_id


async def test_parked_keys_are_shown(pool: Pool) -> None:
    """A parked key has the first error and the number of its events; all other keys went on."""
    async with pool.connection() as connection:
        ledger_id = await poisoned(connection)
        (found,) = await read_parked(connection, ledger_id)
        assert (found.projection, found.key, found.position, found.events) == ("advertisers", STREAM, 3, 2)
        assert "nobody is called that" in found.error
        assert await read_parked(connection, ledger_id, key="another") == []
        assert await rows(connection, NAMES) == [{"name": stored(AdvertiserCreated).name}, {"name": "Second 2"}]


async def test_a_retry_before_the_fix_changes_nothing(pool: Pool) -> None:
    """As long as the fold stumbles, the key stays parked, and is said to."""
    async with pool.connection() as connection:
        ledger_id = await poisoned(connection)
        before = await read_parked(connection, ledger_id)
        with pytest.raises(NotApplied, match="nobody is called that"):
            await retry(connection, BROKEN, ledger_id, STREAM)
        assert await read_parked(connection, ledger_id) == before


async def test_a_retry_after_the_fix_applies_all(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fold mended, all events of the key are applied in order, and the key goes on as the others."""
    monkeypatch.setattr(parking, "BATCH_ENTRIES_MAX", 1)
    async with pool.connection() as connection:
        ledger_id = await poisoned(connection)
        assert await retry(connection, advertisers.PROJECTION, ledger_id, STREAM) == 2
        assert await read_parked(connection, ledger_id) == []
        assert await rows(connection, NAMES) == [{"name": "Cured"}, {"name": "Second 2"}]
        event = AdvertiserChanged(name="Later")
        asked = appending(ledger_id, FIRST, event, after=3, thing=ADVERTISER.thing)
        await committed(connection, ledger_id, asked)
        await catch_up(connection, advertisers.PROJECTION)
        assert await rows(connection, NAMES) == [{"name": "Later"}, {"name": "Second 2"}]
        assert await retry(connection, advertisers.PROJECTION, ledger_id, STREAM) == 0


async def test_what_nobody_could_read_needs_a_rebuild_when_it_comes_too_late(pool: Pool) -> None:
    """An entry parked under another key than its own has been overtaken: the answer names the rebuild."""
    async with pool.connection() as connection:
        ledger_id = await poisoned(connection)
        await connection.execute("UPDATE parked_events SET key = 'position 3' WHERE position = 3")
        with pytest.raises(NotApplied, match="ledger projections rebuild advertisers"):
            await retry(connection, advertisers.PROJECTION, ledger_id, "position 3")


async def test_what_cannot_be_read_stays_parked(pool: Pool, database_url: str) -> None:
    """An entry that no version of the program can read yet is not applied."""
    async with pool.connection() as connection, owning(database_url) as owner:
        ledger_id = await poisoned(connection)
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await owner.execute("UPDATE events SET entry = '{}' WHERE position = 5")
        with pytest.raises(NotApplied, match="missing required field"):
            await retry(connection, advertisers.PROJECTION, ledger_id, STREAM)
        await connection.execute(
            "INSERT INTO parked_events SELECT ledger_id, 'slots', key, position, error, %s FROM parked_events",
            (clock.now(),),
        )
        assert [each.projection for each in await read_parked(connection, ledger_id)] == ["advertisers", "slots"]
