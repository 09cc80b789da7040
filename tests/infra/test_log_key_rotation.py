"""Replacing the key of a log, and signing with a second one."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from msgspec import structs

from domain.events import LogKeyReplaced
from infra import checkpoint, mirror, signed_note, tree
from infra.database import Connection, Pool
from infra.event_log import read_streams
from infra.log_keys import LogKeys
from infra.sealer import Seal
from infra.signed_note import VerifierKey
from infra.verifier import Report, parse_policy, read_checkpoint
from tests.sealing import cut, log_keys_in, refused, roll_back_tree, sealed, signed_sizes
from tests.writing import owning


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


async def test_a_key_is_replaced_with_an_overlap(
    connection: Connection, ledger_id: UUID, keys: LogKeys, tmp_path: Path
) -> None:
    """While both keys are there both sign; the log says which replaces which, once; then the new one goes on alone."""
    await sealed(connection, keys, ledger_id, 10)
    new = log_keys_in(tmp_path, "new.pem")
    both = structs.replace(new, previous=keys.ed25519, previous_path=keys.path)
    old_key, new_key = keys.signers(ledger_id)[0].key, new.signers(ledger_id)[0].key
    for _ in range(2):
        await Seal(both, ledger_id).resume(connection, 10)
    recorded = (await read_streams(connection, ledger_id, [f"log-{ledger_id}"]))[f"log-{ledger_id}"]
    assert [each.entry.event for each in recorded] == [LogKeyReplaced(old_key=str(old_key), new_key=str(new_key))]
    await sealed(connection, both, ledger_id, 5)
    assert await signed_by(connection, ledger_id, old_key, new_key) == [old_key, new_key]
    await sealed(connection, new, ledger_id, 5)
    assert await signed_by(connection, ledger_id, old_key, new_key) == [new_key]
    assert await signed_sizes(connection, ledger_id) == [10, 16, 21]
    assert await tree.read_keys(connection, ledger_id) == [str(old_key), str(new_key)]
    assert "not signed by the key" in await refused(connection, keys, ledger_id)


async def test_a_second_key_signs_as_well(connection: Connection, ledger_id: UUID, keys: LogKeys) -> None:
    """With an ML-DSA-44 key every checkpoint has two signatures, and both are published keys of the log."""
    both = structs.replace(keys, mldsa44=MLDSA44PrivateKey.generate())
    await sealed(connection, both, ledger_id, 10)
    signers = [signer.key for signer in both.signers(ledger_id)]
    assert await signed_by(connection, ledger_id, *signers) == signers
    assert sorted(await tree.read_keys(connection, ledger_id)) == sorted(map(str, signers))
    last = await tree.read_checkpoint(connection, ledger_id)
    policy = parse_policy(await mirror.policy_of(connection, ledger_id))
    assert last is not None
    assert read_checkpoint(last.note, policy, Report(), "here", quorum=True)


async def test_what_the_replaced_key_signed_last_is_remembered(
    connection: Connection, owner: Connection, ledger_id: UUID, keys: LogKeys, tmp_path: Path
) -> None:
    """A database that is rolled back just before the key is replaced is refused like any other."""
    await sealed(connection, keys, ledger_id, 10)
    await sealed(connection, keys, ledger_id, 10)
    await cut(owner, ledger_id, 10)
    await roll_back_tree(owner, ledger_id, 10)
    both = structs.replace(log_keys_in(tmp_path, "new.pem"), previous=keys.ed25519, previous_path=keys.path)
    assert "20 entries were signed" in await refused(connection, both, ledger_id)


async def signed_by(connection: Connection, ledger_id: UUID, *keys: VerifierKey) -> list[VerifierKey]:
    """Return which of these keys have signed the last checkpoint."""
    last = await tree.read_checkpoint(connection, ledger_id)
    assert last is not None
    return checkpoint.signers_of(signed_note.parse(last.note.encode()), keys)
