"""Wall clocks that jump by an hour, forth and back: the service's own, and the database's."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import psycopg
import pytest

from tests.api.pages import eventually
from tests.faults.aftermath import aftermath
from tests.faults.traffic import Traffic, market
from tests.running import Service
from tests.soak.wall_clock import WallClock
from tests.world import World

HOUR: Final = timedelta(hours=1)

# What ends with the time of the database ends at another moment of its clock, which is the same as to set that clock.
_SET_DATABASES_CLOCK: Final = (
    "UPDATE workers SET alive_until = alive_until - %(by)s, silent_from = silent_from - %(by)s"
)


@pytest.fixture(scope="module")
def clock() -> Iterator[WallClock]:
    """A wall clock that can be set."""
    with TemporaryDirectory() as folder:
        made = WallClock(Path(folder))
        if not made.can_be_set:
            pytest.skip("no C compiler builds what sets a clock")
        yield made


@pytest.fixture(scope="module")
def service(clock: WallClock) -> Iterator[Service]:
    """A service with two workers under that clock."""
    with TemporaryDirectory() as folder:
        data_dir = Path(folder) / "data"
        data_dir.mkdir()
        made = Service(data_dir, workers=2)
        made.environment = {**made.environment, **clock.environment()}
        try:
            made.start()
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """All that is asked of it."""
    return Traffic()


@contextmanager
def signed_in(service: Service) -> Iterator[World]:
    """Somebody who signs in by the clock of the moment: who did so an hour ago, or will in an hour, is not let in."""
    world = World(service, service.signed_in())
    yield world
    for client in (world.admin, *world.clients):
        client.close()


@pytest.mark.parametrize("hours", [1, -1], ids=["forth", "back"])
def test_the_services_clock_jumps(service: Service, traffic: Traffic, clock: WallClock, hours: int) -> None:
    """Budgets, days and the order of the log hold when all clocks of the service are set while it works."""
    with signed_in(service) as world:
        page = market(world)
        with traffic.flowing(page, commanders=0):
            eventually(lambda: traffic.new_answers() > 100)
            clock.step(hours * 3_600)
            at = traffic.new_answers()
            eventually(lambda: traffic.new_answers() > at + 200)
    with signed_in(service) as world:
        counted = aftermath(world, traffic)
    # Set forth, entries are recorded by that clock; set back, none is recorded before what is in the log already.
    assert counted.recorded_at is not None
    ahead = counted.recorded_at - datetime.now(UTC)
    assert HOUR - timedelta(minutes=5) < ahead < HOUR + timedelta(minutes=1)


@pytest.mark.parametrize("hours", [1, -1], ids=["forth", "back"])
def test_the_databases_clock_jumps(service: Service, traffic: Traffic, hours: int) -> None:
    """Leases end by the database's clock: when it is set, some end too early or too late, and no budget is exceeded."""
    with signed_in(service) as world, service.database() as url, psycopg.connect(url, autocommit=True) as owner:
        page = market(world)
        with traffic.flowing(page):
            eventually(traffic.is_under_way)
            assert owner.execute(_SET_DATABASES_CLOCK, {"by": hours * HOUR}).rowcount >= 2
            at = traffic.new_answers()
            eventually(lambda: traffic.new_answers() > at + 200)
        aftermath(world, traffic)
