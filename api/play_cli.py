"""The command `ledger play`."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import click
import msgspec

from api import options
from api.play import Summary
from api.play import play as play_log

PROGRESS_EVERY_SECONDS: Final = 5


@click.command()
@click.argument("log", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--clicks", type=click.Path(path_type=Path), help="The clicks that belong to FILE, in its format.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the service is.")
@click.option("--slot-key", required=True, help="A key of any of its slots.")
@click.option(
    "--parallel", default=8, show_default=True, type=click.IntRange(1, 256), help="How many connections ask at once."
)
@options.as_json
def play(log: Path, clicks: Path | None, url: str, slot_key: str, parallel: int, as_json: bool) -> None:
    """Play a recorded log against a running service.

    FILE has the format of the iPinYou contest: 24 columns separated by tabs, no header. A row asks for a creative for
    the slot of its size, and reports the impression as of the row's time; a row whose bid id came before reports the
    same impression again. Of --clicks, which are kept in memory, those are reported that have an impression in FILE.

    Exit status: 0 all was played; 1 rows were malformed, or the service refused something; 2 a file cannot be read, or
    the service does not answer or refuses the key.
    """
    with _progress(log) as progress:
        found = asyncio.run(play_log(log, clicks, url=url, slot_key=slot_key, parallel=parallel, progress=progress))
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(_told(found)))
    sys.exit(bool(found.malformed or found.refused))


@contextmanager
def _progress(log: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows on standard error how far a log has been played: a bar, or a line every few seconds."""
    size = log.stat().st_size if log.is_file() else 0
    if sys.stderr.isatty():
        with click.progressbar(length=size, label=f"Playing {log.name}", file=sys.stderr) as bar:
            yield lambda end, _rows: bar.update(end - bar.pos)
        return
    told_at = monotonic()

    def tell(end: int, rows: int) -> None:
        nonlocal told_at
        if monotonic() - told_at >= PROGRESS_EVERY_SECONDS:
            told_at = monotonic()
            click.echo(f"{rows:,} rows of {log.name} played, {end / max(1, size):.0%}", err=True)

    yield tell


def _told(found: Summary) -> Iterator[str]:
    for name, count, counts in (
        ("rows", found.rows, {}),
        ("decisions", found.decisions, {}),
        ("impressions recorded", found.impressions, {}),
        ("repeated", found.repeated, {}),
        ("clicks recorded", found.clicks, {}),
        ("clicks repeated", found.repeated_clicks, {}),
        ("clicks without impression", found.clicks_without_impression, {}),
        ("recorded, not billed", sum(found.unbilled.values()), found.unbilled),
        ("no bid", sum(found.no_bids.values()), found.no_bids),
        ("no slot of that size", sum(found.without_slot.values()), found.without_slot),
        ("refused", sum(found.refused.values()), found.refused),
        ("malformed rows", found.malformed, {}),
    ):
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(counts.items()))
        yield f"{name:<26}{count:>12,}" + (f"  ({reasons})" if reasons else "")
    yield from (f"  {line}" for line in found.malformed_lines)
    yield f"{'seconds':<26}{found.seconds:>12,.1f}  ({found.rows_per_second:,.0f} rows/s)"
