"""Kill cycles: load, kill -9 at a random moment, start where that is needed, and see that nothing came of it.

What has to be true afterwards is said once, in `tests.faults.aftermath`. A cycle in which nothing was on its way when
something was killed does not count, and is played again.
"""

import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, sleep
from typing import Final

import click
import psutil
import psycopg

from tests.api.pages import Page, eventually
from tests.faults.aftermath import KINDS, Counted, aftermath
from tests.faults.traffic import Traffic, market, ticket_of
from tests.running import Service, killed, running
from tests.world import World

VICTIMS: Final = ("one worker", "all workers", "one backend", "PostgreSQL", "everything")
CYCLES_PER_LEDGER: Final = 25
"""The aftermath reads all of the log: a new one now and then keeps a cycle short."""

MOMENT_SECONDS_MAX: Final = 0.7
MISSED_MAX: Final = 3
ANSWERS_AFTER: Final = 50


class Missed(Exception):
    """Nothing was on its way at the moment."""


@dataclass
class Tally:
    """What came of the cycles of one kind."""

    cycles: int = 0
    killed: int = 0
    answered: int = 0
    open_beacons: int = 0
    open_commands: int = 0
    were_in: int = 0
    came_in: int = 0
    missed: int = 0
    wrong: int = 0
    seconds: list[float] = field(default_factory=list)

    def line(self, name: str) -> str:
        """Return a line of the summary."""
        mean = sum(self.seconds) / max(1, len(self.seconds))
        numbers = [self.cycles, self.killed, self.answered, self.open_beacons, self.open_commands, self.were_in]
        numbers += [self.came_in, self.missed, self.wrong]
        return f"{name:<14}" + "".join(f"{each:>11,}" for each in numbers) + f"{mean:>8.1f}"


HEADINGS: Final = ("cycles", "killed", "answered", "open", "commands", "were in", "came in", "missed", "wrong")


def run(folder: Path, *, count: int, seed: int) -> int:
    """Play so many cycles, tell what came of them, and return how many went wrong."""
    random = Random(seed)
    tallies = {name: Tally() for name in VICTIMS}
    victims = [VICTIMS[number % len(VICTIMS)] for number in range(count)]
    random.shuffle(victims)
    started = monotonic()
    for number in range(0, count, CYCLES_PER_LEDGER):
        _on_one_ledger(folder / f"ledger-{number}", victims[number : number + CYCLES_PER_LEDGER], tallies, random)
        done = sum(tally.cycles + tally.wrong for tally in tallies.values())
        click.echo(f"  {done} cycles in {monotonic() - started:,.0f} s")
    click.echo(f"{'killed':<14}" + "".join(f"{each:>11}" for each in HEADINGS) + f"{'s each':>8}")
    for name, tally in tallies.items():
        click.echo(tally.line(name))
    click.echo(
        "open: beacons on their way; commands: the same; of both, were in: in the log without an answer,\n"
        "came in: only when asked again; missed: nothing was on its way, played again."
    )
    return sum(tally.wrong for tally in tallies.values())


def _on_one_ledger(folder: Path, victims: Sequence[str], tallies: dict[str, Tally], random: Random) -> None:
    with running(folder, workers=2) as service, _at_work(service) as world:
        traffic = Traffic(random=random)
        for victim in victims:
            for _ in range(MISSED_MAX):
                started = monotonic()
                try:
                    _cycle(world, traffic, victim, tallies[victim], random)
                except Missed:
                    tallies[victim].missed += 1
                    continue
                except Exception:  # noqa: BLE001  whatever it is, it is told, and the next ledger begins anew
                    tallies[victim].wrong += 1
                    log = (service.data_dir / "service.log").read_text(errors="replace")
                    click.echo(f"WRONG after killing {victim}:\n{traceback.format_exc()}\n{log[-3_000:]}")
                    return
                tallies[victim].cycles += 1
                tallies[victim].seconds.append(monotonic() - started)
                break


@contextmanager
def _at_work(service: Service) -> Iterator[World]:
    with closing(service.signed_in()) as admin:
        yield World(service, admin)


def _cycle(world: World, traffic: Traffic, victim: str, tally: Tally, random: Random) -> None:
    page, service = market(world), world.service
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        sleep(random.uniform(0, MOMENT_SECONDS_MAX))
        doomed = _doomed(service, victim, random)
        if victim == "everything":
            service.kill()
        else:
            killed(doomed)
        was_open, commands = set(traffic.open), len(traffic.unanswered)
        if victim != "everything":
            at = traffic.new_answers()
            eventually(
                lambda: traffic.new_answers() > at + ANSWERS_AFTER and len(service.web_workers()) == 2, seconds=60
            )
    if victim == "everything":
        service.start()
    _after(page, traffic, tally, killed_=len(doomed))
    tally.open_beacons += len(was_open)
    tally.open_commands += commands
    for client in world.clients:
        client.close()
    world.clients.clear()
    if not was_open and not commands:
        raise Missed


def _doomed(service: Service, victim: str, random: Random) -> Sequence[psutil.Process]:
    match victim:
        case "one worker":
            return [random.choice(service.web_workers())]
        case "all workers":
            return [*service.web_workers(), service.web_server(), service.background()]
        case "one backend":
            return [random.choice([each for each in service.postgres() if "postgres ledger" in each.cmdline()[0]])]
        case "PostgreSQL":
            return service.postgres()
        case _:
            return [*service.web_workers(), service.web_server(), service.background(), *service.postgres()]


def _after(page: Page, traffic: Traffic, tally: Tally, *, killed_: int) -> None:
    """Check the aftermath, and count what had become of whatever stayed without an answer."""
    with page.world.service.database() as url, psycopg.connect(url) as connection:
        (position,) = connection.execute("SELECT position FROM ledger_heads").fetchone() or (0,)
    in_doubt, commands = set(traffic.open), set(traffic.unanswered)
    counted: Counted = aftermath(page.world, traffic)
    names = [(str(ticket_of(token).decision_id), KINDS[token[0]]) for token in in_doubt]
    at = [counted.delivered[name] for name in names] + [counted.entered[key][2] for key in commands]
    found = Counter(each <= position for each in at)
    tally.were_in += found[True]
    tally.came_in += found[False]
    tally.killed += killed_
    tally.answered += traffic.new_answers()
