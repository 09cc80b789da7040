"""The sealer: what it signs, when, and what it refuses to sign."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
from msgspec import structs

from domain import merkle
from domain.merkle import HASH_BYTES
from infra import checkpoint, log_keys, sealer, signed_note, tree
from infra.checkpoint import Checkpoint
from infra.database import Connection, Pool, connect
from infra.log_keys import LogKeys, SigningRefused
from infra.sealer import Overtaken, Seal
from infra.tree import TreeDamaged
from tests.sealing import (
    cut,
    edit,
    fill,
    leaves,
    log_keys_in,
    meddle,
    refused,
    roll_back_tree,
    sealed,
    signed_sizes,
)
from tests.writing import eventually, owning, rows


@pytest.fixture
def keys(tmp_path: Path) -> LogKeys:
    """The key of a log."""
    return log_keys_in(tmp_path)


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the service."""
    async with pool.connection() as opened:
        yield opened


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Connection]:
    """A connection of the database's owner."""
    async with owning(database_url) as opened:
        yield opened


@pytest.mark.parametrize("count", [1, 255, 256, 257, 70_000])
async def test_the_log_is_sealed(connection: Connection, ledger_id: UUID, keys: LogKeys, count: int) -> None:
    """The signed root is that over the exact entries, and the tiles are those of the tree."""
    seal = await sealed(connection, keys, ledger_id, count)
    last = await tree.read_checkpoint(connection, ledger_id)
    hashes = await leaves(connection, ledger_id)
    assert last is not None
    note = signed_note.parse(last.note.encode())
    signer = keys.signers(ledger_id)[0].key
    assert checkpoint.parse(note.text) == Checkpoint(keys.origin_of(ledger_id), count, merkle.root(hashes))
    assert checkpoint.signers_of(note, [signer]) == [signer]
    assert (last.size, last.root) == (count, merkle.edge_root(seal.edge))
    _, tiles = merkle.extended(merkle.EMPTY_EDGE, b"".join(hashes))
    stored = await tree.read_tiles(connection, ledger_id, [tile[:2] for tile in tiles])
    assert stored == {tile[:2]: tile.hashes for tile in tiles}
    assert await tree.read_keys(connection, ledger_id) == [str(signer)]


