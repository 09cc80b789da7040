"""A power cut under load: whatever was answered is in the log once, and whatever was not can be asked again."""

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Lock
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg

from infra import embedded
from infra.database import connect
from tests.api.pages import Page, eventually, new_page
from tests.projections.rebuilding import Contents, contents, rebuilt
from tests.running import Service, running
from tests.world import World

AD_SLOTS: Final = 6
COMMANDERS: Final = 2
ANSWERS_BEFORE_KILL: Final = 150
CYCLES: Final = 2


@dataclass
class Load:
    """What clients have asked for: answered, or still without an answer, and then asked again."""

    answered: list[str] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    unanswered: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)
    stopped: Event = field(default_factory=Event)

    def show(self, page: Page, client: httpx.Client, key: str) -> None:
        """Play an ad slot until the service is gone: ask for creatives, and report their impressions."""
        body = {"id": "r", "placements": [{"id": "p", "slot_id": page.slot_id, "count": 2}]}
        with suppress(httpx.HTTPError):
            while not self.stopped.is_set():
                decided = client.post("/ads/v1/decisions", json=body, headers={"Authorization": key})
                for ad in decided.json()["decisions"][0]["ads"]:
                    token = ad["impression_url"].rpartition("/")[2]
                    with self.lock:
                        self.open.add(token)
                    if client.get(f"/ads/v1/i/{token}").status_code == 204:
                        with self.lock:
                            self.open.remove(token)
                            self.answered.append(token)

    def command(self, client: httpx.Client, key: str) -> None:
        """Enter advertisers, each under a key of its own, until the service is gone."""
        with suppress(httpx.HTTPError):
            while not self.stopped.is_set():
                name = str(uuid4())
                with self.lock:
                    self.unanswered[name] = {"name": name}
                self.ask(client, key, name)

    def ask(self, client: httpx.Client, key: str, name: str) -> None:
        """Send a command, for the first time or again, and keep its receipt."""
        headers = {"Authorization": key, "Idempotency-Key": name}
        answer = client.post("/api/v1/advertisers", json={"name": name}, headers=headers)
        if answer.status_code == 201:
            with self.lock:
                self.receipts[name] = answer.json()
                self.unanswered.pop(name, None)

    def is_under_way(self) -> bool:
        """Tell whether much was answered, and beacons and commands are on their way at this moment."""
        return len(self.answered) >= ANSWERS_BEFORE_KILL and len(self.open) > 1 and bool(self.unanswered)


def killed_under_load(service: Service, page: Page) -> Load:
    """Kill everything while clients are at work, and return what they asked and what they were answered."""
    load = Load()
    slot_key, person = page.ads.headers["Authorization"], page.world.admin.headers["Authorization"]
    players: list[tuple[Callable[..., None], tuple[object, ...]]] = [(load.show, (page,))] * AD_SLOTS
    players += [(load.command, ())] * COMMANDERS
    clients = [httpx.Client(base_url=service.url, timeout=10) for _ in players]
    with ThreadPoolExecutor(len(players)) as threads:
        playing = [
            threads.submit(play, *arguments, client, slot_key if arguments else person)
            for (play, arguments), client in zip(players, clients, strict=True)
        ]
        try:
            eventually(load.is_under_way)
            service.kill()
        finally:
            load.stopped.set()
        for each in playing:
            each.result()
    for client in clients:
        client.close()
    return load


def asked_again(service: Service, world: World, load: Load) -> None:
    """Send what was not answered again; what was answered is known, what was not is taken once."""
    with service.client() as client:
        person = world.admin.headers["Authorization"]
        for name, receipt in list(load.receipts.items())[-5:]:
            load.ask(client, person, name)
            assert load.receipts[name] == receipt
        for name in list(load.unanswered):
            load.ask(client, person, name)
        assert not load.unanswered
        lost = sorted(load.open)
        for tokens, results in (
            (load.answered[-500:], {"repeated"}),
            (lost, {"repeated", "recorded"}),
            (lost, {"repeated"}),
        ):
            answer = client.post("/ads/v1/events", json={"tokens": tokens})
            assert {result["result"] for result in answer.json()["results"]} <= results
            assert len(answer.json()["results"]) == len(tokens)
        load.answered += lost
        load.open.clear()


