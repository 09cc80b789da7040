"""The load generator: HTTP/1.1 over raw sockets, requests encoded beforehand, kept-alive connections, no pipelining.

Written here because what the package index offers is either absent, measures no corrected latency, or takes more of the
machine than the service under test. The same generator drives both sides of every pair.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar

import uvloop

T = TypeVar("T")

TICK_SECONDS: Final = 0.001
PATIENCE_SECONDS: Final = 30
"""How long past its planned end a run may take before it counts as stuck."""


class Latencies(NamedTuple):
    """Milliseconds from the moment a request was meant to be sent, by the schedule, to its answer."""

    p50: float
    p99: float


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the event loop that the service runs on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def get(path: str) -> bytes:
    """Return an encoded GET."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n".encode()


def post(path: str, body: bytes, *, bearer: str = "none") -> bytes:
    """Return an encoded POST of a JSON body."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {bearer}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def saturate(port: int, requests: Iterable[bytes], *, connections: int, seconds: float) -> float:
    """Return answers a second, each connection asking anew as soon as it is answered (closed loop).

    Ends after `seconds`, or when the requests run out.
    """
    return run(_saturate(port, iter(requests), connections, seconds))


def pace(port: int, requests: Iterable[bytes], *, connections: int, seconds: float, rate: float) -> Latencies:
    """Return latencies at a constant rate (open loop), corrected for coordinated omission.

    A request that finds every connection busy waits, and its waiting counts.
    """
    return run(_pace(port, iter(requests), connections, seconds, rate))


class _Connection(asyncio.Protocol):
    def __init__(self, driver: "_Driver") -> None:
        self._driver = driver
        self._received = b""
        self.due = 0.0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> None:
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        if _is_whole(received):
            self._received = b""
            self._driver.statuses[received[9:12]] += 1
            self._driver.answered(self)
        else:
            self._received = received

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002  why does not matter
        if not self._driver.finished.done():
            self._driver.finished.set_exception(ConnectionResetError("the server closed a connection"))


class _Driver(ABC):
    """What closed and open loop have in common: the source of requests, and how the answers are counted."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self.source = source
        self.statuses: Counter[bytes] = Counter()
        self.finished: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    @abstractmethod
    def answered(self, connection: _Connection) -> None:
        """Go on after an answer."""


class _Closed(_Driver):
    def __init__(self, source: Iterator[bytes], connections: Sequence[_Connection], seconds: float) -> None:
        super().__init__(source)
        self._busy = len(connections)
        self._seconds = seconds
        self._deadline = 0.0

    def start(self, connections: Sequence[_Connection]) -> None:
        self._busy = len(connections)
        self._deadline = perf_counter() + self._seconds
        for connection in connections:
            self._next(connection)

    def answered(self, connection: _Connection) -> None:
        self._next(connection)

    def _next(self, connection: _Connection) -> None:
        request = next(self.source, None) if perf_counter() < self._deadline else None
        if request is not None:
            connection.ask(request)
            return
        self._busy -= 1
        if not self._busy:
            self.finished.set_result(perf_counter())


class _Open(_Driver):
    def __init__(self, source: Iterator[bytes], seconds: float, rate: float) -> None:
        super().__init__(source)
        self._free: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._rate = rate
        self._total = int(seconds * rate)
        self._planned = 0
        self._started = 0.0
        self.latencies: list[float] = []

    def start(self, connections: Sequence[_Connection]) -> None:
        self._free = list(connections)
        self._started = perf_counter()
        self._tick()

    def _tick(self) -> None:
        due_by_now = min(self._total, int((perf_counter() - self._started) * self._rate) + 1)
        for number in range(self._planned, due_by_now):
            self._waiting.append(self._started + number / self._rate)
        self._planned = due_by_now
        while self._waiting and self._free:
            self._send(self._free.pop())
        if self._planned < self._total:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _send(self, connection: _Connection) -> None:
        connection.due = self._waiting.popleft()
        connection.ask(next(self.source))

    def answered(self, connection: _Connection) -> None:
        now = perf_counter()
        self.latencies.append((now - connection.due) * 1_000)
        if self._waiting:
            self._send(connection)
        else:
            self._free.append(connection)
        if len(self.latencies) == self._total:
            self.finished.set_result(now)


async def _saturate(port: int, source: Iterator[bytes], connections: int, seconds: float) -> float:
    driver = _Closed(source, (), seconds)
    opened = await _opened(port, driver, connections)
    started = perf_counter()
    driver.start(opened)
    ended = await _ended(driver, opened, seconds)
    return driver.statuses.total() / (ended - started)


async def _pace(port: int, source: Iterator[bytes], connections: int, seconds: float, rate: float) -> Latencies:
    driver = _Open(source, seconds, rate)
    opened = await _opened(port, driver, connections)
    driver.start(opened)
    await _ended(driver, opened, seconds)
    ordered = sorted(driver.latencies)
    return Latencies(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])


async def _opened(port: int, driver: _Driver, connections: int) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(
        *(loop.create_connection(lambda: _Connection(driver), "127.0.0.1", port) for _ in range(connections))
    )
    return [connection for _, connection in made]


async def _ended(driver: _Driver, opened: Sequence[_Connection], seconds: float) -> float:
    ended = await asyncio.wait_for(driver.finished, seconds + PATIENCE_SECONDS)
    for connection in opened:
        connection.transport.close()
    refused = {status: count for status, count in driver.statuses.items() if not status.startswith(b"2")}
    if refused:
        raise AssertionError(f"not all answers were good: {refused}")
    return ended


def _is_whole(received: bytes) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    start = received.find(b"content-length: ", 0, end)
    if start < 0:
        if received[9:12] == b"204":
            return True
        raise AssertionError(f"an answer of unknown length: {received[:200]!r}")
    length = int(received[start + 16 : received.find(b"\r\n", start)])
    return len(received) >= end + 4 + length