async def test_what_waits_for_its_seal_is_known(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """It can be asked since when an entry waits, and nothing waits when everything is sealed."""
    assert await tree.unsealed_since(connection, ledger_id) is None
    position = await fill(connection, ledger_id, 10)
    [first] = await rows(connection, "SELECT recorded_at FROM events WHERE ledger_id = %s AND position = 1", ledger_id)
    assert await tree.unsealed_since(connection, ledger_id) == first["recorded_at"]
    await Seal(keys, ledger_id).extend(connection, position)
    assert await tree.unsealed_since(connection, ledger_id) is None


async def test_sealing_goes_on_where_it_stopped(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """A sealer that takes over makes the same tree as one that was there all the time."""
    for count in (1, 254, 2, 300, 5):
        await sealed(connection, keys, ledger_id, count)
    assert await signed_sizes(connection, ledger_id) == [1, 255, 257, 557, 562]
    hashes = await leaves(connection, ledger_id)
    for size in (1, 255, 257, 557, 562):
        at_that_size = await tree.read_checkpoint(connection, ledger_id, size)
        assert at_that_size is not None
        assert at_that_size.root == merkle.root(hashes[:size]) == await tree.read_root(connection, ledger_id, size)


async def test_a_few_entries_wait_a_moment_and_many_do_not(
    connection: Connection, ledger_id: UUID, keys: LogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries are sealed a second after the last seal, or at once when there are a thousand."""
    time = 1_000.0
    monkeypatch.setattr(sealer, "monotonic", lambda: time)
    seal = await sealed(connection, keys, ledger_id, 1)
    position = await fill(connection, ledger_id, 999)
    await seal.look(connection, position)
    assert seal.size == 1
    time += 1
    await seal.look(connection, position)
    assert seal.size == 1_000
    position = await fill(connection, ledger_id, 1_000)
    await seal.look(connection, position)
    assert seal.size == 2_000


async def test_a_frozen_sealer_changes_nothing(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """One that slept while another worked finds that it was overtaken, and leaves everything as it is."""
    frozen = await sealed(connection, keys, ledger_id, 10)
    await sealed(connection, keys, ledger_id, 10)
    remembered = log_keys.recall(keys.memory(ledger_id))
    position = await fill(connection, ledger_id, 10)
    with pytest.raises(Overtaken):
        await frozen.extend(connection, position)
    assert await signed_sizes(connection, ledger_id) == [10, 20]
    assert log_keys.recall(keys.memory(ledger_id)) == remembered


async def test_two_sealers_at_once_make_one_tree(
    database_url: str, connection: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """Of two that write at the same time one waits, and then finds that it was overtaken."""
    seals = [Seal(keys, ledger_id) for _ in range(2)]
    position = await fill(connection, ledger_id, 5_000)
    async with await connect(database_url) as other:
        outcomes = await asyncio.gather(
            *(seal.extend(own, position) for seal, own in zip(seals, (connection, other), strict=True)),
            return_exceptions=True,
        )
    assert sorted(map(repr, map(type, outcomes))) == [repr(type(None)), repr(Overtaken)] or outcomes == [None, None]
    assert await signed_sizes(connection, ledger_id) == [5_000]


async def test_a_truncated_log_is_not_signed(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """A log that has lost its end, or all but its checkpoints, is refused with what is missing."""
    await sealed(connection, keys, ledger_id, 600)
    await cut(owner, ledger_id, 599)
    assert "ends at position 599, but 600 entries were sealed" in await refused(connection, keys, ledger_id)


@pytest.mark.parametrize("regrown", [0, 100, 101, 5_000])
async def test_a_rolled_back_database_is_not_signed(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys, regrown: int
) -> None:
    """A database restored to an earlier moment is refused, also when the log has grown past where it was."""
    await sealed(connection, keys, ledger_id, 500)
    await sealed(connection, keys, ledger_id, 100)
    await cut(owner, ledger_id, 500)
    await roll_back_tree(owner, ledger_id, 500)
    position = await fill(connection, ledger_id, regrown)
    if regrown:
        await edit(owner, ledger_id, 501, '{"another": true}')
    reason = await refused(connection, keys, ledger_id)
    expected = "600 entries were signed" if position < 600 else "first 600 entries of the log are not those"
    assert expected in reason


@pytest.mark.parametrize("position", [1, 256, 300, 600])
async def test_an_edited_entry_is_noticed(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys, position: int
) -> None:
    """A changed entry is found by the review, by one that starts and by one that is at work, with its position."""
    seal = await sealed(connection, keys, ledger_id, 600)
    await edit(owner, ledger_id, position, "{}")
    assert f"the entry at position {position:,} is not the one" in await refused(connection, keys, ledger_id)
    with pytest.raises(SigningRefused, match=f"position {position:,} "):
        await seal.review(connection)


async def test_a_removed_entry_is_noticed(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """A hole in the log is not sealed over, before and after it was sealed."""
    seal = await sealed(connection, keys, ledger_id, 600)
    position = await fill(connection, ledger_id, 10)
    await meddle(owner, "DELETE FROM events WHERE ledger_id = %s AND position = 605", ledger_id)
    with pytest.raises(TreeDamaged, match="positions 601 to 610, 9 have an entry"):
        await seal.extend(connection, position)
    await meddle(owner, "DELETE FROM events WHERE ledger_id = %s AND position = 3", ledger_id)
    with pytest.raises(TreeDamaged, match="positions 1 to 600, 599 have an entry"):
        await seal.review(connection)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE tiles SET hashes = sha256('x') || substr(hashes, 33) WHERE number = 2 AND", "tree in the database"),
        ("UPDATE tiles SET hashes = sha256('x') || substr(hashes, 33) WHERE number = 1 AND", "at position 257 is not"),
        ("DELETE FROM tiles WHERE number = 2 AND", "do not reach 600"),
        ("UPDATE log_checkpoints SET note = replace(note, 'campaign', 'kampagne') WHERE", "not signed"),
        ("UPDATE log_checkpoints SET note = replace(note, '600', '601') WHERE", "damaged"),
        ("DELETE FROM log_checkpoints WHERE", ""),
    ],
)
async def test_a_changed_tree_is_not_continued(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys, statement: str, reason: str
) -> None:
    """Tiles and checkpoints that are not those that were signed are refused; lost ones are made again."""
    await sealed(connection, keys, ledger_id, 600)
    before = await tree.read_checkpoint(connection, ledger_id)
    await meddle(owner, f"{statement} ledger_id = %s", ledger_id)
    if reason:
        assert reason in await refused(connection, keys, ledger_id)
    else:
        await Seal(keys, ledger_id).look(connection, 600)
        assert await tree.read_checkpoint(connection, ledger_id) == before


async def test_what_was_signed_and_not_stored_is_stored(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """A sealer that was killed after remembering and before storing goes on with the checkpoint that it signed."""
    await sealed(connection, keys, ledger_id, 300)
    await sealed(connection, keys, ledger_id, 70_000)
    signed = await tree.read_checkpoint(connection, ledger_id)
    await roll_back_tree(owner, ledger_id, 300)
    position = await fill(connection, ledger_id, 5)
    seal = Seal(keys, ledger_id)
    await seal.resume(connection, position)
    assert seal.size == 70_300
    await seal.extend(connection, position)
    assert await tree.read_checkpoint(connection, ledger_id, 70_300) == signed
    assert await signed_sizes(connection, ledger_id) == [300, 70_300, 70_305]
    last = await tree.read_checkpoint(connection, ledger_id)
    assert last is not None
    assert last.root == merkle.root(await leaves(connection, ledger_id))


async def test_tiles_without_their_checkpoint_are_not_written_over(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """When the log does not lead to tiles that are there, they stay, and nothing is signed."""
    await sealed(connection, keys, ledger_id, 300)
    keys.memory(ledger_id).unlink()
    await meddle(owner, "DELETE FROM log_checkpoints WHERE ledger_id = %s", ledger_id)
    await edit(owner, ledger_id, 290, "{}")
    with pytest.raises(TreeDamaged, match="a tile only grows: tile 1 of level 0"):
        await Seal(keys, ledger_id).extend(connection, 300)


async def test_a_forgotten_checkpoint_is_no_obstacle(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """A second machine with the same key has signed nothing yet, and takes the database's word, signed by that key."""
    await sealed(connection, keys, ledger_id, 10)
    keys.memory(ledger_id).unlink()
    await sealed(connection, keys, ledger_id, 10)
    assert await signed_sizes(connection, ledger_id) == [10, 20]


async def test_another_key_does_not_take_over(
    connection: Connection, ledger_id: UUID, keys: LogKeys, tmp_path: Path
) -> None:
    """Whoever replaces the key cannot continue the log as if nothing had happened."""
    await sealed(connection, keys, ledger_id, 10)
    assert "not signed by the key" in await refused(connection, log_keys_in(tmp_path, "other.pem"), ledger_id)


async def test_the_name_of_a_log_stays(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """A log that was called otherwise before is refused."""
    await sealed(connection, keys, ledger_id, 10)
    renamed = structs.replace(keys, origin="ads.example/log")
    assert "not signed by the key" in await refused(connection, renamed, ledger_id)
    await roll_back_tree(owner, ledger_id, 0)
    assert "never changes its name" in await refused(connection, renamed, ledger_id)


async def test_refusals_are_reviewed(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal lasts until the log is again what was signed; then sealing goes on by itself."""
    time = 1_000.0
    monkeypatch.setattr(sealer, "monotonic", lambda: time)
    seal = await sealed(connection, keys, ledger_id, 300)
    original = await edit(owner, ledger_id, 7, "{}")
    time += 10
    await seal.look(connection, 300)
    position = await fill(connection, ledger_id, 5)
    time += 10
    await seal.look(connection, position)
    time += 30
    await seal.look(connection, position)
    assert await signed_sizes(connection, ledger_id) == [300]
    await edit(owner, ledger_id, 7, original)
    time += 30
    await seal.look(connection, position)
    assert await signed_sizes(connection, ledger_id) == [300, 305]


async def test_the_database_keeps_what_was_sealed(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """The service itself cannot change a hash or a checkpoint that is there."""
    await sealed(connection, keys, ledger_id, 10)
    for statement in (
        "UPDATE tiles SET hashes = substr(hashes, 33)",
        "UPDATE tiles SET hashes = sha256('x') || substr(hashes, 33)",
        "DELETE FROM tiles",
        "UPDATE log_checkpoints SET size = 11",
        "DELETE FROM log_checkpoints",
        "DELETE FROM log_keys",
    ):
        with pytest.raises(Exception, match=r"only grows|permission denied|append-only"):
            await connection.execute(statement.encode())
    assert len((await tree.read_tiles(connection, ledger_id, [(0, 0)]))[0, 0]) == 10 * HASH_BYTES


async def test_of_several_sealers_one_is_elected(
    database_url: str, connection: Connection, ledger_id: UUID, keys: LogKeys
) -> None:
    """Several may run; one seals, and when it ends another takes over."""
    running = [asyncio.create_task(sealer.run(database_url, keys)) for _ in range(2)]
    try:
        await fill(connection, ledger_id, 10)
        await eventually(lambda: tree.read_checkpoint(connection, ledger_id, 10))
        running[0].cancel()
        await fill(connection, ledger_id, 10)
        await eventually(lambda: tree.read_checkpoint(connection, ledger_id, 20))
    finally:
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
