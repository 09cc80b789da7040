"""Two web workers on one ledger: budgets promised once between them, beacons through either, and one of them killed."""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import psutil
import psycopg
import pytest

from domain.delivery import Ticket
from tests.databases import fresh_database
from tests.running import Service
from tests.world import World

CLIENTS: Final = 8
QUIET_SECONDS: Final = 7.0
"""For so long nobody is served before a budget is taken for drained: workers ask for more at least every 5 s."""

WAIT_SECONDS_MAX: Final = 20
FRESH: Final = httpx.Limits(max_keepalive_connections=0)
"""A connection of its own for each request, so that either worker may get it."""

FILLED: Final = re.compile(r'^ledger_decisions_total\{outcome="filled"\} (\S+)$', re.MULTILINE)


@pytest.fixture(scope="module")
def workers_url(cluster_url: str) -> Iterator[str]:
    """A fresh database for this module's service."""
    with fresh_database(cluster_url, "ledger") as url:
        yield url


@pytest.fixture(scope="module")
def service(workers_url: str) -> Iterator[Service]:
    """A service with two web workers."""
    with TemporaryDirectory() as folder:
        started = Service(Path(folder), database_url=workers_url, workers=2)
        try:
            started.start()
            yield started
        finally:
            started.stop()


class Stall(NamedTuple):
    """A slot, the one campaign that fits it, and a client that asks either worker, with the slot's key."""

    campaign_id: str
    slot_id: str
    ads: httpx.Client

    def client(self, service: Service, **options: Any) -> httpx.Client:
        """Return another client that carries the slot's key."""
        return service.client(headers={"Authorization": self.ads.headers["Authorization"]}, **options)


class Sales(NamedTuple):
    """What was served and reported: decision ids by the worker that promised, and the answers to the beacons."""

    promised: Counter[int]
    reported: list[str]


def stall(world: World, *, width: int, **fields: Any) -> Stall:
    """Set up a campaign and a slot of a width that nobody else uses, and wait until both workers know of them."""
    campaign_id, _ = world.active_campaign(width=width, height=250, **fields)
    slot_id, pinned = world.slot(width=width, height=250)
    ads = world.service.client(headers={"Authorization": pinned.headers["Authorization"]}, limits=FRESH)
    world.clients.append(ads)
    made = Stall(campaign_id, slot_id, ads)
    eventually(lambda: all(asked(made, test=True) for _ in range(20)))
    return made


def asked(at: Stall, **fields: Any) -> list[dict[str, Any]]:
    """Return what either worker has to show."""
    answer = _ask(at.ads, at, **fields)
    found: list[dict[str, Any]] = answer.json()["decisions"][0]["ads"] if answer.status_code == 200 else []
    return found


def _ask(ads: httpx.Client, at: Stall, **fields: Any) -> httpx.Response:
    body = {"id": "r", "placements": [{"id": "p", "slot_id": at.slot_id}], **fields}
    return ads.post("/ads/v1/decisions", json=body)


def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = monotonic() + WAIT_SECONDS_MAX
    while not condition():
        assert monotonic() < deadline, "it did not come to pass"
        sleep(0.05)


def worker_of(ad: dict[str, Any]) -> int:
    """Return the number of the worker that promised an impression, as its token has it."""
    token = ad["impression_url"].rpartition("/")[2][1:]
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    return msgspec.msgpack.decode(raw[1:-16], type=Ticket).worker


def sell(service: Service, at: Stall, **options: Any) -> Sales:
    """Ask and report until nothing was served for a while."""
    sales = Sales(Counter(), [])
    served_at = monotonic()
    with at.client(service, **options) as ads:
        while monotonic() < served_at + QUIET_SECONDS:
            answer = _ask(ads, at)
            assert answer.status_code == 200, answer.text
            found = answer.json()["decisions"][0]["ads"]
            if not found:
                sleep(0.05)
                continue
            served_at = monotonic()
            sales.promised[worker_of(found[0])] += 1
            assert ads.get(found[0]["impression_url"]).status_code == 204
            sales.reported.append(found[0]["decision_id"])
    return sales


