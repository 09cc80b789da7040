"""Copies a sealed log into a folder that is complete in itself, laid out as a tiled log is served (C2SP tlog-tiles).

What is there already stays: an export that was interrupted goes on where it stopped, and a later one adds what is new.
"""

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from domain.merkle import HASH_BYTES, TILE_HASHES
from infra import checkpoint, event_log, signed_note, tiles, tree
from infra.cosigner import Witnesses
from infra.database import Connection, as_structs
from infra.proofs import NotSealed
from infra.signed_note import NoteMalformed
from infra.tiles import Place
from infra.tree import Sealed

PAGE_TILES: Final = 64
CHECKPOINTS_PER_PAGE: Final = 1_000
LAST_LINES_BYTES: Final = 1 << 16
"""More than a checkpoint takes, with the signatures of many witnesses."""

Progress = Callable[[int, int], None]
"""Told how many entries are in the folder, and how many there will be."""


class FolderUnfit(Exception):
    """The folder {folder} cannot take the export: {reason}."""

    def __init__(self, folder: Path, reason: str) -> None:
        """Say what is in the way."""
        super().__init__(str(self.__doc__).format(folder=folder, reason=reason))


async def mirror(
    connection: Connection, ledger_id: UUID, folder: Path, progress: Progress, witnesses: Witnesses | None = None
) -> Sealed:
    """Copy the log up to its last checkpoint, which is written last, and return it; raise NotSealed or FolderUnfit.

    Where there are witnesses, it is the last that enough of them have cosigned.
    """
    sealed = await tree.read_published(connection, ledger_id, cosigned=witnesses is not None)
    if sealed is None:
        raise NotSealed("The log has no checkpoint yet.")
    _check_continues(folder, sealed)
    missing = [place for place in tiles.places(sealed.size) if not (folder / "tile" / place.path).exists()]
    for number in range(0, len(missing), PAGE_TILES):
        page = missing[number : number + PAGE_TILES]
        async for place, content in _contents(connection, ledger_id, page):
            write(folder / "tile" / place.path, content)
            if place.level is None:
                progress(place.number * TILE_HASHES + place.width, sealed.size)
    await _add_checkpoints(connection, ledger_id, folder / "checkpoints.ndjson", sealed.size)
    write(folder / "policy", (await policy_of(connection, ledger_id, witnesses)).encode())
    write(folder / "checkpoint", sealed.note.encode())
    _forget_parts(folder, sealed.size)
    return sealed


async def policy_of(connection: Connection, ledger_id: UUID, witnesses: Witnesses | None = None) -> str:
    """Return whose signatures are to be believed (C2SP tlog-policy): keys that signed the log, witnesses, quorum."""
    keys = await tree.read_keys(connection, ledger_id)
    lines = witnesses.lines if witnesses else ("quorum none",)
    return "".join(f"{line}\n" for line in (*(f"log {key}" for key in keys), *lines))


def entries_in(folder: Path, size: int) -> Iterator[tuple[int, bytes]]:
    """Yield the first entries of a folder, each with its position."""
    position = 0
    while position < size:
        place = Place(None, position // TILE_HASHES, min(TILE_HASHES, size - position))
        for entry in tiles.entries_of((folder / "tile" / place.path).read_bytes()):
            position += 1
            yield position, entry


def write(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all, however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(content)
    draft.replace(path)


def _check_continues(folder: Path, sealed: Sealed) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "checkpoint").exists():
        if any(path.name not in {"tile", "checkpoints.ndjson", "policy"} for path in folder.iterdir()):
            raise FolderUnfit(folder, "it holds something else")
        return
    try:
        before = checkpoint.parse(signed_note.parse((folder / "checkpoint").read_bytes()).text)
    except NoteMalformed as error:
        raise FolderUnfit(folder, f"its checkpoint is damaged ({error})") from error
    now = checkpoint.parse(signed_note.parse(sealed.note.encode()).text)
    if before.origin != now.origin:
        raise FolderUnfit(folder, f"it is the export of {before.origin}, and not of {now.origin}")
    if before.size > now.size:
        raise FolderUnfit(folder, f"it has {before.size:,} entries, and the log has {now.size:,}")


async def _contents(connection: Connection, ledger_id: UUID, places: list[Place]) -> AsyncIterator[tuple[Place, bytes]]:
    hashed = [(place.level, place.number) for place in places if place.level is not None]
    stored = await tree.read_tiles(connection, ledger_id, hashed)
    for place in places:
        if place.level is None:
            after = place.number * TILE_HASHES
            texts = await event_log.read_texts(connection, ledger_id, after, limit=place.width)
            yield place, tiles.bundle([text.entry.encode() for text in texts])
        else:
            yield place, stored.get((place.level, place.number), b"")[: place.width * HASH_BYTES]


async def _add_checkpoints(connection: Connection, ledger_id: UUID, path: Path, size: int) -> None:
    """Add the checkpoints that are larger than those in the file: what an auditor has once is never replaced."""
    last = _last_size(path)
    with path.open("a", encoding="utf-8") as file:
        while True:
            cursor = await connection.execute(
                """
                SELECT size, root, note FROM log_checkpoints
                WHERE ledger_id = %s AND size > %s AND size <= %s ORDER BY size LIMIT %s
                """,
                (ledger_id, last, size, CHECKPOINTS_PER_PAGE),
            )
            page = as_structs(await cursor.fetchall(), Sealed)
            if not page:
                break
            file.writelines(json.dumps(sealed.note, ensure_ascii=False) + "\n" for sealed in page)
            last = page[-1].size
        file.flush()
        os.fsync(file.fileno())


def _last_size(path: Path) -> int:
    """Return the size of the last checkpoint in a file, of which a line that was cut off is taken away; -1 for none."""
    if not path.exists():
        return -1
    with path.open("r+b") as file:
        start = max(0, file.seek(0, os.SEEK_END) - LAST_LINES_BYTES)
        file.seek(start)
        whole = file.read().rpartition(b"\n")[0]
        file.truncate(start + len(whole) + 1 if whole else 0)
    last = whole.rpartition(b"\n")[2]
    return checkpoint.parse(signed_note.parse(json.loads(last).encode()).text).size if last else -1


def _forget_parts(folder: Path, size: int) -> None:
    """Remove parts of tiles and bundles that have grown since."""
    current = {folder / "tile" / place.path for place in tiles.places(size) if place.width < TILE_HASHES}
    for part in folder.glob("tile/**/*.p/*"):
        if part not in current:
            part.unlink()
    for emptied in folder.glob("tile/**/*.p"):
        if not any(emptied.iterdir()):
            emptied.rmdir()
