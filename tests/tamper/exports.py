"""Every kind of tampering with an export, and which check finds it.

Whoever tampers is an outsider, who can change files, or an insider, who has the log's key as well and makes everything
anew: tree, checkpoints, reports and accounts. Against him there is what an auditor kept, and the rules.
"""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain import merkle
from infra import checkpoint, mirror, tiles
from infra.checkpoint import Checkpoint, Signer
from infra.verifier import Report
from projections import statements
from tests import evening

SIGNERS: Final = evening.keys_in(Path()).signers(evening.LEDGER)
ORIGIN: Final = SIGNERS[0].key.name

NONSENSE: Final[tuple[object, ...]] = (
    None,
    True,
    -1,
    0.5,
    1e300,
    10**400,
    float("nan"),
    "",
    "\0",
    "America",
    [],
    {},
    "20260309T2030Z",
)

Entries = list[bytes]
FolderTamper = Callable[[Path, Random], None]


class Kind(NamedTuple):
    """A kind of tampering, the check that has to find it, and whether that takes a checkpoint that was kept."""

    name: str
    tamper: FolderTamper
    found_by: str
    kept: bool = False


def entries_of(folder: Path) -> Entries:
    """Return the entries of an export."""
    size = checkpoint.parse((folder / "checkpoint").read_text().partition("\n\n")[0] + "\n").size
    return [entry for _, entry in mirror.entries_in(folder, size)]


def put(folder: Path, entries: Entries, size: int) -> None:
    """Write entries into the bundles of a tree of some size, and nothing else."""
    for place in tiles.places(size):
        if place.level is None:
            start = place.number * merkle.TILE_HASHES
            end = start + merkle.TILE_HASHES if place.width == merkle.TILE_HASHES else len(entries)
            mirror.write(folder / "tile" / place.path, tiles.bundle(entries[start:end]))


def remake(folder: Path, entries: Entries, sizes: tuple[int, ...] = (1, 100, 256, 400)) -> None:
    """Make everything in an export anew from other entries, signed with the log's own key."""
    size = len(entries)
    put(folder, entries, size)
    leaves = [merkle.leaf_hash(entry) for entry in entries]
    made = {tile[:2]: tile.hashes for tile in merkle.extended(merkle.EMPTY_EDGE, b"".join(leaves))[1]}
    for place in tiles.places(size):
        if place.level is not None:
            mirror.write(folder / "tile" / place.path, made[place.level, place.number])
    notes = [signed(at, merkle.root(leaves[:at])) for at in (*sizes, size)]
    mirror.write(folder / "checkpoints.ndjson", "".join(json.dumps(note) + "\n" for note in notes).encode())
    mirror.write(folder / "checkpoint", notes[-1].encode())
    with suppress(AttributeError, KeyError, TypeError, ValueError, msgspec.DecodeError):  # of nonsense
        statements.write_reports(folder, ORIGIN, enumerate(entries, 1))


def signed(size: int, root: bytes, signers: tuple[Signer, ...] = SIGNERS) -> str:
    """Return a signed checkpoint of the log."""
    return str(checkpoint.sign(Checkpoint(ORIGIN, size, root), signers, timestamp=0))


def edited(entry: bytes, **fields: Any) -> bytes:
    """Return an entry with other fields in its event or around it."""
    said = json.loads(entry)
    for name, value in fields.items():
        (said if name in said else said["event"])[name] = value
    return msgspec.json.encode(said)


def drop(entries: Entries, random: Random) -> Entries:
    """Leave one out."""
    at = random.randrange(len(entries))
    return entries[:at] + entries[at + 1 :]


def insert(entries: Entries, random: Random) -> Entries:
    """Add one that was never recorded."""
    at = random.randrange(len(entries))
    deliveries = [entry for entry in entries if b'"stream":"decision-' in entry]
    new = edited(random.choice(deliveries), stream=f"decision-{UUID(int=random.getrandbits(128))}", version=1)
    return [*entries[:at], new, *entries[at:]]