def budget_of(url: str, campaign_id: str) -> dict[str, int]:
    """Return what a campaign's row says, and what the log says was billed and recorded of it."""
    with psycopg.connect(url) as connection:
        spent = connection.execute(
            "SELECT impressions, spent_micros, leased_impressions FROM budgets WHERE budget_id = %s", (campaign_id,)
        ).fetchone()
        logged = connection.execute(
            "SELECT count(*) FILTER (WHERE (entry->'event'->>'billed')::bool), count(*) FROM events"
            " WHERE type LIKE '%%impression%%' AND entry->'event'->>'campaign_id' = %s",
            (campaign_id,),
        ).fetchone()
    assert spent is not None
    assert logged is not None
    return {
        "impressions": spent[0],
        "spent_micros": spent[1],
        "leased": spent[2],
        "billed": logged[0],
        "recorded": logged[1],
    }


def web_workers(service: Service) -> list[psutil.Process]:
    """Return the processes that answer requests."""
    assert service.process is not None
    top = psutil.Process(service.process.pid)
    (server,) = [each for each in top.children() if "granian" in " ".join(each.cmdline())]
    return [each for each in server.children() if "resource_tracker" not in " ".join(each.cmdline())]


def test_budgets_are_drained_to_the_last(world: World, workers_url: str) -> None:
    """Of a budget under demand at both workers all but 1 % is delivered, and nothing beyond it is billed or shown.

    Where all demand is at one of two workers, at most one impression stays with the other.
    """
    large = stall(world, width=301, impression_budget=500)
    small = stall(world, width=302, budget_micros=10 * 5_000)
    lonely = stall(world, width=303, impression_budget=10)
    with ThreadPoolExecutor(2 * CLIENTS + 1) as pool:
        pinned = pool.submit(sell, world.service, lonely)
        sold = {
            at: [pool.submit(sell, world.service, at, limits=FRESH) for _ in range(CLIENTS)] for at in (large, small)
        }
        sales = {at: [each.result() for each in of_stall] for at, of_stall in sold.items()} | {
            lonely: [pinned.result()]
        }
    for at, budget, least in ((large, 500, 495), (small, 10, 9), (lonely, 10, 9)):
        promised: Counter[int] = sum((each.promised for each in sales[at]), Counter())
        shown = promised.total()
        found = budget_of(workers_url, at.campaign_id)
        assert least <= shown <= budget
        assert (found["impressions"], found["billed"], found["recorded"]) == (shown, shown, shown)
        assert found["spent_micros"] == shown * 5_000
        assert found["leased"] <= budget - shown
        assert len(promised) == (2 if at is large else len(promised))


def test_a_beacon_counts_once_through_whichever_worker(world: World, workers_url: str) -> None:
    """Forty impressions, each reported six times at once through both workers, are counted forty times."""
    at = stall(world, width=304, impression_budget=1_000)
    urls: list[str] = []

    def has_forty() -> bool:
        urls.extend(ad["impression_url"] for ad in asked(at))
        return len(urls) == 40

    eventually(has_forty)

    with ThreadPoolExecutor(6) as pool:
        answers = [list(pool.map(at.ads.get, [url] * 6)) for url in urls]
    assert [[answer.status_code for answer in of_one] for of_one in answers] == [[204] * 6] * 40
    found = budget_of(workers_url, at.campaign_id)
    assert (found["impressions"], found["billed"], found["recorded"]) == (40, 40, 40)
    world.caught_up()
    reported = world.get("reports/budgets", campaign_id=at.campaign_id)["items"][0]
    assert (reported["impressions"], reported["billed_impressions"]) == (40, 40)


