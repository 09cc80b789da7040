"""The verifier on an export that nobody meddled with, and on the policy of an auditor; tampering has its own test."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args

import pytest
from beancount import load_file
from beancount.core.data import Transaction
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from domain import merkle
from domain.events import Event
from infra import checkpoint, inspection, mirror, proofs, recount, signed_note, tiles, verifier
from infra.checkpoint import Checkpoint, Signer
from infra.database import Connection, Pool, connect
from infra.inspection import Unreadable
from infra.mirror import FolderUnfit
from infra.proofs import NotSealed
from infra.signed_note import COSIGNATURE_ED25519, COSIGNATURE_MLDSA44, ED25519, PrivateKey
from infra.tiles import Place
from infra.verifier import Policy, Report, parse_policy, read_checkpoint
from tests import evening

ORIGIN = "log.example"


@pytest.fixture
async def connection(evening_url: str) -> AsyncIterator[Connection]:
    """A connection to the evening, sealed."""
    async with await connect(evening_url) as opened:
        yield opened


@pytest.fixture
def exported(evening_export: Path) -> Path:
    """The evening, exported."""
    return evening_export


def signer(kind: int, name: str = ORIGIN) -> Signer:
    """A fresh key."""
    private_key: PrivateKey = (
        MLDSA44PrivateKey.generate() if kind == COSIGNATURE_MLDSA44 else Ed25519PrivateKey.generate()
    )
    return Signer(signed_note.verifier_key(name, kind, private_key), private_key)


def larger(note: str) -> str:
    """Return a checkpoint that claims more entries than it did when it was signed."""
    return note.replace("\n", "\n9", 1)


def test_an_export_is_right(exported: Path) -> None:
    """Everything in an export is checked, more than once around, and right; beancount agrees."""
    report = evening.inspected(exported, bean_check=True)
    assert report.findings == []
    size = checkpoint.parse(signed_note.parse((exported / "checkpoint").read_bytes()).text).size
    assert report.checked["entries"] == size > 2 * 256
    assert report.checked["consistency"] == report.checked["signatures"] == 6
    assert report.checked["tiles"] == 1
    assert report.checked["bean-check"] == 1
    assert all(report.checked[check] for check in ("structure", "money", "reports", "accounts"))


def test_the_accounts_show_the_funds(exported: Path) -> None:
    """Beancount finds deposits, withdrawals and what was drawn from them; owed is what was spent before the first."""
    entries, errors, _ = load_file(str(exported / "accounts.beancount"))
    assert errors == []
    sums: Counter[str] = Counter()
    for each in entries:
        for posting in each.postings if isinstance(each, Transaction) else ():
            assert posting.meta
            assert posting.meta["position"]
            assert posting.units
            assert posting.units.number
            for account in {posting.account, ":".join(posting.account.split(":")[:2])}:
                sums[account] += int(posting.units.number * 1_000_000)
    budgets = [json.loads(line) for line in (exported / "budgets.ndjson").read_bytes().splitlines()]
    assert sums["Assets:Deposits"] == 124_000
    assert sums["Liabilities:Funds"] == 0
    for budget in budgets:
        accounts = f"{budget['advertiser_id']}:{budget['campaign_id']}".upper()
        assert sums[f"Liabilities:Funds:{accounts}"] + sums[f"Assets:Receivable:{accounts}"] == budget["spent_micros"]
    assert sum(budget["spent_micros"] for budget in budgets) == -sums["Income:Slots"]


def test_why_beancount_was_not_asked_is_said(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are more transactions than beancount can take quickly, that is said; asked for, it is done anyway."""
    monkeypatch.setattr(inspection, "BEAN_CHECK_TRANSACTIONS_MAX", 10)
    policy, report = inspection.policy_in(exported), Report()
    assert "--bean-check asks it" in str(inspection.inspect_folder(exported, policy, (), report))
    assert inspection.inspect_folder(exported, policy, (), report, bean_check=False) == "you said so"
    assert report.checked["bean-check"] == 0
    assert inspection.inspect_folder(exported, policy, (), report, bean_check=True) is None
    assert (report.checked["bean-check"], report.found) == (1, 0)