def swap(entries: Entries, random: Random) -> Entries:
    """Change the places of two."""
    one, other = random.sample(range(len(entries)), 2)
    swapped = list(entries)
    swapped[one], swapped[other] = entries[other], entries[one]
    return swapped


def repeat(entries: Entries, random: Random) -> Entries:
    """Have one twice."""
    at = random.randrange(len(entries))
    return [*entries[:at], entries[at], *entries[at:]]


def edit(entries: Entries, random: Random) -> Entries:
    """Say of one that somebody else did it."""
    at = random.randrange(len(entries))
    return [*entries[:at], edited(entries[at], actor=f"user:{random.getrandbits(32)}"), *entries[at + 1 :]]


def by_outsider(change: Callable[[Entries, Random], Entries]) -> FolderTamper:
    """Return the tampering of somebody who can only change the entries."""

    def tamper(folder: Path, random: Random) -> None:
        entries = entries_of(folder)
        put(folder, change(entries, random), len(entries))

    return tamper


def by_insider(change: Callable[[Entries, Random], Entries]) -> FolderTamper:
    """Return the tampering of somebody who makes everything anew."""

    def tamper(folder: Path, random: Random) -> None:
        remake(folder, change(entries_of(folder), random))

    return tamper


def edit_byte(folder: Path, random: Random) -> None:
    """Change one byte of the entries."""
    _change_byte(random.choice(sorted(_files(folder, "tile/entries"))), random)


def edit_tile(folder: Path, random: Random) -> None:
    """Change one byte of the hashes of the entries."""
    _change_byte(random.choice(sorted(_files(folder, "tile/0"))), random)


def edit_upper_tile(folder: Path, random: Random) -> None:
    """Change one byte of the hashes above."""
    _change_byte(random.choice(sorted(_files(folder, "tile/1"))), random)


def cut_tail(folder: Path, random: Random) -> None:
    """Take the last entries away, and leave the checkpoint as it was."""
    entries = entries_of(folder)
    put(folder, entries[: random.randrange(len(entries))], len(entries))


def roll_back(folder: Path, random: Random) -> None:
    """Show the log as it was, with the checkpoint that was signed then."""
    sizes = (1, 100, 256, 400)
    upto = random.randrange(1, len(sizes) + 1)
    remake(folder, entries_of(folder)[: sizes[upto - 1]], sizes[: upto - 1])


def forge(folder: Path, random: Random) -> None:
    """Sign another tree with another key under the log's name."""
    entries = insert(entries_of(folder), random)
    remake(folder, entries)
    other = Ed25519PrivateKey.from_private_bytes(random.randbytes(32))
    key = SIGNERS[0].key._replace(public_key=other.public_key().public_bytes_raw())
    root = merkle.root([merkle.leaf_hash(entry) for entry in entries])
    mirror.write(folder / "checkpoint", signed(len(entries), root, (Signer(key, other),)).encode())


def steal_signature(folder: Path, random: Random) -> None:
    """Put a signature of the log under another checkpoint."""
    text, _, lines = (folder / "checkpoint").read_text().partition("\n\n")
    origin, size, root = text.split("\n")
    other = Checkpoint(origin, int(size) - random.randrange(1, 100), random.randbytes(32)).text
    assert root
    mirror.write(folder / "checkpoint", f"{other}\n{lines}".encode())


def sign_again(folder: Path, random: Random) -> None:
    """Sign another root with the log's key, for one of the sizes that were signed."""
    lines = (folder / "checkpoints.ndjson").read_text().splitlines()
    at = random.randrange(len(lines))
    size = int(json.loads(lines[at]).split("\n")[1])
    lines[at] = json.dumps(signed(size, random.randbytes(32)))
    mirror.write(folder / "checkpoints.ndjson", "".join(f"{line}\n" for line in lines).encode())