def test_both_workers_are_measured(world: World) -> None:
    """Whichever worker is asked, the metrics are those of both, and either says that the service is ready."""
    at = stall(world, width=305)
    with world.service.client(limits=FRESH) as client:

        def filled() -> set[float]:
            texts = [client.get("/metrics").text for _ in range(8)]
            return {float(match[1]) for text in texts if (match := FILLED.search(text)) is not None}

        (before,) = filled()
        assert [len(asked(at)) for _ in range(40)] == [1] * 40
        assert filled() == {before + 40}
        assert {client.get("/health/ready").status_code for _ in range(8)} == {200}
        assert {client.get("/health/live").status_code for _ in range(8)} == {200}


def test_a_killed_worker_loses_nothing_that_was_answered(world: World, workers_url: str) -> None:
    """While one of two workers is killed every answer stays true, the other goes on, and a new one takes its place."""
    at = stall(world, width=306, impression_budget=400)
    before = web_workers(world.service)
    assert len(before) == 2
    ends_at = monotonic() + 8
    killed_at: list[float] = []

    def insist(ask: Callable[[], httpx.Response]) -> httpx.Response:
        while True:
            try:
                answer = ask()
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            assert monotonic() < ends_at + WAIT_SECONDS_MAX
            sleep(0.02)

    def work() -> tuple[list[str], int]:
        reported: list[str] = []
        shown_after = 0
        with at.client(world.service, limits=FRESH) as ads:
            while monotonic() < ends_at:
                found = insist(lambda: _ask(ads, at)).json()["decisions"][0]["ads"]
                if not found:
                    sleep(0.05)
                    continue
                shown_after += bool(killed_at)
                assert insist(partial(ads.get, found[0]["impression_url"])).status_code == 204
                reported.append(found[0]["decision_id"])
                sleep(0.05)
        return reported, shown_after

    with ThreadPoolExecutor(4) as pool:
        running_ = [pool.submit(work) for _ in range(4)]
        sleep(1.5)
        before[0].kill()
        killed_at.append(monotonic())
        outcomes = [each.result() for each in running_]
    reported = [decision_id for of_one, _ in outcomes for decision_id in of_one]
    assert sum(after for _, after in outcomes) > 0
    eventually(lambda: len(web_workers(world.service)) == 2)
    assert before[0] not in web_workers(world.service)
    with psycopg.connect(workers_url) as connection:
        logged = connection.execute(
            "SELECT replace(stream_id, 'decision-', '') FROM events WHERE type LIKE '%%impression%%'"
            " AND entry->'event'->>'campaign_id' = %s",
            (at.campaign_id,),
        ).fetchall()
        gaps = connection.execute("SELECT max(position) - count(*) FROM events").fetchone()
    assert sorted(row[0] for row in logged) == sorted(reported)
    assert gaps == (0,)
    found = budget_of(workers_url, at.campaign_id)
    assert found["billed"] == found["impressions"] <= 400
    assert found["impressions"] + found["leased"] <= 400


def test_tallies_of_workers_add_up(world: World, workers_url: str) -> None:
    """Whichever worker was asked, the report has each request once, and both have told the log of theirs."""
    at = stall(world, width=309, impression_budget=1_000_000)
    promised: Counter[int] = Counter()
    requests = 0

    def both_were_asked() -> bool:
        nonlocal requests
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(lambda _: asked(at), range(40)):
                promised.update(map(worker_of, found))
        requests += 40
        return len(promised) == 2

    eventually(both_were_asked)

    def line() -> dict[str, int]:
        found = world.get("reports/delivery", slot_id=at.slot_id, group_by="slot")["items"]
        return found[0] if found else {"requests": 0}

    eventually(lambda: line()["requests"] == requests)
    assert line()["fills"] == promised.total()
    with psycopg.connect(workers_url) as connection:
        told = connection.execute(
            "SELECT DISTINCT entry ->> 'actor' FROM events WHERE type = 'requests_tallied' AND entry::text LIKE %s",
            (f"%{at.slot_id}%",),
        ).fetchall()
    assert {actor for (actor,) in told} == {f"worker:{worker}" for worker in promised}
