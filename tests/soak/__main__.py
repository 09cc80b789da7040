"""The long soak: `python -m tests.soak --steps 25000 --cycles 200 --seed N`."""

import argparse
import sys
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from time import monotonic

import click

from tests.soak import cycles, running


def main() -> int:
    """Take as many steps and cycles as were asked for; 1 if something was wrong."""
    parser = argparse.ArgumentParser(description="Drives the service against a model, then kills it again and again.")
    parser.add_argument("--steps", type=int, default=25_000, help="how many steps of the stateful test")
    parser.add_argument("--cycles", type=int, default=200, help="how often something is killed under load")
    parser.add_argument("--seed", type=int, default=None, help="replays the run of this seed")
    parser.add_argument("--short", action="store_true", help="the steps of the short form, as in `make test`")
    parser.add_argument("--shrink", action="store_true", help="look for the shortest way to what went wrong")
    asked = parser.parse_args()
    seed = SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    click.echo(f"seed {seed}")
    wrong = 0
    with TemporaryDirectory() as folder:
        for name in ("steps", "cycles"):
            (Path(folder) / name).mkdir()
        if asked.steps:
            started = monotonic()
            taken, failure = running.take_steps(
                Path(folder) / "steps", steps=asked.steps, seed=seed, short=asked.short, shrinks=asked.shrink
            )
            seconds = monotonic() - started
            click.echo(f"{taken:,} steps in {seconds:,.0f} s, {taken / seconds:.1f} a second")
            click.echo(failure or "nothing wrong")
            wrong += failure is not None
        if asked.cycles:
            wrong += cycles.run(Path(folder) / "cycles", count=asked.cycles, seed=seed)
    again = " ".join(["python -m tests.soak", *sys.argv[1:], *([] if asked.seed is not None else [f"--seed {seed}"])])
    click.echo(f"{'WRONG' if wrong else 'all right'}; again with: {again}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
