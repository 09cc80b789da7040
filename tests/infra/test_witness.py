"""A witness: the conversation of published tests, and that it never cosigns two histories."""

import base64
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from litestar.testing import TestClient

from api.witness import create_witness
from domain import merkle
from domain.merkle import Node
from infra import checkpoint, signed_note
from infra.checkpoint import Checkpoint, Signer
from infra.signed_note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, VerifierKey
from infra.witness import Witness, parse_submission
from tests.infra.test_checkpoint import SIGSUM, SIGSUM_CHECKPOINTS, SIGSUM_KEY, SIGSUM_PROOFS

# The example request and answer of C2SP tlog-witness.
REQUEST: Final = """\
old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGk\
u9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6\
QUXTS5Rovnzv++qbSzm9Q=
"""
ANSWER: Final = """\
— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI\
5G2HgLatVs0pWh6Up69HVOw==
— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+Ufz\
uOBMh9ChdMkP1vi/lCAsmlw==
— witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/k\
Wl7oJlqU3rXXvpysAdyP3wQ==
"""
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
    ours = [signer.key for signer in Witness(tmp_path / "witness", "w.example", [SIGSUM_KEY]).signers]
    note = signed_note.parse(shown.content)
    assert checkpoint.signers_of(note, [SIGSUM_KEY, *ours]) == [SIGSUM_KEY, *ours]
    assert [key.kind for key in ours] == [COSIGNATURE_ED25519, COSIGNATURE_MLDSA44]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "witness").glob("*.pem")} == {0o600}


def test_the_published_examples_are_understood() -> None:
    """The request and the answer that the specification shows are read as what they are, and written back."""
    submission = parse_submission(REQUEST.encode())
    tree = checkpoint.parse(submission.note.text)
    assert (submission.old_size, tree.origin, tree.size) == (20_852_014, "example.com/behind-the-sofa", 20_852_163)
    assert [len(each) for each in submission.proof] == [32] * 4
    assert [line.name for line in submission.note.signatures] == ["example.com/behind-the-sofa"] * 2
    assert str(submission.note) == REQUEST.partition("\n\n")[2]
    cosignatures = [signed_note.parse_signature(line) for line in ANSWER.splitlines()]
    assert "".join(map(str, cosignatures)) == ANSWER
    assert [line.name for line in cosignatures] == ["witness.example/w1"] * 2 + ["witness.example/w2"]
    assert {len(line.signature) for line in cosignatures} == {8 + 64}


def test_an_empty_tree_has_the_root_of_nothing(tmp_path: Path) -> None:
    """A checkpoint of no entries is cosigned with the one root that it can have."""
    private_key = MLDSA44PrivateKey.generate()
    log = Signer(signed_note.verifier_key("log.example", COSIGNATURE_MLDSA44, private_key), private_key)
    with witnessing(tmp_path, log.key) as client:
        for root, status in ((bytes(32), 422), (merkle.EMPTY_ROOT, 200)):
            note = checkpoint.sign(Checkpoint("log.example", 0, root), [log], timestamp=1)
            assert client.post("/add-checkpoint", content=f"old 0\n\n{note}").status_code == status


def test_what_is_optional_is_not_offered(tmp_path: Path) -> None:
    """Nobody cosigns parts of a tree here."""
    with witnessing(tmp_path) as client:
        assert client.post("/sign-subtree", content="subtree 8 13\n").status_code == 404


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