def check_log(url: str, loads: list[Load]) -> None:
    """Assert that the log is without gaps, and holds what was answered exactly once."""
    with psycopg.connect(url) as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode()).fetchall()

        (positions,) = rows(
            "SELECT count(*), min(position), max(position), (SELECT position FROM ledger_heads) FROM events"
        )
        assert positions == (positions[0], 1, positions[0], positions[0])
        assert rows("SELECT stream_id FROM events GROUP BY stream_id HAVING max(version) <> count(*)") == []
        answered = sum(len(load.answered) for load in loads)
        assert rows("SELECT count(*) FROM events WHERE type = 'impression_recorded'") == [(answered,)]
        entered = {row[0]: row[1:] for row in rows("SELECT stream_id, version, position FROM events WHERE version = 1")}
        for load in loads:
            for receipt in load.receipts.values():
                assert entered[f"advertiser-{receipt['id']}"] == (receipt["version"], receipt["position"])
        named = rows(
            "SELECT count(*) FROM events WHERE type = 'advertiser_created' AND entry ->> 'idempotency_key' <> ''"
        )
        assert named == [(sum(len(load.receipts) for load in loads),)]
        spent = "SELECT b.campaign_id FROM budgets b JOIN spendings s USING (ledger_id, campaign_id) WHERE"
        assert rows(f"{spent} (b.spent_micros, b.impressions) <> (s.spent_micros, s.billed_impressions)") == []
        assert rows(f"{spent} b.impressions + b.leased_impressions > b.impression_budget") == []


async def kept_and_rebuilt(url: str) -> tuple[Contents, Contents]:
    """Return the rows of all read models as they were kept, and as a rebuild makes them."""
    async with await connect(url) as connection:
        cursor = await connection.execute("SELECT ledger_id FROM ledgers")
        (row,) = await cursor.fetchall()
        ledger_id: UUID = row["ledger_id"]
        kept = await contents(connection, ledger_id)
        return kept, await rebuilt(connection, ledger_id)


def end_by_losing_the_supervisor(service: Service) -> None:
    """Kill the supervisor alone, and wait until its workers have ended by themselves."""
    assert service.process is not None
    workers = psutil.Process(service.process.pid).children(recursive=True)
    workers = [each for each in workers if "postgres" not in each.name()]
    assert len(workers) >= 2
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(10)
    assert psutil.wait_procs(workers, timeout=30)[1] == []


def test_nothing_answered_is_lost_and_nothing_is_there_twice() -> None:
    """Killed twice in the middle of traffic, the service comes back with all it answered, once, and gapless.

    When only its supervisor is killed its workers end by themselves; the read models are those of a rebuild.
    """
    loads: list[Load] = []
    with TemporaryDirectory() as folder, running(Path(folder) / "data") as service:
        for _ in range(CYCLES):
            loads.append(one_cycle(service))
            with embedded.attach(service.data_dir) as url:
                check_log(url, loads)
        end_by_losing_the_supervisor(service)
        with embedded.hold(service.data_dir) as url:
            kept, anew = asyncio.run(kept_and_rebuilt(url))
    assert sum(row["impressions"] for row in kept["spendings"]) == sum(len(load.answered) for load in loads)
    assert kept == anew


def one_cycle(service: Service) -> Load:
    """Kill everything under load, start again, ask again, and wait for the read models."""
    with closing(service.signed_in()) as admin:
        page = new_page(World(service, admin))
        page.campaign()
        limited, _ = page.campaign(impression_budget=100)
        eventually(lambda: len(page.ask(2)[0]["ads"]) == 2)
        load = killed_under_load(service, page)
        assert len(load.open) > 1, "no beacon was on its way"
        service.start()
        asked_again(service, page.world, load)
        page.world.caught_up()
        (line,) = page.world.get("reports/budgets", campaign_id=limited)["items"]
        assert 0 < line["billed_impressions"] <= 100
        for client in page.world.clients:
            client.close()
    return load
