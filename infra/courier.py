"""The courier: tells webhooks of what was recorded, in the order of each stream, until they say that they know.

One runs at a time; a webhook does not wait for another, nor a stream for another. What was sent and not yet noted when
the process died is sent again under the same `Webhook-Id`, by which a receiver knows it.
"""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import httpx
import psycopg
import structlog

from infra import clock, election, outbox, webhooks
from infra.database import Connection, Pool, connect, open_pool
from infra.destinations import DestinationRefused, Destinations
from infra.event_log import CHANNEL
from infra.keys import Keys
from infra.outbox import Message
from infra.webhooks import Route, SecretLost

AT_ONCE_MAX: Final = 8
"""Of one webhook so many streams are sent at once."""

ANSWER_SECONDS_MAX: Final = 15.0
PAUSE_SECONDS: Final = 0.25
"""So often it is looked at most, however fast the log grows."""

POLL_SECONDS: Final = 1.0

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class NotTaken(Exception):
    """The receiver answered with {status}."""

    def __init__(self, status: int) -> None:
        """Say what it answered."""
        super().__init__(str(self.__doc__).format(status=status))
        self.status = status


class Courier:
    """Whom to tell, and how."""

    def __init__(self, pool: Pool, keys: Keys, destinations: Destinations, waits_seconds: Sequence[float]) -> None:
        """Send where it is allowed; after each failure wait as long as is said, and park what fails after the last."""
        self._pool = pool
        self._keys = keys
        self._destinations = destinations
        self._waits_seconds = waits_seconds
        self._trust = httpx.create_ssl_context()
        self._serving: dict[UUID, tuple[Route, asyncio.Task[None], asyncio.Event]] = {}

    async def work(self, connection: Connection) -> None:
        """Serve every webhook until cancelled; this connection hears when there is something new."""
        await connection.execute(f"LISTEN {CHANNEL}")
        try:
            while True:
                self._serve(await webhooks.routes(connection))
                async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                    pass  # as many as have come by now
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            self._serve([])

    def _serve(self, routes: Sequence[Route]) -> None:
        """Serve these webhooks from now on, and no others."""
        wanted = {route.id: route for route in routes}
        for known, (route, task, _) in list(self._serving.items()):
            if wanted.get(known) != route or task.done():
                task.cancel()
                del self._serving[known]
        for route in routes:
            if route.id not in self._serving:
                bell = asyncio.Event()
                task = asyncio.create_task(self._keep(route, bell), name=f"webhook {route.id}")
                self._serving[route.id] = (route, task, bell)
            self._serving[route.id][2].set()

    async def _keep(self, route: Route, bell: asyncio.Event) -> None:
        """Serve one webhook until cancelled, over connections of its own."""
        async with _client(self._trust) as client:
            while True:
                bell.clear()
                try:
                    busy = await self._round(client, route)
                except* (OSError, psycopg.Error) as errors:
                    reason = type(errors.exceptions[0]).__name__
                    log.warning("webhook interrupted", webhook=str(route.id), error=reason)
                    busy = False
                if not busy:
                    await bell.wait()

    async def _round(self, client: httpx.AsyncClient, route: Route) -> bool:
        """Send what is due; return whether to look again at once."""
        async with self._pool.connection() as connection:
            try:
                secret, current = webhooks.decrypted(self._keys, route)
            except SecretLost as error:
                await webhooks.say(connection, route, delivered=False, error=str(error))
                return False
            if not current:
                await webhooks.encrypt_again(connection, self._keys, route, secret)
            more = await webhooks.collect(connection, route)
            messages = await outbox.due(connection, route.ledger_id, str(route.id), limit=AT_ONCE_MAX)
        if not messages:
            return more
        async with asyncio.TaskGroup() as sending:
            tasks = [sending.create_task(self._deliver(client, route, secret, each)) for each in messages]
        errors = [task.result() for task in tasks]
        async with self._pool.connection() as connection:
            failed = [error for error in errors if error]
            await webhooks.say(connection, route, delivered="" in errors, error=failed[-1] if failed else "")
        return True

    async def _deliver(self, client: httpx.AsyncClient, route: Route, secret: bytes, message: Message) -> str:
        """Send a message and note what became of it; return what failed, if anything."""
        async with self._pool.connection() as connection:
            kind, recorded_at, entry = await webhooks.read_event(connection, route.ledger_id, message.position)
        body = webhooks.body_of(kind, recorded_at, message.position, entry)
        headers = webhooks.signed(secret, webhooks.message_id(route.id, message.position), body, clock.now())
        waits, said = self._waits_seconds, ""
        try:
            await self._post(client, route.url, body, headers)
        except (DestinationRefused, NotTaken, OSError, httpx.HTTPError) as error:
            said = str(error) or type(error).__name__
            if isinstance(error, NotTaken) and error.status == httpx.codes.GONE:
                waits = ()  # it does not want to hear of it again
        async with self._pool.connection() as connection:
            if not said:
                await outbox.forget(connection, message)
            elif await outbox.failed(connection, message, said, waits):
                log.warning("webhook message parked", webhook=str(route.id), position=message.position, reason=said)
        return said

    async def _post(self, client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a body; raise NotTaken, DestinationRefused, OSError, which it is too when time is up, or HTTPError."""
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            status = await self._destinations.post(client, url, body, headers)
        if not httpx.codes.is_success(status):
            raise NotTaken(status)


def _client(trust: ssl.SSLContext) -> httpx.AsyncClient:
    # Proxies of the environment would resolve the name again, where nobody checks what it resolves to.
    return httpx.AsyncClient(
        verify=trust, trust_env=False, timeout=ANSWER_SECONDS_MAX, headers={"User-Agent": "campaign-ledger"}
    )


async def run(url: str, keys: Keys, destinations: Destinations, waits_seconds: Sequence[float]) -> None:
    """Tell the webhooks of every ledger until cancelled."""

    async def work() -> None:
        async with open_pool(url, size_max=4) as pool, await connect(url) as connection:
            await Courier(pool, keys, destinations, waits_seconds).work(connection)

    await election.lead(url, "webhooks", work)
