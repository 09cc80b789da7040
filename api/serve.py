"""The `serve` command: prepares the database, and supervises the web workers and the background worker."""

import asyncio
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any, Final

import structlog

from api import logs
from infra import cosigner, embedded, installation, keys, log_keys, schema, settings
from infra.activity import activity_of
from infra.data_centres import DataCentres
from infra.rate_limits import RateLimits, SharedCounts
from infra.settings import CONNECTIONS_MAX, Settings

BACKLOG_CONNECTIONS: Final = 2_048
"""How many more wait with the system until a worker has room for them."""

HEADER_READ_MILLISECONDS_MAX: Final = 10_000
"""How long a request may take to arrive but for its body, and a connection may be idle."""

HEADER_BYTES_MAX: Final = 65_536
OTHER_FILES: Final = 256
"""How many files, of those that a process may open, are left for what is no client's connection."""

STOP_SECONDS_MAX: Final = 30
MARGIN_SECONDS: Final = 5
"""For so much longer the web server is waited for than it waits for its workers, which would else be left behind."""

LOOK_EVERY_SECONDS: Final = 0.5

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class CannotListen(Exception):
    """Nothing can listen on {host}, port {port} ({reason}): choose another with --port, or end what listens there."""

    def __init__(self, host: str, port: int, reason: str | None) -> None:
        """Say where, and why not."""
        super().__init__(str(self.__doc__).format(host=host, port=port, reason=reason))


def serve(
    *,
    host: str,
    port: int,
    workers: int,
    data_dir: Path | None,
    background: bool,
    log_level: str | None = None,
    beside: Callable[[str], AbstractContextManager[None]] | None = None,
) -> None:
    """Serve until told to stop; what was accepted by then is durable. Raise CannotListen.

    `log_level` goes before the configured one. `beside` is given the URL of the prepared database, and returns what is
    entered before the first process starts and left after the last has ended.
    """
    # An orderly end, whatever is going on: so that the service's own PostgreSQL does not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    address = address_of(host, port)
    found = settings.read(data_dir=data_dir)
    log_level = log_level or found.log_level
    logs.configure(log_level)
    counts = SharedCounts(None, 1)
    RateLimits(found.rate_per_key, found.rate_per_address, counts)  # refused here, not in every worker
    activity_of(found, counts)
    DataCentres(found.data_centres_file)
    connections = _room_for(found.connections_max)
    with ExitStack() as stack:
        url = stack.enter_context(_held_database(found))
        prepare(url, found, migrate=found.embedded)
        metrics_dir = stack.enter_context(TemporaryDirectory(prefix="ledger-metrics-"))
        commands: dict[str, Sequence[str]] = {"web": _web(address, port, workers, connections)}
        if background:
            # Refused here, and not by a process that is started again and again.
            log_keys.read(found)
            cosigner.read(found.log_policy_file)
            commands["background"] = [sys.executable, "-m", "api.cli", "work"]
        if beside is not None:
            stack.enter_context(beside(url))
        with suppress(KeyboardInterrupt):
            _supervise(commands, found, url, Path(metrics_dir), workers, connections, log_level)


def address_of(host: str, port: int) -> str:
    """Return the IP address of a host, the only kind of name the server takes; raise CannotListen unless it is free.

    Found out before the server starts, which would only fail again and again.
    """
    try:
        # Of a name with both kinds of address, such as localhost, the one that every client tries.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = min(found, key=lambda row: row[0] != socket.AF_INET)
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CannotListen(host, port, error.strerror) from error
    return str(address[0])


def prepare(url: str, found: Settings, *, migrate: bool) -> None:
    """Bring a database to where the service can start: keys that can be used, the schema, a ledger, an admin.

    A database that is not the service's own is migrated only when somebody asks for it.
    """
    keys.read(found)
    if migrate:
        schema.migrate(url)
    asyncio.run(installation.begin(url, found))


@contextmanager
def _held_database(found: Settings) -> Iterator[str]:
    if found.database_url is not None:
        yield found.database_url
    else:
        with embedded.hold(found.data_dir) as url:
            yield url


def _room_for(connections: int) -> int:
    """Let the processes that start from now on open enough files; return for how many connections they are enough.

    A server that cannot open the next connection spins, and its database connections fail as well.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("fewer connections than configured, for want of open files", open_files_max=allowed)
    return max(1, allowed - OTHER_FILES)


def _web(address: str, port: int, workers: int, connections: int = CONNECTIONS_MAX) -> list[str]:
    return [
        *(sys.executable, "-m", "granian", "api.app:create_app", "--factory"),
        *("--host", address, "--port", str(port), "--workers", str(workers)),
        *("--interface", "asgi", "--loop", "uvloop", "--http", "1", "--no-ws"),
        *("--backlog", str(BACKLOG_CONNECTIONS), "--backpressure", str(connections)),
        *("--http1-header-read-timeout", str(HEADER_READ_MILLISECONDS_MAX)),
        *("--http1-buffer-size", str(HEADER_BYTES_MAX)),
        *("--log-level", "warning", "--respawn-failed-workers", "--workers-kill-timeout", str(STOP_SECONDS_MAX)),
    ]


def _supervise(
    commands: Mapping[str, Sequence[str]],
    found: Settings,
    url: str,
    shared: Path,
    workers: int,
    connections: int,
    log_level: str,
) -> None:
    """Keep a process for each command running, and the service's own PostgreSQL, until interrupted; then end them.

    In the folder `shared` they count together.
    """
    lifeline, end = os.pipe()
    rates_file = shared / "rates"
    rates_file.touch()
    environment = settings.handed_down(
        data_dir=found.data_dir,
        lifeline=lifeline,
        metrics_dir=shared,
        rates_file=rates_file,
        workers=workers,
        connections_max=connections,
    )
    environment["LEDGER_LOG_LEVEL"] = log_level

    def start(command: Sequence[str]) -> subprocess.Popen[Any]:
        # In a group of its own, where it gets no signal of the terminal beside ours.
        grouped: dict[str, Any] = {"pass_fds": (lifeline,), "process_group": 0}
        return subprocess.Popen(command, env=environment, **grouped)  # noqa: S603  our own programs

    running = {name: start(command) for name, command in commands.items()}
    try:
        while True:
            for name, process in running.items():
                if process.poll() is not None:
                    log.error("process ended", process=name, status=process.returncode)
                    running[name] = start(commands[name])
            if found.embedded:
                _revive(found, url)
            sleep(LOOK_EVERY_SECONDS)
    finally:
        os.write(end, b".")  # first: the server waits for whoever follows the log, and they are told by this
        for process in running.values():
            process.terminate()
        for process in running.values():
            try:
                process.wait(STOP_SECONDS_MAX + MARGIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        os.close(end)
        os.close(lifeline)


def _revive(found: Settings, url: str) -> None:
    try:
        if embedded.revive(found.data_dir, url):
            log.error("PostgreSQL had ended, and was started again")
    except embedded.PostgresFailed as error:
        log.error("PostgreSQL has ended", reason=str(error))  # noqa: TRY400  the sentence says it all
