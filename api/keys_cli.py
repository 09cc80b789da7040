"""`ledger keys`: the keys of personal data: which master key wraps them, wrapping them anew, and their backup."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec

from api import options
from infra import installation, settings, subject_keys
from infra.database import connect
from infra.keys import read_masters
from infra.settings import Settings
from infra.subject_keys import WrappedKey, master_name

_PRIVATE: Final = 0o600

_decode_key: Final = msgspec.json.Decoder(WrappedKey).decode
_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


class BackupUnfit(Exception):
    """Line {line} of {path} is no key of a backup."""

    def __init__(self, path: Path, line: int) -> None:
        """Say which."""
        super().__init__(str(self.__doc__).format(path=path, line=line))


@click.group()
def keys() -> None:
    """Look after the keys of personal data.

    Each is kept in the database, wrapped by a master key of LEDGER_ENCRYPTION_KEY: the first wraps, all unwrap.
    """


@keys.command("status")
@options.data_dir
@options.as_json
def show_status(data_dir: Path | None, as_json: bool) -> None:
    """Show how many keys each master key wraps."""
    found = settings.read(data_dir=data_dir)
    with installation.database(found) as url:
        _say(asyncio.run(_count(url)), found, as_json=as_json)


@keys.command()
@options.data_dir
@options.as_json
def rewrap(data_dir: Path | None, as_json: bool) -> None:
    """Let the first master key wrap every key.

    To rotate: put a new master key first, restart, rewrap, and take the old one away. The service goes on meanwhile;
    what was interrupted is gone on with, and doing it again does nothing. Ends with 2 when a master key is missing.
    """
    found = settings.read(data_dir=data_dir)
    with installation.database(found) as url:
        asyncio.run(_rewrap(url, read_masters(found)))
        _say(asyncio.run(_count(url)), found, as_json=as_json)


@keys.command()
@_file
@options.data_dir
def backup(file: Path, data_dir: Path | None) -> None:
    """Write all keys to FILE, as they are wrapped, in place of what was there.

    Whoever erases a person's data must not bring its key back: keep the last of these files only, and leave the table
    subject_keys out of other backups.
    """
    with installation.database(settings.read(data_dir=data_dir)) as url:
        written = asyncio.run(back_up(url, file))
    click.echo(f"{written:,} keys are in {file}.")


@keys.command()
@_file
@options.data_dir
def restore(file: Path, data_dir: Path | None) -> None:
    """Bring back the keys in FILE that are missing, but for those of people whose data was erased since."""
    found = list(_read(file))
    with installation.database(settings.read(data_dir=data_dir)) as url:
        restored = asyncio.run(_restore(url, found))
    click.echo(f"{restored:,} of {len(found):,} keys were missing and are back.")


def _say(counts: dict[str, int], found: Settings, *, as_json: bool) -> None:
    names = [master_name(each) for each in read_masters(found)]
    masters = dict.fromkeys([*names, *counts])
    told = [{"master": each, "held": each in names, "keys": counts.get(each, 0)} for each in masters]
    if as_json:
        click.echo(msgspec.json.encode(told))
        return
    for each in told:
        master = str(each["master"])
        state = "wraps" if master == names[0] else "unwraps" if each["held"] else "is missing"
        click.echo(f"{master}  {state:<10}{each['keys']:>12,} keys")


async def _count(url: str) -> dict[str, int]:
    async with await connect(url) as connection:
        return await subject_keys.count_keys(connection)


async def _rewrap(url: str, masters: tuple[bytes, ...]) -> None:
    async with await connect(url) as connection:
        counts = await subject_keys.count_keys(connection)
        outdated = sum(counts.values()) - counts.get(master_name(masters[0]), 0)
        done = 0
        while some := await subject_keys.rewrap_some(connection, masters):
            done += some
            click.echo(f"{done:,} of {max(done, outdated):,} keys are wrapped anew", err=True)


async def back_up(url: str, file: Path) -> int:
    """Write all keys that were not destroyed to a file that only its owner may read, and return how many they are."""
    draft, written = file.with_name(f".{file.name}.part"), 0
    draft.unlink(missing_ok=True)
    async with await connect(url) as connection:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "wb") as lines:
            async for each in subject_keys.read_all(connection):
                lines.write(msgspec.json.encode(each) + b"\n")
                written += 1
            lines.flush()
            os.fsync(lines.fileno())
    draft.replace(file)
    return written


def _read(file: Path) -> Iterator[WrappedKey]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _decode_key(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BackupUnfit(file, number) from error


async def _restore(url: str, found: list[WrappedKey]) -> int:
    async with await connect(url) as connection:
        return sum([await subject_keys.restore(connection, each) for each in found])
