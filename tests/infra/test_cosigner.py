"""Witnesses of a ledger: real ones, asked for their cosignatures, and what is published when how many answer."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.witness import create_witness
from infra import checkpoint, cosigner, mirror, proofs, signed_note, tree
from infra.cosigner import Cosigner, Witnesses
from infra.database import Connection, Pool
from infra.keys import SecretUnfit
from infra.log_keys import LogKeys
from infra.proofs import NotSealed
from infra.sealer import Seal
from infra.signed_note import COSIGNATURE_ED25519, VerifierKey
from infra.verifier import Report, parse_policy, verify_proof
from infra.witness import Witness
from tests.sealing import cut, fill, log_keys_in, roll_back_tree
from tests.writing import owning


class Scene(NamedTuple):
    """A ledger, its key, and three witnesses of whom two are enough; those in `down` do not answer."""

    connection: Connection
    ledger_id: UUID
    keys: LogKeys
    witnesses: Witnesses
    cosigner: Cosigner
    down: set[str]

    async def seal(self, count: int) -> None:
        """Append entries and seal them."""
        position = await fill(self.connection, self.ledger_id, count)
        sealing = Seal(self.keys, self.ledger_id)
        await sealing.resume(self.connection, position)
        await sealing.extend(self.connection, position)

    async def publish(self) -> bool:
        """Have the last checkpoint cosigned."""
        return await self.cosigner.publish(self.connection, self.ledger_id)

    async def published_size(self) -> int | None:
        """Return the size of the checkpoint that everybody sees."""
        found = await tree.read_published(self.connection, self.ledger_id, cosigned=True)
        return None if found is None else found.size


class Unreliable(httpx.AsyncBaseTransport):
    """The way to witnesses, some of which cannot be reached now and then."""

    def __init__(self, apps: dict[str, httpx.ASGITransport], down: set[str]) -> None:
        """Reach each witness under its own host."""
        self._apps = apps
        self._down = down

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Hand a request over, or fail as a network does."""
        if request.url.host in self._down:
            raise httpx.ConnectError("no route", request=request)
        return await self._apps[request.url.host].handle_async_request(request)


@pytest.fixture
async def scene(pool: Pool, ledger_id: UUID, tmp_path: Path) -> AsyncIterator[Scene]:
    """A ledger with three witnesses."""
    keys = log_keys_in(tmp_path)
    log = keys.signers(ledger_id)[0].key
    running = {f"w{number}": Witness(tmp_path / f"w{number}", f"w{number}.example", [log]) for number in (1, 2, 3)}
    witnesses = cosigner.read(policy_file(tmp_path, [(name, each.signers[0].key) for name, each in running.items()]))
    assert witnesses is not None
    down: set[str] = set()
    services: dict[str, Any] = {name: create_witness(each) for name, each in running.items()}
    apps = {name: httpx.ASGITransport(app=each) for name, each in services.items()}
    async with (
        pool.connection() as connection,
        httpx.AsyncClient(transport=Unreliable(apps, down)) as client,
    ):
        yield Scene(connection, ledger_id, keys, witnesses, Cosigner(witnesses, client), down)


def policy_file(folder: Path, witnesses: Sequence[tuple[str, VerifierKey]], *, urls: bool = True) -> Path:
    """Write a policy of which two witnesses satisfy the quorum."""
    lines = [f"witness {name} {key}{f' http://{name}' if urls else ''}" for name, key in witnesses]
    path = folder / "policy"
    path.write_text("\n".join([*lines, f"group two 2 {' '.join(name for name, _ in witnesses)}", "quorum two", ""]))
    return path


async def test_a_checkpoint_is_published_with_its_cosignatures(scene: Scene) -> None:
    """When enough witnesses have cosigned, everybody sees the checkpoint, with the signatures of all of them."""
    assert not await scene.publish()
    await scene.seal(300)
    assert await scene.published_size() is None
    assert await scene.publish()
    assert await scene.publish()
    published = await tree.read_published(scene.connection, scene.ledger_id, cosigned=True)
    assert published is not None
    note = signed_note.parse(published.note.encode())
    keys = [VerifierKey(*key) for key in scene.witnesses.policy.witnesses.values()]
    assert checkpoint.signers_of(note, keys) == keys
    await scene.seal(5)
    assert await scene.published_size() == 300
    assert await scene.publish()
    assert await scene.published_size() == 305


async def test_too_few_witnesses_publish_nothing(scene: Scene) -> None:
    """What everybody sees stays what enough witnesses have cosigned, until enough can be reached again."""
    await scene.seal(10)
    assert await scene.publish()
    scene.down.update({"w1", "w2"})
    for size in (20, 30):
        await scene.seal(10)
        assert not await scene.publish()
        assert await scene.published_size() == 10, size
    scene.down.discard("w1")
    assert await scene.publish()
    assert await scene.published_size() == 30
    scene.down.clear()
    await scene.seal(3)
    assert await scene.publish()