def edit_checkpoint(folder: Path, random: Random) -> None:
    """Change one character of a stored checkpoint."""
    path = folder / "checkpoints.ndjson"
    lines = path.read_text().splitlines()
    at = random.randrange(len(lines))
    note = json.loads(lines[at])
    place = random.randrange(len(note) - 1)
    lines[at] = json.dumps(note[:place] + random.choice("xyz!") + note[place + 1 :])
    if json.loads(lines[at]) == note:
        lines[at] = json.dumps("")
    mirror.write(path, "".join(f"{line}\n" for line in lines).encode())


def edit_budget(folder: Path, random: Random) -> None:
    """Change a figure in the report of budgets."""
    _change_figure(folder / "budgets.ndjson", random)


def edit_delivery(folder: Path, random: Random) -> None:
    """Change a figure in the report of deliveries."""
    _change_figure(folder / "deliveries.ndjson", random)


def edit_place(folder: Path, random: Random) -> None:
    """Say of deliveries that they were in another hour or place; all sums by day and thing stay as they are."""
    path = folder / "deliveries.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    row = random.choice(rows)
    match random.choice(("hour", "country", "region", "city")):
        case "hour":
            row["hour"] = f"{row['hour'][:11]}{(int(row['hour'][11:13]) + random.randrange(1, 24)) % 24:02}:00:00Z"
        case name:
            row[name] += random.choice("xyz")
    rows.sort(key=lambda each: list(each.values()))
    mirror.write(path, "".join(f"{json.dumps(each)}\n" for each in rows).encode())


def edit_accounts(folder: Path, random: Random) -> None:
    """Change a digit in the accounts."""
    path = folder / "accounts.beancount"
    text = path.read_text()
    at = random.choice([found.start() for found in re.finditer("[0-9]", text)])
    mirror.write(path, f"{text[:at]}{(int(text[at]) + 1) % 10}{text[at + 1 :]}".encode())


def bill_anyway(entries: Entries, random: Random) -> Entries:
    """Bill what was over a budget."""
    return _with_one(
        entries, random, lambda said: said["event"].get("reason") == "over_budget", billed=True, reason=None
    )


def overdraw(entries: Entries, random: Random) -> Entries:
    """Bill what the advertiser's funds did not pay."""
    return _with_one(
        entries, random, lambda said: said["event"].get("reason") == "over_funds", billed=True, reason=None
    )


def take_funds(entries: Entries, random: Random) -> Entries:
    """Say that less was deposited, and that nothing was paid back."""
    micros = random.randrange(1, 100_000)
    return _with_one(entries, random, lambda said: said["event"]["type"] == "funds_deposited", amount_micros=micros)


def overcharge(entries: Entries, random: Random) -> Entries:
    """Bill more than the price."""
    price = random.randrange(1, 100) * 1_000 + 7
    return _with_one(entries, random, lambda said: said["event"].get("billed"), price_micros=price)


def count_twice(entries: Entries, random: Random) -> Entries:
    """Count a delivery again, as the next version of its decision."""
    last = {json.loads(entry)["stream"]: entry for entry in entries}
    one = random.choice([entry for stream, entry in last.items() if stream.startswith("decision-")])
    version = json.loads(one)["version"]
    return [*entries, edited(one, version=version + 1, recorded_at=json.loads(entries[-1])["recorded_at"])]


def back_date(entries: Entries, random: Random) -> Entries:
    """Say of an entry that it was recorded before the one before it."""
    times = [json.loads(entry)["recorded_at"] for entry in entries]
    at = random.choice([at for at in range(1, len(entries)) if times[at] > times[0]])
    return [*entries[:at], edited(entries[at], recorded_at="2026-03-09T20:29:59Z"), *entries[at + 1 :]]


def talk_nonsense(entries: Entries, random: Random) -> Entries:
    """Say of a few entries what makes no sense anywhere; the verifier must not stop at it."""
    said = [json.loads(entry) for entry in entries]
    for one in random.sample(said, 5):
        within = random.choice((one, one["event"]))
        within[random.choice(sorted(within))] = random.choice(NONSENSE)
    return [json.dumps(one, separators=(",", ":")).encode() for one in said]