def test_the_evening_has_a_bit_of_everything(exported: Path) -> None:
    """What the verifier is tried on bills and refuses for every reason, and passes midnight in three time zones."""
    lines = [json.loads(line) for line in (exported / "deliveries.ndjson").read_bytes().splitlines()]
    assert {line["reason"] for line in lines} == {"", "late", "over_budget", "over_funds", "test"}
    assert {line["hour"][:10] for line in lines} == {"2026-03-09", "2026-03-10"}
    assert len({line["hour"] for line in lines}) > 4
    assert {line["city"] for line in lines} == {"", "217", "218"}
    budgets = [json.loads(line) for line in (exported / "budgets.ndjson").read_bytes().splitlines()]
    assert all(budget["spent_micros"] and budget["clicks"] and budget["views"] for budget in budgets)
    assert any(0 < budget["day_spent_micros"] < budget["spent_micros"] for budget in budgets)


def test_the_core_runs_on_its_own(exported: Path) -> None:
    """The core is a program that needs nothing of this project, and tells by its status what it found."""
    program = Path(verifier.__file__)
    assert "from infra" not in program.read_text()
    run = [sys.executable, "-I", str(program), str(exported)]
    right = subprocess.run(run, capture_output=True, text=True, check=False)
    assert (right.returncode, right.stderr) == (0, "")
    assert "entries" in right.stdout
    (exported / "checkpoint").write_text(larger((exported / "checkpoint").read_text()))
    wrong = subprocess.run(run, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "signatures: checkpoint" in wrong.stdout


async def test_a_later_export_adds_what_is_new(connection: Connection, exported: Path, tmp_path: Path) -> None:
    """Exporting again into the same folder adds entries, keeps old checkpoints, and verifies with those kept before."""
    before = (exported / "checkpoint").read_text()
    bundle = exported / "tile" / Place(None, 0).path
    written_at = bundle.stat().st_mtime_ns
    parts = partial_bundles(exported)
    await evening.more(connection, 200)
    await evening.seal(connection, evening.keys_in(tmp_path))
    size = await evening.export(connection, exported)
    assert bundle.stat().st_mtime_ns == written_at
    assert size > 700
    assert len(parts) == len(partial_bundles(exported)) == 1
    assert partial_bundles(exported) != parts
    assert evening.inspected(exported, before).findings == []


def partial_bundles(folder: Path) -> list[str]:
    """Return the bundles of an export that are not full."""
    return [str(path.relative_to(folder)) for path in folder.glob("tile/entries/*.p/*")]


async def test_an_interrupted_export_goes_on(connection: Connection, exported: Path, tmp_path: Path) -> None:
    """What a killed export has written stays and is completed, also a line that was cut off."""
    half = evening.copied_folder(exported, tmp_path / "half")
    for missing in ("checkpoint", "accounts.beancount", "budgets.ndjson", "deliveries.ndjson", "tile/entries/001"):
        (half / missing).unlink()
    (half / "tile/entries/.001.part").write_bytes(b"half a bundle")
    notes = half / "checkpoints.ndjson"
    notes.write_bytes(notes.read_bytes()[:-20])
    await evening.export(connection, half)
    assert evening.inspected(half).findings == []
    assert (half / "checkpoints.ndjson").read_bytes() == (exported / "checkpoints.ndjson").read_bytes()


async def test_a_folder_with_something_else_is_left_alone(
    connection: Connection, exported: Path, tmp_path: Path
) -> None:
    """An export goes into a folder of its own log only, and never goes back."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("mine")
    with pytest.raises(FolderUnfit, match="something else"):
        await evening.export(connection, other)
    text = (exported / "checkpoint").read_text()
    for changed, reason in (
        (text.replace("campaign-ledger", "kampagne"), "it is the export of kampagne"),
        (larger(text), "and the log has"),
        ("nonsense", "is damaged"),
    ):
        (exported / "checkpoint").write_text(changed)
        with pytest.raises(FolderUnfit, match=reason):
            await evening.export(connection, exported)


async def test_what_is_not_sealed_is_not_exported(pool: Pool, tmp_path: Path) -> None:
    """A log without a checkpoint has nothing to export."""
    async with pool.connection() as connection:
        await evening.spend(connection, batches=0)
        with pytest.raises(NotSealed):
            await mirror.mirror(connection, evening.LEDGER, tmp_path / "export", lambda _done, _of: None)


def test_what_is_no_export_is_said(tmp_path: Path, exported: Path) -> None:
    """A folder without a policy, with a bad one, or without checkpoints cannot be inspected."""
    with pytest.raises(Unreadable, match="policy cannot be read"):
        inspection.policy_in(tmp_path)
    for text in ("log nonsense\n", "quorum none\n", "witness\n", "unknown line\n"):
        (tmp_path / "policy").write_text(text)
        with pytest.raises(Unreadable):
            inspection.policy_in(tmp_path)
    (exported / "checkpoints.ndjson").unlink()
    with pytest.raises(Unreadable, match="checkpoints"):
        evening.inspected(exported)


def test_the_verifiers_types_are_those_of_the_catalogue() -> None:
    """The list of event types that the verifier knows is that of the log."""
    assert {str(kind.__struct_config__.tag) for kind in get_args(Event)} == recount.TYPES


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_536 + 300])
def test_the_verifiers_tree_is_that_of_the_log(size: int) -> None:
    """Both implementations of the tree, which share no code, agree on every tile and on roots at any size."""
    entries = [b"%d" % number for number in range(size)]
    edge, made = merkle.extended(merkle.EMPTY_EDGE, b"".join(map(merkle.leaf_hash, entries)))
    stored = {tile[:2]: tile.hashes for tile in made}
    report = Report()
    tree = verifier.Tree(report)
    for start in range(0, size, 256):
        end = min(size, start + 256)
        due = [
            (verifier.Checkpoint(at, merkle.root(list(map(merkle.leaf_hash, entries[:at]))), ORIGIN), "here")
            for at in {start + 1, end}
            if size < 1_000 or at == size
        ]
        tree.add(entries[start:end], lambda level, number, width: stored[level, number][: width * 32], due)
    tree.finish(lambda level, number, width: stored[level, number][: width * 32])
    assert (report.findings, tree.size) == ([], size)
    assert merkle.edge_size(edge) == size
    for place in tiles.places(size):
        assert verifier.place("entries" if place.level is None else place.level, place.number, place.width) == (
            f"tile/{place.path}"
        )


@pytest.mark.parametrize("kind", [COSIGNATURE_ED25519, COSIGNATURE_MLDSA44])
def test_cosignatures_and_quorums_are_checked(kind: int) -> None:
    """Under the policy that the specification shows, a checkpoint counts when two X and any Y have cosigned."""
    log, *witnesses = signer(ED25519), *(signer(kind, f"w{number}") for number in range(6))
    names = ("X1", "X2", "X3", "Y1", "Y2", "Y3")
    named = "".join(f"witness {name} {each.key}\n" for name, each in zip(names, witnesses, strict=True))
    policy = parse_policy(
        f"log {log.key} https://log.example/\n\n# of two organisations\n{named}group X-witnesses 2 X1 X2 X3\n"
        "group Y-witnesses any Y1 Y2 Y3\n\n\tgroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    )
    tree = Checkpoint(ORIGIN, 5, bytes(32))
    for cosigners in itertools.product((True, False), repeat=6):
        signing = [each for each, cosigns in zip(witnesses, cosigners, strict=True) if cosigns]
        note = checkpoint.sign(tree, [log, *signing], timestamp=7)
        report = Report()
        found = read_checkpoint(str(note), policy, report, "here", quorum=True)
        enough = sum(cosigners[:3]) >= 2 and any(cosigners[3:])
        assert (found == (5, bytes(32), ORIGIN), report.found) == (enough, not enough)


@pytest.mark.parametrize(
    "lines",
    [
        "",  # no quorum
        "quorum none\nquorum none\n",
        "quorum X1\nwitness X1 {X1}\n",  # named before it is there
        "witness none {X1}\nquorum none\n",
        "witness X1 {X1}\nwitness X1 {X2}\nquorum X1\n",
        "witness X1 {X1}\nwitness X2 {X1}\nquorum X1\n",  # one key twice
        "witness X1 {X1}\ngroup G any\nquorum G\n",
        "witness X1 {X1}\ngroup G 0 X1\nquorum G\n",
        "witness X1 {X1}\ngroup G 2 X1\nquorum G\n",
        "witness X1 {X1}\ngroup G 2 X1 X1\nquorum G\n",
        "witness X1 {X1}\ngroup G any none\nquorum G\n",
        "witness X1 {X1}\ngroup G any G\nquorum G\n",
        "witness X1 {X1}\ngroup G any X1\ngroup H any X1\nquorum G\n",  # in two groups
        "witness X1 {X1}\ngroup X1 any X1\nquorum X1\n",
        "something else\nquorum none\n",
        "log\nquorum none\n",
    ],
)
def test_what_is_no_policy_is_refused(lines: str) -> None:
    """Whatever the specification does not let a policy say is refused, and not understood in some way."""
    one, other = signer(COSIGNATURE_ED25519, "x1").key, signer(COSIGNATURE_ED25519, "x2").key
    with pytest.raises((ValueError, IndexError)):
        parse_policy(lines.format(X1=one, X2=other))


def test_a_second_key_of_the_log_is_checked() -> None:
    """Where the log signs with ML-DSA-44 as well, a wrong signature of that kind is found."""
    first, second = signer(ED25519), signer(COSIGNATURE_MLDSA44)
    policy = parse_policy(f"log {first.key}\nlog {second.key}\nquorum none\n")
    note = checkpoint.sign(Checkpoint(ORIGIN, 5, bytes(32)), [first, second], timestamp=7)
    assert read_checkpoint(str(note), policy, Report(), "here", quorum=True)
    one, two = note.signatures
    report = Report()
    forged = note._replace(signatures=(one, two._replace(signature=bytes(len(two.signature)))))
    assert read_checkpoint(str(forged), policy, report, "here", quorum=True) is None
    assert "not over this text" in report.findings[0].detail
    alone = str(note._replace(signatures=(two,)))
    assert read_checkpoint(alone, parse_policy(f"log {second.key}\nquorum none\n"), Report(), "here", quorum=True)
    assert read_checkpoint(alone, parse_policy(f"log {first.key}\nquorum none\n"), report, "", quorum=True) is None


@pytest.mark.parametrize(
    "note",
    ["", "text\n", f"{ORIGIN}\n1\nAAAA\n\n", f"{ORIGIN}\n01\n{'A' * 43}=\n\n", f"{ORIGIN}\n-1\n{'A' * 43}=\n\n— a b\n"],
)
def test_what_is_no_checkpoint_is_found(note: str) -> None:
    """Whatever cannot be read as a signed checkpoint is reported, and never an error of the program."""
    report = Report()
    assert read_checkpoint(note, Policy([signer(ED25519).key], {}, {}, "none"), report, "here", quorum=True) is None  # type: ignore[list-item]  # a key is a key
    assert [finding.check for finding in report.findings] == ["signatures"]


async def test_proofs_in_files_are_checked(connection: Connection, exported: Path) -> None:
    """A proof that was written to a file holds with nothing but the log's key, and no changed byte of it does."""
    policy = inspection.policy_in(exported)
    for position in (1, 7, 256, 257, 600):
        proof = (await proofs.prove_inclusion(connection, evening.LEDGER, position)).as_tlog_proof()
        report = Report()
        entry = verifier.verify_proof(proof, policy, report)
        assert entry is not None
        assert report.findings == []
        assert json.loads(entry)["stream"]
        lines = proof.split("\n")
        for bent in (
            proof.replace("index ", "index 1"),
            "\n".join([*lines[:3], *lines[4:]]),
            "\n".join([*lines[:4], lines[3], *lines[4:]]),
            proof.replace("extra ey", "extra eX"),
            proof.replace("extra ", "extra !"),
            proof.replace("v1", "v2"),
        ):
            report = Report()
            assert verifier.verify_proof(bent, policy, report) is None
            assert report.found == 1


async def test_checkpoints_are_kept_in_many_ways(connection: Connection, exported: Path, tmp_path: Path) -> None:
    """An auditor may have kept a checkpoint, a proof, or a whole export."""
    proof = (await proofs.prove_inclusion(connection, evening.LEDGER, 1)).as_tlog_proof()
    (tmp_path / "1.tlog-proof").write_text(proof)
    kept = list(inspection.kept_notes([exported / "checkpoint", tmp_path / "1.tlog-proof", exported]))
    last = (exported / "checkpoint").read_text()
    assert [note for _, note in kept].count(last) == 4
    assert len(kept) == 8
