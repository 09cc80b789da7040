"""kill -9 at random moments under load: of a web worker, of all, of PostgreSQL, of everything, of the supervisor."""

import random
from collections.abc import Callable
from time import sleep
from typing import Final

import psutil
import pytest

from infra import embedded
from tests.api.pages import Page, eventually
from tests.faults.aftermath import aftermath, check_log
from tests.faults.traffic import Traffic
from tests.running import Service, killed

MOMENT_SECONDS_MAX: Final = 0.5


def one_worker(service: Service) -> list[psutil.Process]:
    """Return one web worker."""
    return service.web_workers()[:1]


def all_workers(service: Service) -> list[psutil.Process]:
    """Return every process that the supervisor has started."""
    return [*service.web_workers(), service.web_server(), service.background()]


def postgres(service: Service) -> list[psutil.Process]:
    """Return all processes of PostgreSQL."""
    return service.postgres()


def one_backend(service: Service) -> list[psutil.Process]:
    """Return the process of PostgreSQL that answers some worker: when it is killed, all others start anew."""
    return [random.choice([each for each in service.postgres() if "postgres ledger" in each.cmdline()[0]])]


@pytest.mark.parametrize("doomed", [one_worker, all_workers, postgres, one_backend])
def test_what_is_killed_comes_back(
    service: Service, page: Page, traffic: Traffic, doomed: Callable[[Service], list[psutil.Process]]
) -> None:
    """Whatever is killed under load, by itself the service goes on, and everything is in the log once."""
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        sleep(random.uniform(0, MOMENT_SECONDS_MAX))
        eventually(lambda: len(traffic.open) > 1)
        before = doomed(service)
        killed(before)
        eventually(lambda: traffic.troubles.total() > 0)
        assert traffic.open
        at = traffic.new_answers()
        eventually(lambda: traffic.new_answers() > at + 100 and len(service.web_workers()) == 2)
    assert set(doomed(service)).isdisjoint(before)
    aftermath(page.world, traffic)


def test_everything_is_killed(service: Service, page: Page, traffic: Traffic) -> None:
    """A power cut under load loses nothing that was answered."""
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        sleep(random.uniform(0, MOMENT_SECONDS_MAX))
        eventually(traffic.is_under_way)
        service.kill()
    assert traffic.open
    service.start()
    aftermath(page.world, traffic)


def test_the_supervisor_is_killed(service: Service, page: Page, traffic: Traffic) -> None:
    """When only the supervisor is killed everything that it started ends by itself, and what it answered is there."""
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        assert service.process is not None
        orphans = [*all_workers(service)]
        service.process.kill()
        service.process.wait(10)
        assert psutil.wait_procs(orphans, timeout=30)[1] == []
        service.process = None
    with embedded.hold(service.data_dir) as url:
        check_log(url, traffic)
    service.start()
    aftermath(page.world, traffic)
