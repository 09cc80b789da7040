"""The service under test as several nodes: `ledger serve` more than once, with the same keys, on one database.

Each node has a web worker and background work of its own, so that everything of which there should be one is there
several times.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import httpx
import psutil

from tests.running import Service

PUBLIC_URL: Final = "http://soak.example"
NODES: Final = 2
READY_SECONDS_MAX: Final = 120
COMMAND_SECONDS_MAX: Final = 120


class Nodes:
    """Services on one database, numbered from 0."""

    def __init__(self, folder: Path, url: str, environment: Mapping[str, str], *, count: int = NODES) -> None:
        """Prepare as many as `count`; their processes find more in their environment."""
        self.url = url
        self.services: list[Service] = []
        for number in range(count):
            data_dir = folder / f"node-{number}"
            data_dir.mkdir()
            service = Service(data_dir, database_url=url)
            first = self.services[0] if self.services else service
            # Tokens of one are good at all, and what they name is where no test asks.
            service.environment = {
                **first.environment,
                **environment,
                "LEDGER_LOG_LEVEL": "warning",
                "LEDGER_PUBLIC_URL": PUBLIC_URL,
            }
            self.services.append(service)

    def start(self) -> None:
        """Start those that do not run, at once, and wait until they are ready."""
        with ThreadPoolExecutor(len(self.services)) as threads:
            list(threads.map(Service.start, [each for each in self.services if each.process is None]))

    def stop(self) -> None:
        """End all in an orderly way."""
        for each in self.services:
            each.stop()

    def kill(self) -> None:
        """Kill every process of all nodes."""
        for each in self.services:
            each.kill()

    def kill_worker(self, number: int) -> None:
        """Kill the web worker of a node, which its server replaces."""
        for each in web_workers(self.services[number]):
            with suppress(psutil.NoSuchProcess):
                each.kill()
                each.wait(10)

    def wait_ready(self) -> None:
        """Wait until all nodes say that they are ready."""
        deadline = monotonic() + READY_SECONDS_MAX
        for service in self.services:
            while not _is_ready(service):
                assert monotonic() < deadline, f"{service.url} is not ready"
                sleep(0.05)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a `ledger` command beside the nodes."""
        return subprocess.run(
            [sys.executable, "-m", "api.cli", *arguments],
            env=self.services[0].environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS_MAX,
        )

    def logs(self) -> str:
        """Return the ends of what the nodes wrote."""
        texts = ((each.data_dir / "service.log").read_text(errors="replace")[-3_000:] for each in self.services)
        return "\n".join(texts)


@contextmanager
def serving(folder: Path, url: str, environment: Mapping[str, str], **options: Any) -> Iterator[Nodes]:
    """Nodes that are ready, and stopped at the end."""
    nodes = Nodes(folder, url, environment, **options)
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


def web_workers(service: Service) -> Sequence[psutil.Process]:
    """Return the processes of a node that answer requests."""
    assert service.process is not None
    servers = [
        each
        for each in psutil.Process(service.process.pid).children()
        if any("granian" in word for word in each.cmdline())
    ]
    return [
        worker
        for server in servers
        for worker in server.children()
        if not any("resource_tracker" in word for word in worker.cmdline())
    ]


def _is_ready(service: Service) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{service.url}/health/ready", timeout=2).status_code == 200
    return False
