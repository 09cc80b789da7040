"""Between service and database: answers that never arrive, connections that break, and a database that stands still."""

import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Final
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from api.deadline import BEGIN_SECONDS_MAX
from infra.writer import ANSWER_SECONDS_MAX
from tests.api.pages import Page, eventually
from tests.databases import fresh_database
from tests.faults.aftermath import aftermath
from tests.faults.proxy import Proxy, between
from tests.faults.traffic import Traffic, ticket_of, token_of
from tests.running import Service, killed, running

RESETS_SECONDS: Final = 1.5
RESETS_SECONDS_MAX: Final = 10.0
"""For so long connections are broken until somebody is in the middle of something."""

FROZEN_SECONDS: Final = 10.0
SLACK_SECONDS: Final = 3.0
"""What a caller may wait beyond a bound on a busy machine."""

GROWTH_BYTES_MAX: Final = 64 * 2**20


@pytest.fixture(scope="module")
def direct_url(cluster_url: str) -> Iterator[str]:
    """A fresh database for this module's service, past the proxy."""
    with fresh_database(cluster_url, "ledger") as url:
        yield url


@pytest.fixture(scope="module")
def proxy_and_service(direct_url: str) -> Iterator[tuple[Proxy, Service]]:
    """A service that reaches its database through a proxy."""
    with (
        TemporaryDirectory() as folder,
        between(direct_url) as (url, proxy),
        running(Path(folder) / "data", database_url=url) as started,
    ):
        yield proxy, started


@pytest.fixture(scope="module")
def proxy(proxy_and_service: tuple[Proxy, Service]) -> Proxy:
    """The proxy."""
    return proxy_and_service[0]


@pytest.fixture(scope="module")
def service(proxy_and_service: tuple[Proxy, Service]) -> Service:
    """The service."""
    return proxy_and_service[1]


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    """All that is asked of it."""
    return Traffic()


@contextmanager
def frozen(url: str) -> Iterator[None]:
    """The PostgreSQL at a URL with all of its processes stopped."""
    folder = parse_qs(urlsplit(url).query)["host"][0]
    (server,) = [each for each in psutil.process_iter() if folder in _command(each)]
    stopped = [server, *server.children(recursive=True)]
    with ExitStack() as stack:
        for each in stopped:
            stack.callback(_resume, each)
            with suppress(psutil.NoSuchProcess):
                each.suspend()
        yield


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        command: list[str] = process.cmdline()
        return command if command[1:2] == ["-D"] else []
    return []


def _resume(process: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGCONT)


@contextmanager
def committed_unanswered(page: Page, direct_url: str, proxy: Proxy, traffic: Traffic) -> Iterator[str]:
    """A beacon whose commit another connection sees, while the service has no answer to it; then it is answered 503."""
    token = token_of(page.served()["impression_url"])
    decision = str(ticket_of(token).decision_id)
    proxy.withhold_commit_of(decision.encode())
    with page.world.service.client(timeout=60) as client, ThreadPoolExecutor(1) as thread:
        sending = thread.submit(traffic.beacon, client, token)
        assert proxy.withheld.wait(10), "no commit was withheld"
        with psycopg.connect(direct_url) as connection:
            seen = connection.execute("SELECT FROM events WHERE stream_id = %s", (f"decision-{decision}",)).fetchall()
        assert len(seen) == 1
        assert not sending.done()
        yield token
        sending.result()
    assert token in traffic.open


@pytest.mark.parametrize("fault", ["killed", "reset"])
def test_between_commit_and_answer(page: Page, direct_url: str, proxy: Proxy, traffic: Traffic, fault: str) -> None:
    """What is durable without an answer, because the worker is killed, or the connection, is not recorded again."""
    traffic.troubles.clear()
    service = page.world.service
    with committed_unanswered(page, direct_url, proxy, traffic):
        if fault == "killed":
            killed(service.web_workers())
        elif fault == "reset":
            assert proxy.reset_some(1.0)
    eventually(lambda: len(service.web_workers()) == 1)
    assert set(traffic.troubles) == {"RemoteProtocolError" if fault == "killed" else "503"}
    aftermath(page.world, traffic)


def test_connections_that_break(page: Page, proxy: Proxy, traffic: Traffic) -> None:
    """While connections to the database break at random the service goes on, and afterwards as if nothing had been."""
    broken = 0
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        ends_at = monotonic() + RESETS_SECONDS
        while monotonic() < ends_at or (not traffic.troubles["503"] and monotonic() < ends_at + RESETS_SECONDS_MAX):
            broken += proxy.reset_some(0.3)
            sleep(random.uniform(0, 0.2))
        at = traffic.new_answers()
        eventually(lambda: traffic.new_answers() > at + 100)
    assert broken > 5
    assert traffic.troubles["503"]
    assert traffic.troubles.keys() == {"503"}
    aftermath(page.world, traffic)


def test_a_database_that_stands_still(page: Page, direct_url: str, traffic: Traffic) -> None:
    """While the database is frozen everybody is told within a bound to try again; memory and queue stay bounded."""
    service = page.world.service
    with traffic.flowing(page, ad_slots=12):
        eventually(traffic.is_under_way)
        workers = service.web_workers()
        before = sum(each.memory_info().rss for each in workers)
        with frozen(direct_url):
            at, ends_at = traffic.new_answers(), monotonic() + FROZEN_SECONDS
            while monotonic() < ends_at:
                sleep(0.1)
            after = sum(each.memory_info().rss for each in workers)
            assert traffic.troubles["503"]
            with service.client() as client:
                assert client.get("/health/live").status_code == 200
        assert traffic.new_answers() - at < 50, "it was not frozen"
        at = traffic.new_answers()
        eventually(lambda: traffic.new_answers() > at + 100)
        assert service.web_workers() == workers
    assert traffic.troubles.keys() == {"503"}
    assert traffic.slowest_seconds < BEGIN_SECONDS_MAX + SLACK_SECONDS
    assert traffic.slowest_beacon_seconds < ANSWER_SECONDS_MAX + SLACK_SECONDS
    assert after - before < GROWTH_BYTES_MAX
    aftermath(page.world, traffic)


def test_a_database_that_refuses_writes(page: Page, direct_url: str, traffic: Traffic) -> None:
    """While the database takes nothing in everybody is told to try again, and it goes on when it does."""
    with psycopg.connect(direct_url, autocommit=True) as owner, traffic.flowing(page):
        eventually(traffic.is_under_way)
        owner.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        try:
            owner.execute("SELECT pg_reload_conf()")
            eventually(lambda: traffic.troubles["503"] > 20)
            at = traffic.new_answers()
            eventually(lambda: traffic.troubles["503"] > 50)
            assert traffic.new_answers() == at, "something was written"
        finally:
            owner.execute("SET default_transaction_read_only = off")
            owner.execute("ALTER SYSTEM RESET default_transaction_read_only")
            owner.execute("SELECT pg_reload_conf()")
        eventually(lambda: traffic.new_answers() > at + 100)
    assert traffic.troubles.keys() == {"503"}
    aftermath(page.world, traffic)
