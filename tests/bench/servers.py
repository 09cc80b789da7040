"""What is measured, each in processes of its own: the whole service on its own PostgreSQL, and the bare handlers."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from uuid import UUID

import httpx
import psutil
from msgspec import structs

from api.serve import _web
from domain.delivery import Ticket
from infra import embedded, installation, keys, ledger_keys, schema, settings
from infra.beacon_tokens import BeaconTokens
from infra.database import connect
from infra.writer import Writer
from projections import status
from projections.catalogue import PROJECTIONS
from tests.bench import catalogue as catalogues
from tests.bench.catalogue import Catalogue
from tests.bench.load import get, post, run
from tests.running import Service, free_port, running

ROOT = Path(__file__).parents[2]
WAIT_SECONDS_MAX = 120


class Ledger:
    """The running service with a catalogue in it, and its database."""

    def __init__(self, service: Service, url: str, catalogue: Catalogue) -> None:
        """Write the catalogue into the log, and wait until it is served and every read model knows it.

        Nobody wants mail, or a thousand letters about new campaigns would be written while something is measured.
        """
        self.service = service
        self._want_no_mail()
        self.port = service.port
        self.url = url
        self.catalogue = catalogue
        self.ledger_id = run(self._fill())
        found = settings.read(data_dir=service.data_dir)
        embedded_only = structs.replace(found, database_url=None, secret_key=None, signing_key_file=None)
        self._tokens = BeaconTokens(ledger_keys.of_ledger(keys.read(embedded_only), self.ledger_id))
        self._await_serving()
        self.catch_up()

    def decisions(self, *, country: str | None = None) -> list[bytes]:
        """Return encoded ad requests, each another one."""
        bodies = catalogues.requests(self.catalogue, 500, country=country)
        return [post("/ads/v1/decisions", body, bearer=self.catalogue.slot_key) for body in bodies]

    def impressions(self, count: int) -> list[bytes]:
        """Return encoded beacons, each of a decision of its own."""
        return [get(f"/ads/v1/i/{token}") for token in self.tokens(count)]

    def tokens(self, count: int) -> list[str]:
        """Return fresh impression tokens, signed as the service signs them."""
        return [self._tokens.sign("impression", ticket) for ticket in self.tickets(count)]

    def tickets(self, count: int) -> list[Ticket]:
        """Return what fresh decisions promised, for creatives all over the catalogue."""
        return catalogues.tickets(self.catalogue, count)

    def catch_up(self) -> float:
        """Wait until every read model has come to the end of the log, and return how many seconds that took."""
        started = monotonic()
        while self.lag():
            assert monotonic() < started + WAIT_SECONDS_MAX, "the read models do not catch up"
            sleep(0.05)
        return monotonic() - started

    def lag(self) -> int:
        """Return by how many events the slowest read model is behind, as the service itself counts."""
        return run(self._lag())

    def worker(self) -> psutil.Process:
        """Return the process of the one web worker: of the server's, the one that holds the snapshot."""
        assert self.service.process is not None
        below = psutil.Process(self.service.process.pid).children(recursive=True)
        web = [each for each in below if "granian" in " ".join(each.cmdline()) or "spawn_main" in str(each.cmdline())]
        return max(web, key=lambda process: process.memory_info().rss)

    def _want_no_mail(self) -> None:
        with closing(self.service.signed_in()) as admin:
            reasons = admin.get("/api/v1/auth/me/notifications").json()
            chosen = admin.patch("/api/v1/auth/me/notifications", json=dict.fromkeys(reasons, False))
            assert chosen.status_code == 200, chosen.text

    async def _lag(self) -> int:
        async with await connect(self.url) as connection:
            found = await status.read_status(connection, self.ledger_id)
        known = {each.name for each in found}
        return max([each.lag for each in found], default=0) + sum(each.name not in known for each in PROJECTIONS)

    async def _fill(self) -> UUID:
        async with await connect(self.url) as connection:
            ledger_id = await installation.first_ledger(connection)
        writer = Writer(self.url)
        writing = asyncio.create_task(writer.run())
        await catalogues.write(self.catalogue, writer, ledger_id)
        writer.close()
        await writing
        return ledger_id

    def _await_serving(self) -> None:
        body = catalogues.requests(self.catalogue, 1)[0]
        headers = {"Authorization": f"Bearer {self.catalogue.slot_key}", "Content-Type": "application/json"}
        deadline = monotonic() + WAIT_SECONDS_MAX
        with self.service.client(headers=headers) as client:
            while client.post("/ads/v1/decisions", content=body).status_code != 200:
                assert monotonic() < deadline, "the catalogue is not served"
                sleep(0.05)


@contextmanager
def ledger(catalogue: Catalogue) -> Iterator[Ledger]:
    """The whole service with one web worker, as `ledger serve` starts it, in a folder that is thrown away."""
    with (
        TemporaryDirectory(prefix="ledger-bench-") as folder,
        running(Path(folder) / "data") as service,
        embedded.attach(service.data_dir) as url,
    ):
        yield Ledger(service, url, catalogue)


@contextmanager
def bare() -> Iterator[int]:
    """The bare handlers, on the same server with the same options and one worker: yields the port."""
    with _serving("tests.bench.bare:create_app", dict(os.environ), ready="/ads/v1/i/ready") as (port, _):
        yield port


@contextmanager
def unchecked(ours: Ledger) -> Iterator[tuple[int, psutil.Process]]:
    """Another worker on the same database, whose checks can be turned off: yields the port, and the process."""
    environment = {**ours.service.environment, "LEDGER_DATA_DIR": str(ours.service.data_dir)}
    with _serving("tests.bench.unchecked:create_app", environment, ready="/health/ready") as (port, server):
        (worker,) = (each for each in server.children() if "resource_tracker" not in " ".join(each.cmdline()))
        yield port, worker


@contextmanager
def _serving(app: str, environment: dict[str, str], *, ready: str) -> Iterator[tuple[int, psutil.Process]]:
    port = free_port()
    command = [app if word == "api.app:create_app" else word for word in _web("127.0.0.1", port, 1)]
    # As little is written as by the service, and not here.
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = monotonic() + WAIT_SECONDS_MAX
        while monotonic() < deadline:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}{ready}").is_success:
                    break
            sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def database() -> Iterator[str]:
    """A migrated database with a PostgreSQL of its own, in a folder that is thrown away."""
    with TemporaryDirectory(prefix="ledger-bench-") as folder, embedded.hold(Path(folder)) as url:
        schema.migrate(url)
        yield url
