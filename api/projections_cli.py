"""The commands below `ledger projections` that make read models anew, compare them, and see to what was parked."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar
from uuid import UUID

import click
import msgspec

from api import options
from infra import installation, settings
from infra.database import Connection
from projections import parking, rebuild, status
from projections.catalogue import PROJECTIONS, named
from projections.comparison import Comparison
from projections.parking import ParkedKey
from projections.rebuild import Progress

PROGRESS_EVERY_SECONDS: Final = 5

T = TypeVar("T")

_name = click.argument("name", type=click.Choice([projection.name for projection in PROJECTIONS]))


@click.group()
def projections() -> None:
    """Look after the read models."""


@projections.command("list")
@options.organisation
@options.data_dir
@options.as_json
def list_projections(organisation: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Show how far each read model has come.

    Lag is how many events it is behind, parked how many it could not apply: if there are any, the exit status is 1.
    """
    found = _run(organisation, data_dir, status.read_status)
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{'projection':<14}{'version':>8}{'position':>12}{'lag':>8}{'parked':>8}  updated")
        for each in found:
            moved = f"{each.updated_at:%Y-%m-%d %H:%M:%SZ}"
            click.echo(f"{each.name:<14}{each.version:>8}{each.position:>12,}{each.lag:>8,}{each.parked:>8,}  {moved}")
    sys.exit(any(each.parked for each in found))


@projections.command("rebuild")
@_name
@click.option("--discard", is_flag=True, help="Throw away what an interrupted rebuild has left, and do nothing else.")
@options.data_dir
@options.as_json
def rebuild_projection(name: str, discard: bool, data_dir: Path | None, as_json: bool) -> None:
    """Make a read model anew beside the live one, show how they differ, and swap it in.

    Readers and traffic go on meanwhile. What was interrupted is resumed. Ends with 2 while another rebuild or
    comparison of the same read model is running.
    """
    with installation.database(settings.read(data_dir=data_dir)) as url:
        if discard:
            left = asyncio.run(rebuild.discard(url, named(name)))
            result = {"projection": name, "discarded": left}
            said = f"What a rebuild of {name} had left is thrown away." if left else f"No rebuild of {name} was left."
            click.echo(msgspec.json.encode(result) if as_json else said)
            return
        with _progress(name) as told:
            found = asyncio.run(rebuild.rebuild(url, named(name), told))
    _show(found, as_json=as_json, end=f"{name} is swapped in, version {found.version}.")


@projections.command("compare")
@_name
@options.data_dir
@options.as_json
def compare_projection(name: str, data_dir: Path | None, as_json: bool) -> None:
    """Make a read model anew, show how the live one differs from it, and throw it away.

    Exit status: 0 they are the same, 1 they differ, 2 could not be run.
    """
    with installation.database(settings.read(data_dir=data_dir)) as url, _progress(name) as told:
        found = asyncio.run(rebuild.compare(url, named(name), told))
    _show(found, as_json=as_json, end="They differ." if found.differing_keys else "They are the same.")
    sys.exit(found.differing_keys > 0)


@projections.command("errors")
@options.organisation
@options.data_dir
@options.as_json
def list_errors(organisation: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Show what projections could not apply: keys, errors, and how many events wait behind each.

    If there are any, the exit status is 1.
    """
    found = _run(organisation, data_dir, parking.read_parked)
    if as_json:
        click.echo(msgspec.json.encode(found))
    for each in () if as_json else found:
        waiting = f"{each.events:,} event{'' if each.events == 1 else 's'} from position {each.position:,}"
        click.echo(f"{each.projection:<14}{each.key}  {waiting}\n  {each.error}")
    sys.exit(bool(found))


@projections.command("retry")
@click.argument("key")
@options.organisation
@options.data_dir
@options.as_json
def retry_key(key: str, organisation: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Apply the events of a parked KEY, in every projection that has parked it.

    Exit status: 0 all are applied, 1 some cannot be applied still, 2 nothing is parked under that key.
    """

    async def retry(connection: Connection, ledger_id: UUID) -> tuple[list[ParkedKey], dict[str, str]]:
        parked = await parking.read_parked(connection, ledger_id, key=key)
        refused: dict[str, str] = {}
        for each in parked:
            try:
                await parking.retry(connection, named(each.projection), ledger_id, key)
            except parking.NotApplied as error:
                refused[each.projection] = str(error)
        return parked, refused

    parked, refused = _run(organisation, data_dir, retry)
    if not parked:
        raise click.UsageError(f"Nothing is parked under {key}; `ledger projections errors` shows what is.")
    applied = {each.projection: each.events for each in parked if each.projection not in refused}
    if as_json:
        click.echo(msgspec.json.encode({"key": key, "applied": applied, "refused": refused}))
    else:
        for name, events in applied.items():
            click.echo(f"{name:<14}{events:,} event{'' if events == 1 else 's'} applied")
        for name, reason in refused.items():
            click.echo(f"{name:<14}{reason}")
    sys.exit(bool(refused))


def _run(organisation: str | None, data_dir: Path | None, job: Callable[[Connection, UUID], Awaitable[T]]) -> T:
    found = settings.read(data_dir=data_dir, organisation=organisation)

    async def run(url: str) -> T:
        async with installation.opened(url, found.organisation) as (connection, ledger_id):
            return await job(connection, ledger_id)

    with installation.database(found) as url:
        return asyncio.run(run(url))


@contextmanager
def _progress(name: str) -> Iterator[rebuild.Told]:
    """Yield what shows on standard error how far a read model is made anew: a bar, or a line every few seconds."""
    if sys.stderr.isatty():
        with click.progressbar(length=1, label=f"Making {name} anew", file=sys.stderr, show_eta=True) as bar:

            def draw(progress: Progress) -> None:
                bar.length = max(1, progress.entries)
                bar.update(progress.done - bar.pos)

            yield draw
        return
    told_at = monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told_at
        if monotonic() - told_at >= PROGRESS_EVERY_SECONDS:
            told_at = monotonic()
            left = "" if progress.seconds_left is None else f", about {progress.seconds_left:,.0f} s left"
            click.echo(f"{progress.done:,} of {progress.entries:,} events applied{left}", err=True)

    yield tell


def _show(found: Comparison, *, as_json: bool, end: str) -> None:
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    at = ", ".join(f"{position:,}" for position in found.positions.values()) or "0"
    click.echo(f"{found.projection} at position {at}: version {found.live_version} live, version {found.version} anew")
    click.echo(f"{'':<26}{'live':>20}{'anew':>20}")
    for label, live, anew in (
        ("rows", found.live.rows, found.anew.rows),
        *((name, found.live.sums[name], found.anew.sums[name]) for name in found.live.sums),
    ):
        click.echo(f"{label:<26}{live:>20,}{anew:>20,}{'' if live == anew else '  differ'}")
    differing = f"{found.differing_buckets} of {found.buckets} checksums differ"
    click.echo(f"{differing}, {found.differing_keys:,} keys")
    for each in found.differences:
        key = " ".join(str(value) for name, value in each.key.items() if name != "ledger_id")
        click.echo(f"  {key}\n    live {_row(each.live)}\n    anew {_row(each.anew)}")
    if len(found.differences) < found.differing_keys:
        click.echo(f"  and {found.differing_keys - len(found.differences):,} more")
    click.echo(end)


def _row(columns: dict[str, object] | None) -> str:
    if columns is None:
        return "no row"
    return " ".join(f"{name}={msgspec.json.encode(value).decode()}" for name, value in columns.items())
