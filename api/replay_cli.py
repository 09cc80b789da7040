"""`ledger audit replay`: what the log says as of a moment, made anew from it, on a database or from an export."""

import asyncio
import csv
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from sqlalchemy import select

from api import options
from infra import clock, installation, mirror, settings
from infra.checkpoint import parse as parse_checkpoint
from infra.composed import fetch
from infra.inspection import Unreadable
from infra.signed_note import NoteMalformed
from infra.signed_note import parse as parse_note
from projections import statements
from projections.catalogue import PROJECTIONS, named
from projections.replay import BeyondHead, Standing, replayed, standing
from projections.runner import AnyProjection

Moment = int | datetime

_POSITION: Final = re.compile("[0-9]{1,18}")

_NAMES: Final = tuple(projection.name for projection in PROJECTIONS)


class Time(click.ParamType[datetime]):
    """A time as RFC 3339 writes it."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, or fail with a sentence."""
        try:
            time = msgspec.convert(value, datetime, strict=False)
        except msgspec.ValidationError:
            time = None
        if time is None or time.tzinfo is None:
            self.fail(f"{value!r} is no time with a time zone, such as 2026-11-20T17:30:00Z.", param, ctx)
        return time


class _Moment(click.ParamType[Moment]):
    """A position of the log, or a time."""

    name = "position or time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        return (
            int(value) if isinstance(value, str) and _POSITION.fullmatch(value) else Time().convert(value, param, ctx)
        )


@click.command()
@click.argument("model", type=click.Choice(_NAMES))
@click.argument("path", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--as-of", type=_Moment(), help="A position of the log, or a time. [default: all that is there]")
@options.organisation
@options.data_dir
@options.as_json
def replay(
    model: str,
    path: Path | None,
    as_of: Moment | None,
    organisation: str | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Make the read model MODEL anew from the log, as of a moment, and print it: as CSV, or as JSON.

    Works on the ledger of this machine, or offline on the exported folder PATH. Nothing of what is stored beside the
    log is read, so that it can be compared with anything.
    """
    if path is not None:
        position, rows = _from_folder(model, path, as_of)
        moment = Standing(position=position, at=as_of if isinstance(as_of, datetime) else clock.now())
        _print(model, moment, rows, as_json=as_json)
        return
    found = settings.read(data_dir=data_dir, organisation=organisation)
    with installation.database(found) as url:
        try:
            moment, rows = asyncio.run(_from_database(url, found.organisation, named(model), as_of))
        except BeyondHead as error:
            raise click.UsageError(error.detail) from error
    _print(model, moment, rows, as_json=as_json)


async def _from_database(
    url: str, organisation: str | None, projection: AnyProjection, as_of: Moment | None
) -> tuple[Standing, list[Mapping[str, Any]]]:
    async with installation.opened(url, organisation) as (connection, ledger_id):
        moment = await standing(connection, ledger_id, clock.now() if as_of is None else as_of)
    async with replayed(url, projection, ledger_id, moment.position) as connection:
        table = projection.table
        rows = await fetch(connection, select(table).order_by(*table.primary_key), dict[str, Any])
        return moment, [_without_ledger(row) for row in rows]


def _without_ledger(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name != "ledger_id"}


def _from_folder(model: str, path: Path, as_of: Moment | None) -> tuple[int, list[Mapping[str, Any]]]:
    try:
        size = parse_checkpoint(parse_note((path / "checkpoint").read_bytes()).text).size
    except (OSError, NoteMalformed) as error:
        raise Unreadable(path, f"its checkpoint cannot be read ({error})") from error
    if isinstance(as_of, int) and as_of > size:
        raise click.UsageError(f"The export ends at position {size:,}.")
    last = 0

    def until() -> Iterator[tuple[int, bytes]]:
        nonlocal last
        for position, entry in mirror.entries_in(path, size):
            if (isinstance(as_of, int) and position > as_of) or (
                isinstance(as_of, datetime) and _recorded_at(entry) > as_of
            ):
                return
            last = position
            yield position, entry

    columns = [column.name for column in named(model).table.columns if column.name != "ledger_id"]
    made = statements.rows_of(model, until())
    return last, [{name: getattr(row, name) for name in columns} for row in made]


def _recorded_at(entry: bytes) -> datetime:
    return msgspec.convert(msgspec.json.decode(entry)["recorded_at"], datetime)


def _print(model: str, moment: Standing, rows: list[Mapping[str, Any]], *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"model": model, "position": moment.position, "at": moment.at, "items": rows}))
        return
    click.echo(f"{model} as of position {moment.position:,}: {len(rows):,} rows", err=True)
    if rows:
        lines = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        lines.writeheader()
        lines.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: object) -> object:
    plain = msgspec.to_builtins(value)
    return msgspec.json.encode(plain, order="sorted").decode() if isinstance(plain, list | tuple | dict) else plain
