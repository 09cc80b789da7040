"""A proxy between service and database, in a thread of its own: it breaks connections, and withholds answers."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from psycopg.conninfo import conninfo_to_dict

CHUNK_BYTES: Final = 65_536
COMMITTED: Final = b"C\x00\x00\x00\x0bCOMMIT\x00"
"""The message CommandComplete of a COMMIT, in PostgreSQL's protocol, version 3."""


class Proxy:
    """The connections that go through it, and whose answer is withheld."""

    def __init__(self, socket_path: str) -> None:
        """Lead to the PostgreSQL that listens on a Unix socket."""
        self._socket_path = socket_path
        self._loop: asyncio.AbstractEventLoop
        self._stopped = asyncio.Event()
        self._links: set[asyncio.StreamWriter] = set()
        self._needle: bytes | None = None
        self.withheld = Event()
        self.port = 0

    def withhold_commit_of(self, needle: bytes) -> None:
        """Withhold the answer to the next commit on whichever connection these bytes are sent to the database."""
        self.withheld.clear()
        self._needle = needle

    def reset_some(self, share: float) -> int:
        """Break each connection with a chance, in the middle of whatever it does; return how many were."""
        return asyncio.run_coroutine_threadsafe(self._reset(share), self._loop).result(10)

    def run(self, listening: Event) -> None:
        """Serve until stopped."""
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self._serve(listening))

    def stop(self) -> None:
        """Stop, and break all connections."""
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self, listening: Event) -> None:
        server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        listening.set()
        async with server:
            await self._stopped.wait()
            await self._reset(1.0)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_unix_connection(self._socket_path)
        self._links.add(writer)
        is_meant = asyncio.Event()
        ways = (self._ask(reader, up_writer, is_meant), self._answer(up_reader, writer, is_meant))
        try:
            async with asyncio.TaskGroup() as tasks:
                for way in ways:
                    tasks.create_task(way)
        except* (OSError, EOFError):
            pass
        finally:
            self._links.discard(writer)
            for each in (writer, up_writer):
                each.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_meant: asyncio.Event) -> None:
        last = b""
        while chunk := await reader.read(CHUNK_BYTES):
            if self._needle is not None and self._needle in last + chunk:
                self._needle = None
                is_meant.set()
            last = chunk[-100:]
            writer.write(chunk)
            await writer.drain()
        raise EOFError

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_meant: asyncio.Event
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if is_meant.is_set() and COMMITTED in chunk:
                self.withheld.set()
                await asyncio.Event().wait()
            writer.write(chunk)
            await writer.drain()
        raise EOFError

    async def _reset(self, share: float) -> int:
        doomed = [each for each in self._links if random.random() < share]
        for each in doomed:
            each.transport.abort()
        return len(doomed)


@contextmanager
def between(url: str) -> Iterator[tuple[str, Proxy]]:
    """A proxy to the database at a URL that leads to a Unix socket, and the URL through the proxy."""
    found = conninfo_to_dict(url)
    proxy = Proxy(f"{found['host']}/.s.PGSQL.{found['port']}")
    listening = Event()
    thread = Thread(target=proxy.run, args=(listening,))
    thread.start()
    try:
        assert listening.wait(10)
        yield urlunsplit(urlsplit(url)._replace(netloc=f"postgres@127.0.0.1:{proxy.port}", query="")), proxy
    finally:
        proxy.stop()
        thread.join(10)