async def test_a_ledger_that_went_back_gets_no_cosignatures(scene: Scene, database_url: str) -> None:
    """Witnesses that have seen more of a log do not cosign less of it, nor another continuation."""
    await scene.seal(10)
    await scene.seal(10)
    assert await scene.publish()
    async with owning(database_url) as owner:
        await cut(owner, scene.ledger_id, 10)
        await roll_back_tree(owner, scene.ledger_id, 10)
        await owner.execute("ALTER TABLE log_cosigned DISABLE TRIGGER USER")
        await owner.execute("DELETE FROM log_cosigned")
    scene.keys.memory(scene.ledger_id).unlink()
    assert not await scene.publish()
    await fill_differently(scene, database_url)
    assert not await scene.publish()
    assert await scene.published_size() is None


async def fill_differently(scene: Scene, database_url: str) -> None:
    """Let the log grow again, past where it was, with something else."""
    async with owning(database_url) as owner:
        await owner.execute("UPDATE ledger_heads SET command_position = 1")
        position = await fill(scene.connection, scene.ledger_id, 15)
        await owner.execute("ALTER TABLE events DISABLE TRIGGER USER")
        await owner.execute("UPDATE events SET entry = '{}' WHERE position > 12")
    sealing = Seal(scene.keys, scene.ledger_id)
    await sealing.resume(scene.connection, position)
    await sealing.extend(scene.connection, position)


async def test_another_key_is_no_witness(scene: Scene, tmp_path: Path) -> None:
    """A cosignature counts only when it is by the key that the policy names."""
    stranger = signed_note.verifier_key("w1.example", COSIGNATURE_ED25519, Ed25519PrivateKey.generate())
    others = [(name, VerifierKey(*key)) for name, key in scene.witnesses.policy.witnesses.items() if name != "w1"]
    misled = cosigner.read(policy_file(tmp_path, [("w1", stranger), *others]))
    assert misled is not None
    await scene.seal(10)
    async with httpx.AsyncClient(transport=scene.cosigner._client._transport) as client:  # noqa: SLF001  the same way
        scene.down.add("w2")
        assert not await Cosigner(misled, client).publish(scene.connection, scene.ledger_id)
        scene.down.discard("w2")
        assert await Cosigner(misled, client).publish(scene.connection, scene.ledger_id)
    published = await tree.read_published(scene.connection, scene.ledger_id, cosigned=True)
    assert published is not None
    assert published.note.count("\N{EM DASH} w1.example") == 0


async def test_proofs_and_exports_carry_the_cosignatures(scene: Scene, tmp_path: Path) -> None:
    """What leaves the ledger is made of the last checkpoint that was cosigned, and names who has to have done it."""
    await scene.seal(300)
    with pytest.raises(NotSealed):
        await proofs.prove_inclusion(scene.connection, scene.ledger_id, 7, cosigned=True)
    assert await scene.publish()
    await scene.seal(7)
    proof = await proofs.prove_inclusion(scene.connection, scene.ledger_id, 7, cosigned=True)
    policy = parse_policy(await mirror.policy_of(scene.connection, scene.ledger_id, scene.witnesses))
    report = Report()
    assert verify_proof(proof.as_tlog_proof(), policy, report)
    assert proof.size == 300
    alone = await proofs.prove_inclusion(scene.connection, scene.ledger_id, 7)
    assert verify_proof(alone.as_tlog_proof(), policy, report) is None
    assert "too few witnesses" in report.findings[0].detail
    folder = tmp_path / "export"
    sealed = await mirror.mirror(scene.connection, scene.ledger_id, folder, lambda _done, _of: None, scene.witnesses)
    assert sealed.size == 300
    assert "quorum two" in (folder / "policy").read_text()


@pytest.mark.parametrize("text", ["nonsense", "witness w1", "log x\n"])
def test_what_is_no_policy_is_refused(tmp_path: Path, text: str) -> None:
    """A file that says something else is named."""
    path = tmp_path / "policy"
    path.write_text(text)
    with pytest.raises(SecretUnfit, match="it is no policy"):
        cosigner.read(path)


def test_witnesses_can_be_reached(tmp_path: Path) -> None:
    """A witness without a URL cannot be asked; without a policy nobody is."""
    keys = [signed_note.verifier_key("w", COSIGNATURE_ED25519, Ed25519PrivateKey.generate()) for _ in range(2)]
    with pytest.raises(SecretUnfit, match="where w1, w2 can be reached"):
        cosigner.read(policy_file(tmp_path, [("w1", keys[0]), ("w2", keys[1])], urls=False))
    assert cosigner.read(None) is None