def invent_type(entries: Entries, random: Random) -> Entries:
    """Say of an entry that it is of a type that there is not."""
    at = random.randrange(len(entries))
    return [*entries[:at], edited(entries[at], type="refund_recorded"), *entries[at + 1 :]]


KINDS: Final = (
    Kind("edited byte", edit_byte, "entries"),
    Kind("dropped entry", by_outsider(drop), "entries"),
    Kind("inserted entry", by_outsider(insert), "entries"),
    Kind("swapped entries", by_outsider(swap), "entries"),
    Kind("repeated entry", by_outsider(repeat), "entries"),
    Kind("truncated tail", cut_tail, "entries"),
    Kind("edited hash of an entry", edit_tile, "entries"),
    Kind("edited hash above", edit_upper_tile, "tiles"),
    Kind("forged checkpoint", forge, "signatures"),
    Kind("signature of another checkpoint", steal_signature, "signatures"),
    Kind("edited old checkpoint", edit_checkpoint, "signatures"),
    Kind("checkpoint signed again", sign_again, "consistency"),
    Kind("edited budgets", edit_budget, "reports"),
    Kind("edited deliveries", edit_delivery, "reports"),
    Kind("edited hours or places", edit_place, "reports"),
    Kind("edited accounts", edit_accounts, "accounts"),
    Kind("insider: edited entry", by_insider(edit), "consistency", kept=True),
    Kind("insider: dropped entry", by_insider(drop), "consistency", kept=True),
    Kind("insider: inserted entry", by_insider(insert), "consistency", kept=True),
    Kind("insider: swapped entries", by_insider(swap), "consistency", kept=True),
    Kind("insider: repeated entry", by_insider(repeat), "structure", kept=True),
    Kind("insider: rolled back", roll_back, "consistency", kept=True),
    Kind("insider: billed over a budget", by_insider(bill_anyway), "money"),
    Kind("insider: billed over the funds", by_insider(overdraw), "money"),
    Kind("insider: deposited less", by_insider(take_funds), "money"),
    Kind("insider: billed more than the price", by_insider(overcharge), "money"),
    Kind("insider: counted twice", by_insider(count_twice), "money"),
    Kind("insider: nonsense", by_insider(talk_nonsense), "consistency", kept=True),
    Kind("insider: back-dated", by_insider(back_date), "structure"),
)


def try_folder(kind: Kind, source: Path, scratch: Path, seed: int) -> Report:
    """Tamper with a copy of an export, and return what the verifier finds."""
    folder = evening.copied_folder(source, scratch / f"{kind.name}-{seed}")
    kept = [(folder / "checkpoint").read_text()] if kind.kept else []
    kind.tamper(folder, Random(f"{kind.name} {seed}"))
    return evening.inspected(folder, *kept)


def _files(folder: Path, below: str) -> list[Path]:
    return [path for path in (folder / below).rglob("*") if path.is_file()]


def _change_byte(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= random.randrange(1, 256)
    mirror.write(path, bytes(content))


def _change_figure(path: Path, random: Random) -> None:
    lines = path.read_text().splitlines()
    at = random.randrange(len(lines))
    row = json.loads(lines[at])
    name = random.choice([name for name, value in row.items() if isinstance(value, int)])
    row[name] += random.choice([-1, 1]) * random.randrange(1, 1_000)
    lines[at] = json.dumps(row)
    mirror.write(path, "".join(f"{line}\n" for line in lines).encode())


def _with_one(entries: Entries, random: Random, fits: Callable[[Any], object], **fields: Any) -> Entries:
    at = random.choice([at for at, entry in enumerate(entries) if fits(json.loads(entry))])
    return [*entries[:at], edited(entries[at], **fields), *entries[at + 1 :]]
