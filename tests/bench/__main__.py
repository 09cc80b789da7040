"""`make bench`: measures what the project promises, prints one table, and keeps the figures for comparing commits."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
import psutil
from msgspec import structs

from infra import clock
from tests.bench import http_rows, large_rows, log_rows, pacing_curves, peers, people_rows, projection_rows, proof_rows
from tests.bench.rounds import ROUNDS_MIN, Plan, Row

ROOT: Final = Path(__file__).parents[2]
BENCHMARKS: Final[dict[str, Callable[[Plan], Iterator[Row]]]] = {
    "decisions": http_rows.decisions,
    "impressions": http_rows.impressions,
    "batches": http_rows.batches,
    "appending": log_rows.appending,
    "large": large_rows.large,
    "growth": log_rows.growth,
    "paced-elsewhere": log_rows.paced_elsewhere,
    "growth-http": http_rows.growth,
    "rebuilds": projection_rows.rebuilds,
    "keeping-up": projection_rows.keeping_up,
    "lag": http_rows.lag,
    "verification": proof_rows.verification,
    "commands": log_rows.commands,
    "commands-http": http_rows.commands,
    "people": people_rows.people,
    "pacing": pacing_curves.curves,
    "peers": peers.peers,
}
"""What `--only` knows, in the order of the table; the peers need an environment of their own and must be asked for."""


@click.command(help=__doc__)
@click.option("--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Measure this; may be repeated.")
@click.option("--rounds", default=ROUNDS_MIN, show_default=True, type=click.IntRange(1), help="Rounds of each pair.")
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.2), help="Length of a round's side.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
def main(only: Sequence[str], rounds: int, seconds: float, as_json: bool) -> None:
    """Measure, print and keep."""
    rows: list[Row] = []
    path = ROOT / "build" / "bench" / f"{_commit() or f'{clock.now():%Y-%m-%dT%H%M%S}'}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in only or [name for name in BENCHMARKS if name != "peers"]:
        click.echo(f"measuring {name} ...", err=True)
        rows.extend(BENCHMARKS[name](Plan(rounds, seconds)))
        path.write_bytes(as_report(rows, rounds, seconds))  # so that what fails later loses nothing
    click.echo(path.read_bytes() if as_json else as_table(rows))
    click.echo(f"kept in {path.relative_to(ROOT)}", err=True)


def as_report(rows: Sequence[Row], rounds: int, seconds: float) -> bytes:
    """Return the figures, and what they were measured on."""
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "commit": _commit(),
                "measured_at": clock.now(),
                "python": sys.version.split()[0],
                "cores": psutil.cpu_count(),
                "load_at_end": psutil.getloadavg()[0],
                "rounds": rounds,
                "seconds": seconds,
                "rows": [{**structs.asdict(row), "met": row.met} for row in rows],
            }
        )
    )


def as_table(rows: Sequence[Row]) -> str:
    """Return the figures as lines of text."""
    lines = [("what / beside", "figure", "beside", "ratio (min..max)", "target", "met")]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} ({row.ratio_min:.2f}..{row.ratio_max:.2f})"
        target = "" if row.target is None else f"{row.limit} {row.target:g}"
        met = {None: "", True: "yes", False: "NO"}[row.met]
        beside = "" if row.beside_figure is None else _figure(row.beside_figure, row.unit)
        lines.append((row.what, _figure(row.figure, row.unit), beside, ratio, target, met))
        lines.extend((f"    {text}", "", "", "", "", "") for text in (row.beside, row.note) if text)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        line[0].ljust(widths[0])
        + "".join(f"  {cell.rjust(width)}" for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in lines
    )


def _figure(value: float, unit: str) -> str:
    return f"{value:,.0f}{unit}" if unit == "/s" else f"{value:,.1f} {unit}"


def _commit() -> str | None:
    """Return the short name of the commit, `-dirty` when files differ from it; None outside of a repository."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],  # noqa: S607  git is where the user has it
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or None


if __name__ == "__main__":
    main()
