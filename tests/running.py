"""The service under test: `ledger serve` in processes of its own, reached over HTTP like everybody reaches it."""

import os
import signal
import socket
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra import embedded

START_SECONDS_MAX = 120
STOP_SECONDS_MAX = 25  # less than after which a server or a worker that does not end is killed
ADMIN_EMAIL = "admin@example.com"
ADMIN_PASSWORD = "correct horse battery staple"


class Service:
    """A running `ledger serve`, and how a test speaks to it."""

    def __init__(
        self,
        data_dir: Path,
        *,
        database_url: str | None = None,
        workers: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Serve from a data folder, on the PostgreSQL in it or on the database at a URL, with settings of its own."""
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._workers = workers
        self.environment = {**_environment(data_dir, database_url), **(settings or {})}
        self._log = data_dir / "service.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it is ready."""
        command = [sys.executable, "-m", "api.cli", "serve", "--port", str(self.port)]
        command += ["--workers", str(self._workers), "--data-dir", str(self.data_dir)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        deadline = monotonic() + START_SECONDS_MAX
        while monotonic() < deadline and self.process.poll() is None:
            with suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/health/ready", timeout=2).status_code == 200:
                    return
            sleep(0.05)
        raise AssertionError(self._log.read_text()[-5_000:])

    def stop(self) -> None:
        """End it in an orderly way, and wait."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(STOP_SECONDS_MAX)
            self.process = None

    def kill(self) -> None:
        """Kill all of its processes at once, as a power cut would; PostgreSQL too, where it is the service's own."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        killed([top, *top.children(recursive=True), *self.postgres()])
        self.process.wait(10)
        self.process = None

    def web_workers(self) -> list[psutil.Process]:
        """Return the processes that answer requests."""
        return [each for each in self.web_server().children() if not _says(each, "resource_tracker")]

    def web_server(self) -> psutil.Process:
        """Return the process that keeps the web workers running."""
        (server,) = self._children("granian")
        return server

    def background(self) -> psutil.Process:
        """Return the process that does the background work."""
        (worker,) = self._children("work")
        return worker

    def postgres(self) -> list[psutil.Process]:
        """Return the processes of the service's own PostgreSQL, the first of them first."""
        found = [each for each in psutil.process_iter() if self._is_own_postgres(each)]
        return found + [child for each in found for child in each.children(recursive=True)]

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of its database, as its owner reaches it."""
        if url := self.environment.get("LEDGER_DATABASE_URL"):
            yield url
        else:
            with embedded.attach(self.data_dir) as url:
                yield url

    def client(self, **options: Any) -> httpx.Client:
        """Return a client without credentials."""
        return httpx.Client(**{"base_url": self.url, "timeout": 20, **options})

    def signed_in(self, email: str = ADMIN_EMAIL, password: str = ADMIN_PASSWORD) -> httpx.Client:
        """Return a client of a person who has signed in."""
        client = self.client()
        tokens = client.post("/api/v1/auth/login", json={"email": email, "password": password})
        assert tokens.status_code == 200, tokens.text
        client.headers["Authorization"] = f"Bearer {tokens.json()['access_token']}"
        return client

    def _children(self, word: str) -> list[psutil.Process]:
        assert self.process is not None
        return [each for each in psutil.Process(self.process.pid).children() if _says(each, word)]

    def _is_own_postgres(self, process: psutil.Process) -> bool:
        return _says(process, str(self.data_dir / "postgres")) and _says(process, "-D")


@contextmanager
def running(data_dir: Path, **options: Any) -> Iterator[Service]:
    """A service that is ready, and stopped at the end."""
    data_dir.mkdir(parents=True, exist_ok=True)
    service = Service(data_dir, **options)
    try:
        service.start()
        yield service
    finally:
        service.stop()


def killed(processes: Sequence[psutil.Process]) -> None:
    """Kill processes at once, and wait until they are gone."""
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def _says(process: psutil.Process, word: str) -> bool:
    with suppress(psutil.Error):
        return word in process.cmdline()
    return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _environment(data_dir: Path, database_url: str | None) -> Mapping[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    environment |= {"LEDGER_ADMIN_EMAIL": ADMIN_EMAIL, "LEDGER_ADMIN_PASSWORD": ADMIN_PASSWORD}
    if database_url is not None:
        environment |= {
            "LEDGER_DATABASE_URL": database_url,
            "LEDGER_SIGNING_KEY_FILE": _key_file(data_dir / "signing.pem"),
            "LEDGER_LOG_KEY_FILE": _key_file(data_dir / "log.pem"),
            "LEDGER_SECRET_KEY": urlsafe_b64encode(os.urandom(32)).decode(),
            "LEDGER_ENCRYPTION_KEY": urlsafe_b64encode(os.urandom(32)).decode(),
        }
    return environment


def _key_file(path: Path) -> str:
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem)
    path.chmod(0o600)
    return str(path)
