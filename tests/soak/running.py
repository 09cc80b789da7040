"""Running the machine: on a ledger of its own or on a database that is there, with a seed that can be replayed."""

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import click
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from infra import embedded, schema
from tests.soak.book import Book
from tests.soak.machine import OFTEN, RARELY, Machine
from tests.soak.nodes import serving
from tests.soak.stage import Stage
from tests.soak.wall_clock import WallClock

STEPS_PER_PLAY: Final = 50
PLAYS_PER_ROUND: Final = 20
SHORT_TURNS_MAX: Final = 8
SHORT_STEPS_PER_PLAY: Final = 25
SHORT_PLAYS: Final = 6
TELL_EVERY_SECONDS: Final = 60.0


@contextmanager
def staged(folder: Path, url: str) -> Iterator[Stage]:
    """Nodes on a migrated database, under a clock that can be set, and a book that is read from its beginning."""
    clock = WallClock(folder)
    with serving(folder, url, clock.environment()) as nodes:
        stage = Stage(nodes=nodes, clock=clock, book=Book(url))
        try:
            yield stage
        finally:
            stage.close()


def take_steps(
    folder: Path, *, steps: int, seed: int, short: bool = False, shrinks: bool = False
) -> tuple[int, str | None]:
    """Take so many steps on a new ledger; return how many were taken, and what went wrong."""
    with embedded.hold(folder / "database") as url:
        schema.migrate(url)
        with staged(folder, url) as stage:
            machine = a_machine(stage, OFTEN if short else RARELY)
            try:
                if short:
                    take_few(machine, seed=seed)
                else:
                    _take_many(machine, steps, seed, shrinks=shrinks)
            except Exception:  # noqa: BLE001  whatever it is, it is told together with the seed
                return machine.steps, f"{traceback.format_exc()}\n{stage.nodes.logs()}"
            click.echo("  " + ", ".join(f"{what} {count:,}" for what, count in sorted(machine.seen.items())))
            return machine.steps, None


def a_machine(stage: Stage, disturbances: Sequence[str]) -> type[Machine]:
    """Return a machine that plays on a stage."""
    fields: dict[str, Any] = {"stage": stage, "disturbances": disturbances, "steps": 0, "seen": {}}
    return type("Machine", (Machine,), {"__doc__": Machine.__doc__, **fields})


def take_few(machine: type[Machine], *, seed: int) -> None:
    """Take the steps of the short form; in the middle of it one node is killed, and the other ended.

    It goes on until deliveries of every kind were seen, for a few turns at most.
    """
    _take(machine, plays=SHORT_PLAYS // 2, steps=SHORT_STEPS_PER_PLAY, seed_=seed)
    nodes = machine.stage.nodes
    nodes.services[0].kill()
    nodes.services[1].stop()
    nodes.start()
    for turn in range(1, SHORT_TURNS_MAX):
        _take(machine, plays=SHORT_PLAYS // 2, steps=SHORT_STEPS_PER_PLAY, seed_=seed + turn)
        if machine.stage.book.kinds() >= {"impression", "view", "click"}:
            return


def _take_many(machine: type[Machine], steps: int, seed: int, *, shrinks: bool) -> None:
    told_at = started = monotonic()
    for turn in range(steps):
        if machine.steps >= steps:
            return
        _take(machine, plays=PLAYS_PER_ROUND, steps=STEPS_PER_PLAY, seed_=seed + turn, shrinks=shrinks)
        if monotonic() > told_at + TELL_EVERY_SECONDS:
            told_at = monotonic()
            click.echo(f"  {machine.steps:,} steps, {machine.steps / (told_at - started):.1f} a second")


def _take(machine: type[Machine], *, plays: int, steps: int, seed_: int, shrinks: bool = False) -> None:
    """Play so many plays of so many steps each, and raise what went wrong."""
    seed(seed_)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=plays,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )
