"""A witness: the conversation of published tests, and that it never cosigns two histories."""

import base64
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litestar.testing import TestClient

from api.witness import create_witness
from domain import merkle
from domain.merkle import Node
from infra import checkpoint, signed_note
from infra.checkpoint import Checkpoint, Signer
from infra.signed_note import ED25519, VerifierKey
from infra.witness import Witness
from tests.infra.test_checkpoint import SIGSUM, SIGSUM_CHECKPOINTS, SIGSUM_KEY, SIGSUM_PROOFS

LEAVES: Final = [merkle.leaf_hash(b"leaf %d" % number) for number in range(40)]


def witnessing(folder: Path, *logs: VerifierKey) -> TestClient:  # type: ignore[type-arg]  # whatever app it is
    """Return a client of a witness of these logs, whose state is in a folder."""
    return TestClient(create_witness(Witness(folder / "witness", "w.example", logs or (SIGSUM_KEY,))))


def sigsum(old: int, proof: tuple[str, ...], size: int, origin: str = SIGSUM) -> str:
    """Return a request for a checkpoint of the published log."""
    root, signature = SIGSUM_CHECKPOINTS[size]
    lines = "".join(f"{line}\n" for line in proof)
    return f"old {old}\n{lines}\n{origin}\n{size}\n{root}\n\n— {origin} {signature}\n"


def test_the_published_conversation_is_answered_as_specified(tmp_path: Path) -> None:
    """Each request of the published test is answered with the status that the specification asks for."""
    good, other = SIGSUM_PROOFS[1, 3], (SIGSUM_PROOFS[1, 3][0], SIGSUM_PROOFS[1, 3][0])
    wrong = sigsum(1, good, 3).replace("x6go=", "x6gx=")
    with witnessing(tmp_path) as client:
        for body, status in (
            (sigsum(0, (), 1), 200),
            (wrong, 403),
            (sigsum(1, good, 3, SIGSUM.replace("e562", "e563")), 404),
            (sigsum(1, (), 3), 422),
            (sigsum(1, other, 3), 422),
            (sigsum(4, good, 3), 400),
            (sigsum(1, good, 3), 200),
            (sigsum(1, SIGSUM_PROOFS[3, 5], 5), 409),
            (sigsum(3, SIGSUM_PROOFS[3, 5], 5), 200),
            (sigsum(0, (), 5), 409),
            (sigsum(5, (), 5), 200),
        ):
            answer = client.post("/add-checkpoint", content=body)
            assert answer.status_code == status, (body, answer.text)
            if status == 200:
                assert answer.text.startswith("— w.example ")
            if status == 409:
                assert answer.text == ("3\n" if "\n5\n" in body and "old 1" in body else "5\n")
                assert answer.headers["Content-Type"].startswith("text/x.tlog.size")


def test_the_last_checkpoint_can_be_read(tmp_path: Path) -> None:
    """What was cosigned is shown with the signatures of log and witness, also by a witness that was started again."""
    path = f"/{sha256(SIGSUM.encode()).hexdigest()}/checkpoint"
    with witnessing(tmp_path) as client:
        assert client.get(path).status_code == 404
        client.post("/add-checkpoint", content=sigsum(0, (), 3))
        shown = client.get(path)
    with witnessing(tmp_path) as client:
        assert client.get(path).text == shown.text
        assert client.get(f"/{'0' * 64}/checkpoint").status_code == 404
    witness = Witness(tmp_path / "witness", "w.example", [SIGSUM_KEY]).signer.key
    note = signed_note.parse(shown.content)
    assert checkpoint.signers_of(note, [SIGSUM_KEY, witness]) == [SIGSUM_KEY, witness]
    assert (tmp_path / "witness" / "witness.pem").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "body",
    [
        "",
        "old 0",
        "old -1\n\n" + sigsum(0, (), 1).partition("\n\n")[2],
        "old 01\n\n" + sigsum(0, (), 1).partition("\n\n")[2],
        sigsum(0, (), 1).replace("old", "new"),
        sigsum(0, ("!",), 1),
        sigsum(0, (SIGSUM_PROOFS[1, 3][0],) * 64, 1),
        sigsum(0, (), 1).replace("\n1\n", "\none\n"),
        sigsum(0, (), 1).replace("—", "-"),
    ],
)
def test_what_is_no_request_is_refused(tmp_path: Path, body: str) -> None:
    """Whatever is not an old size, a proof and a checkpoint is answered as malformed."""
    with witnessing(tmp_path) as client:
        assert client.post("/add-checkpoint", content=body).status_code == 400


def test_no_two_histories_are_cosigned(tmp_path: Path) -> None:
    """Of many that ask at once for different histories of a log, one is cosigned, and from then on only that one."""
    private_key = Ed25519PrivateKey.generate()
    log = Signer(signed_note.verifier_key("log.example", ED25519, private_key), private_key)

    def request(old: int, size: int, seed: int) -> str:
        leaves = [*LEAVES[: size - 1], LEAVES[size - 1] if seed == 0 else merkle.leaf_hash(b"%d" % seed)]

        def node_of(node: Node) -> bytes:
            return merkle.root(leaves[node.number << node.level : node.number + 1 << node.level])

        hashes = merkle.resolved(merkle.consistency_path(old, size), node_of)
        proof = "".join(f"{base64.b64encode(each).decode()}\n" for each in hashes)
        note = checkpoint.sign(Checkpoint("log.example", size, merkle.root(leaves)), [log], timestamp=0)
        return f"old {old}\n{proof}\n{note}"

    with witnessing(tmp_path, log.key) as client, ThreadPoolExecutor(6) as threads:
        assert client.post("/add-checkpoint", content=request(0, 7, 0)).status_code == 200
        asked = [request(7, 20, seed) for seed in range(12)]
        answers = list(threads.map(lambda body: client.post("/add-checkpoint", content=body).status_code, asked))
    assert (answers.count(200), answers.count(409)) == (1, 11)
