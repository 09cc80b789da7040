"""The core of the verifier: checks that an exported log is the one that was signed, trusting nobody.

It imports nothing of this project, so that it can be read from end to end and run on its own:
`python verifier.py FOLDER`. What entries say is counted again in `infra.recount`. Checked here is, by name:

signatures    every checkpoint is signed by the log, and cosigned as the policy asks for
consistency   every checkpoint, also those that an auditor kept, is a beginning of the one history in the folder
tiles         every hash of the tree is the one that its entries lead to (RFC 6962, C2SP tlog-tiles)
entries       every entry is the one that was hashed
"""

import json
import sys
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from heapq import merge
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

LOG_KEY: Final = 0x01
MLDSA44_KEY: Final = 0x06
WIDTH: Final = 256
HASH_BYTES: Final = 32
FINDINGS_MAX: Final = 1_000


class Finding(NamedTuple):
    """Something that is wrong: which check says so, at which position of the log (where there is one), and what."""

    check: str
    position: int | None
    detail: str


class Report:
    """How much was checked, by name, and what was found."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.findings: list[Finding] = []
        self.found = 0

    def wrong(self, check: str, detail: str, position: int | None = None) -> None:
        """Note a finding; past the first thousand, they are only counted."""
        self.found += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(check, position, detail))


# --- Signatures: C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-policy ---


class Key(NamedTuple):
    """A public key under a name, with the kind of signature it makes."""

    name: str
    kind: int
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of each of its signatures."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()[:4]

    def signed(self, text: str, signature: bytes) -> bool:
        """Tell whether a signature (without the key's id) over a checkpoint's text is by this key."""
        message, time = text.encode(), b""
        if self.kind != LOG_KEY:
            time, signature = signature[:8], signature[8:]
            message = f"cosignature/v1\ntime {int.from_bytes(time, 'big')}\n{text}".encode()
        try:
            if self.kind != MLDSA44_KEY:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
            else:
                size, root, origin = parse_text(text)
                names = [bytes([len(name.encode())]) + name.encode() for name in (self.name, origin)]
                message = b"subtree/v1\n\x00" + names[0] + time + names[1] + bytes(8) + size.to_bytes(8, "big") + root
                MLDSA44PublicKey.from_public_bytes(self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class Policy(NamedTuple):
    """Whose signatures are believed: the log's keys, the witnesses by name, groups of them, and which is required."""

    logs: list[Key]
    witnesses: dict[str, Key]
    groups: dict[str, tuple[int, list[str]]]
    quorum: str

    def satisfied(self, cosigners: set[str], name: str | None = None) -> bool:
        """Tell whether the witnesses that have cosigned are as many as are required."""
        name = name or self.quorum
        if name in self.groups:
            least, members = self.groups[name]
            return sum(self.satisfied(cosigners, member) for member in members) >= least
        return name == "none" or name in cosigners


class Checkpoint(NamedTuple):
    """A tree that was signed."""

    size: int
    root: bytes
    origin: str


Signed = tuple[Checkpoint, str]
"""A tree that was signed, and where that was found."""


def parse_key(text: str) -> Key:
    """Return the key in a text; ValueError says that it is none."""
    name, key_id, material = text.split("+", 2)
    decoded = b64decode(material, validate=True)
    key = Key(name, decoded[0], decoded[1:])
    if key.id.hex() != key_id:
        raise ValueError(f"the key {text} does not have the id that it claims")
    return key


def parse_policy(text: str) -> Policy:
    """Return the policy in a text; ValueError or IndexError says that it is none."""
    policy = Policy([], {}, {}, "")
    for words in (line.split() for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")):
        kind, name, taken = words[0], words[1], {"none", *policy.witnesses, *policy.groups}
        if kind == "log":
            policy.logs.append(parse_key(name))
        elif kind == "witness" and name not in taken:
            policy.witnesses[name] = parse_key(words[2])
        elif kind == "group" and name not in taken and taken.issuperset(words[3:]):
            policy.groups[name] = ({"all": len(words) - 3, "any": 1}.get(words[2]) or int(words[2]), words[3:])
        elif kind == "quorum" and name in taken and not policy.quorum:
            policy = policy._replace(quorum=name)
        else:
            raise ValueError(f"a policy cannot say {' '.join(words)}")
    keys = [key.public for key in (*policy.logs, *policy.witnesses.values())]
    members = ["none", *(member for _, group in policy.groups.values() for member in group)]
    fair = all(1 <= least <= len(group) for least, group in policy.groups.values())
    if not (policy.quorum and fair and len({*keys}) == len(keys) and len({*members}) == len(members)):
        raise ValueError("a policy has a quorum, groups of at least as many as are needed, and nobody in it twice")
    return policy


def parse_text(text: str) -> Checkpoint:
    """Return the tree of which a checkpoint's text speaks; ValueError says that it is none."""
    origin, size, root, *_ = text.split("\n")
    checkpoint = Checkpoint(int(size), b64decode(root, validate=True), origin)
    if len(checkpoint.root) != HASH_BYTES or str(checkpoint.size) != size or checkpoint.size < 0:
        raise ValueError("the text is no checkpoint")
    return checkpoint


def parse_line(line: str) -> tuple[str, bytes]:
    """Return the name and the signature in a line under a note; ValueError says that it is none."""
    dash, name, encoded = line.split(" ")
    signature = b64decode(encoded, validate=True)
    if dash != "\N{EM DASH}" or b64encode(signature).decode() != encoded:
        raise ValueError(f"the line of {name} is no signature")
    return name, signature


def read_checkpoint(note: str, policy: Policy, report: Report, where: str, *, quorum: bool) -> Checkpoint | None:
    """Return the tree of a note, if the log has signed it and, for a quorum, enough witnesses have cosigned it."""
    report.checked["signatures"] += 1
    text, border, rest = note.rpartition("\n\n")
    text += "\n"
    keys = [("", key) for key in policy.logs] + list(policy.witnesses.items())
    signed, cosigners = False, set()
    try:
        checkpoint = parse_text(text)
        for line in rest.removesuffix("\n").split("\n") if border else []:
            name, signature = parse_line(line)
            for witness, key in keys:
                if (key.name, key.id) == (name, signature[:4]):
                    if not key.signed(text, signature[4:]):
                        report.wrong("signatures", f"{where}: the signature of {name} is not over this text")
                        return None
                    cosigners.add(witness)
                    signed |= not witness and name == checkpoint.origin
    except ValueError as error:
        report.wrong("signatures", f"{where}: {error}")
        return None
    if not signed:
        report.wrong("signatures", f"{where}: no key of the log {checkpoint.origin} has signed it")
    elif quorum and not policy.satisfied(cosigners):
        report.wrong("signatures", f"{where}: too few witnesses have cosigned it")
    else:
        return checkpoint
    return None


# --- The tree: RFC 6962 and C2SP tlog-tiles ---

TileReader = Callable[[int, int, int], bytes | None]
"""Returns the tile of a level and number with so many hashes, or None when there is none."""


class Tree:
    """The tree over all entries, computed anew; of it, only the right edge is kept."""

    def __init__(self, report: Report) -> None:
        """Begin with no entry."""
        self.size = 0
        self._edge = [b""]  # by level of tiles, the hashes that fill no tile yet
        self._report = report

    def add(self, entries: Sequence[bytes], tile: TileReader, signed: Iterable[Signed]) -> None:
        """Add the up to 256 entries of the next bundle, and compare with the signed trees that end among them."""
        hashes = b"".join([sha256(b"\x00" + entry).digest() for entry in entries])
        if tile(0, self.size // WIDTH, len(entries)) != hashes:
            self.say_which(entries, tile)
        for checkpoint, where in signed:
            self._check_root(checkpoint, where, hashes)
        self.size += len(entries)
        self._report.checked["entries"] += len(entries)
        self._edge[0] = hashes
        level = 0
        while len(self._edge[level]) == WIDTH * HASH_BYTES:
            if level:
                self._check_tile(level, tile)
            if level + 1 == len(self._edge):
                self._edge.append(b"")
            self._edge[level + 1] += _top(self._edge[level])
            self._edge[level] = b""
            level += 1

    def finish(self, tile: TileReader) -> None:
        """Check the tiles at the right edge."""
        for level in filter(self._edge.__getitem__, range(1, len(self._edge))):
            self._check_tile(level, tile)

    def _check_tile(self, level: int, tile: TileReader) -> None:
        hashes = self._edge[level]
        number = (self.size >> 8 * level) // WIDTH - (len(hashes) == WIDTH * HASH_BYTES)
        self._report.checked["tiles"] += 1
        if tile(level, number, len(hashes) // HASH_BYTES) != hashes:
            self._report.wrong("tiles", f"tile {number} of level {level} is not the one over the entries")

    def _check_root(self, checkpoint: Checkpoint, where: str, hashes: bytes) -> None:
        self._report.checked["consistency"] += 1
        added = checkpoint.size - self.size
        if added < 0 or _root([*self._edge[:0:-1], hashes[: added * HASH_BYTES]]) != checkpoint.root:
            detail = f"{where}: the tree of {checkpoint.size:,} entries is not the one that was signed, or out of order"
            self._report.wrong("consistency", detail)

    def say_which(self, entries: Sequence[bytes], tile: TileReader) -> None:
        """Note which entries of the next bundle are not those in the tree."""
        stored = tile(0, self.size // WIDTH, len(entries)) or tile(0, self.size // WIDTH, WIDTH) or b""
        for at, entry in enumerate(entries[:WIDTH]):
            if sha256(b"\x00" + entry).digest() != stored[at * HASH_BYTES :][:HASH_BYTES]:
                self._report.wrong("entries", "the entry is not the one whose hash is in the tree", self.size + at + 1)


def _top(hashes: bytes) -> bytes:
    """Return the root over a power of two of concatenated hashes."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + 64]).digest() for at in range(0, len(hashes), 64)])
    return hashes


def _root(parts: Iterable[bytes]) -> bytes:
    """Return the root over subtrees that are cut into levels of tiles, the highest level first."""
    peaks = []
    for part in parts:
        while part:
            length = HASH_BYTES << ((len(part) // HASH_BYTES).bit_length() - 1)
            peaks.append(_top(part[:length]))
            part = part[length:]  # noqa: PLW2901  what is left of it
    root = peaks.pop() if peaks else sha256(b"").digest()
    while peaks:
        root = sha256(b"\x01" + peaks.pop() + root).digest()
    return root


# --- The folder ---


def place(level: int | str, number: int, width: int) -> str:
    """Return where a tile, or a bundle of entries, is in the folder."""
    groups = [digits.zfill(3) for digits in f"{number:,}".split(",")]
    path = "/".join([*(f"x{digits}" for digits in groups[:-1]), groups[-1]])
    return f"tile/{level}/{path}" + (f".p/{width}" if width < WIDTH else "")


def unpack(bundle: bytes) -> list[bytes]:
    """Return the entries of a bundle, each of which stands after its length; the last may be cut off."""
    entries, at = [], 0
    while at < len(bundle):
        start, at = at + 2, at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        entries.append(bundle[start:at])
    return entries


def notes_in(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the notes in a file, each of which is a JSON string in a line of its own, and where it is."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield f"{path.name}, line {number}", str(json.loads(line))
            except ValueError:
                yield f"{path.name}, line {number}", line


def signed_trees(
    notes: Iterable[tuple[str, str]], policy: Policy, report: Report, *, quorum: bool = False
) -> Iterator[Signed]:
    """Yield the trees that were signed, of notes with their names."""
    for where, note in notes:
        checkpoint = read_checkpoint(note, policy, report, where, quorum=quorum)
        if checkpoint is not None:
            yield checkpoint, where


def verify_folder(
    folder: Path, policy: Policy, kept: Iterable[tuple[str, str]], report: Report, each: Callable[[int, bytes], object]
) -> None:
    """Check a folder, and hand every entry with its position to `each`, in order; `kept` are notes with their names."""
    latest = (folder / "checkpoint").read_text(encoding="utf-8", errors="replace")
    last = list(signed_trees([("checkpoint", latest)], policy, report, quorum=True))
    size = last[0][0].size if last else 0
    own, held = (signed_trees(notes, policy, report) for notes in (notes_in(folder / "checkpoints.ndjson"), kept))
    signed = merge(sorted(held), own, last, key=lambda each: each[0].size)
    waiting = next(signed, None)

    def tile(level: int, number: int, width: int) -> bytes | None:
        path = folder / place(level, number, width)
        return path.read_bytes() if path.exists() else None

    tree = Tree(report)
    while tree.size < size:
        width = min(WIDTH, size - tree.size)
        path = folder / place("entries", tree.size // WIDTH, width)
        entries = unpack(path.read_bytes()) if path.exists() else []
        position = tree.size
        if len(entries) != width:
            tree.say_which(entries, tile)
            detail = f"the bundle has {len(entries)} entries instead of {width}: nothing after it is checked"
            report.wrong("entries", detail, position + 1)
            return
        due = []
        while waiting is not None and waiting[0].size <= position + width:
            due.append(waiting)
            waiting = next(signed, None)
        tree.add(entries, tile, due)
        for number, entry in enumerate(entries, position + 1):
            each(number, entry)
    tree.finish(tile)
    for checkpoint, where in [waiting, *signed] if waiting else []:
        if checkpoint.size > size:
            report.wrong("consistency", f"{where}: {checkpoint.size:,} entries were signed, and here are {size:,}")


def verify_proof(proof: str, policy: Policy, report: Report) -> bytes | None:
    """Check a proof (C2SP tlog-proof) that holds its entry as extra data, and return the entry if the proof holds."""
    head, _, note = proof.partition("\n\n")
    checkpoint = read_checkpoint(note, policy, report, "the proof", quorum=True)
    if checkpoint is None:
        return None
    report.checked["entries"] += 1
    entry, holds = b"", False
    with suppress(ValueError):
        version, extra, index, *lines = head.split("\n")
        entry = b64decode(extra.removeprefix("extra "), validate=True)
        number, last = int(index.removeprefix("index ")), checkpoint.size - 1
        hashed, sound = sha256(b"\x00" + entry).digest(), version == "c2sp.org/tlog-proof@v1" and 0 <= number <= last
        for sibling in (b64decode(line, validate=True) for line in lines):
            sound &= len(sibling) == HASH_BYTES and last > 0
            if number % 2 or number == last:
                hashed = sha256(b"\x01" + sibling + hashed).digest()
                while number and not number % 2:
                    number, last = number >> 1, last >> 1
            else:
                hashed = sha256(b"\x01" + hashed + sibling).digest()
            number, last = number >> 1, last >> 1
        holds = sound and last == 0 and hashed == checkpoint.root
    if not holds:
        report.wrong("entries", "the proof does not lead from its entry to the root that was signed")
    return entry if holds else None


def main() -> int:
    """Check the folder that the command line names, and say what was found."""
    folder, report = Path(sys.argv[1]), Report()
    verify_folder(folder, parse_policy((folder / "policy").read_text("utf-8")), (), report, lambda _position, _entry: 0)
    sys.stdout.writelines(f"{check:<12} {count:>12,} checked\n" for check, count in report.checked.items())
    sys.stdout.writelines(f"{found.check}: {found.detail} ({found.position})\n" for found in report.findings)
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
