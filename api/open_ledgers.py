"""The ledgers that a process serves: each is opened when it comes to be, and has its own keys, snapshot and promises.

Whoever comes without a name is told by what is presented: a slot key or an API key is looked up, and the first
characters of a beacon's token tell which few keys may have signed it.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from secrets import randbits
from time import monotonic
from typing import Final, NamedTuple, TypeVar
from uuid import UUID

import msgspec
import psycopg
import structlog

from api.problems import Unauthenticated
from domain.holds import Holds
from infra import installation, ledger_keys, subject_keys
from infra.api_keys import ApiKeys, KnownKey
from infra.beacon_tokens import BeaconTokens, TokenForged
from infra.commit import worker_channel
from infra.database import APPLICATION_ROLE, Connection, connect, see
from infra.event_log import CHANNEL
from infra.keys import Keys
from infra.ledger_keys import LedgerKeys
from infra.pseudonyms import Pseudonyms
from infra.slot_keys import digest
from infra.tallying import Tallying
from infra.writer import Writer
from projections.serving import POLL_SECONDS, REFRESH_SECONDS_MIN, Serving

WORKER_BITS: Final = 52
"""A worker's number is drawn; two that draw the same would have to be alive at once, among 2**52."""

SLOT_KEYS_REMEMBERED_MAX: Final = 100_000

_NONE: Final = (None,)

T = TypeVar("T")

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class OpenLedger(NamedTuple):
    """What a process has of one ledger: its keys, what can be served of it, and who may come with an API key."""

    id: UUID
    keys: LedgerKeys
    beacon_tokens: BeaconTokens
    pseudonyms: Pseudonyms
    serving: Serving
    api_keys: ApiKeys


class OpenLedgers:
    """The ledgers of the installation as a process has them, and the tasks that serve each."""

    def __init__(self, secrets: Keys, *, viewer_key_days: int) -> None:
        """Begin with none; viewers of each are named anew every so many days."""
        self._secrets = secrets
        self._viewer_key_days = viewer_key_days
        self._open: dict[UUID, OpenLedger] = {}
        self._by_slot_key: dict[str, OpenLedger] = {}
        self._by_prefix: dict[str, tuple[OpenLedger, ...]] = {}
        self._served: dict[UUID, tuple[asyncio.Task[None], ...]] = {}
        self.holds: Final[dict[UUID, Holds]] = {}
        """What the process has promised of each ledger, for the writer to tell."""

    def __iter__(self) -> Iterator[OpenLedger]:
        """Go through those that are served."""
        return iter([self._open[ledger_id] for ledger_id in self._served])

    @property
    def first(self) -> UUID:
        """The ledger that the installation began with."""
        return next(iter(self._served))

    def of(self, ledger_id: UUID) -> OpenLedger:
        """Return a ledger of the installation, opened now if it has not been noticed before."""
        found = self._open.get(ledger_id)
        if found is None:
            keys = ledger_keys.of_ledger(self._secrets, ledger_id)
            holds = self.holds[ledger_id] = Holds(randbits(WORKER_BITS))
            found = self._open[ledger_id] = OpenLedger(
                ledger_id,
                keys,
                BeaconTokens(keys),
                Pseudonyms(keys.viewer, days=self._viewer_key_days),
                Serving(ledger_id, holds),
                ApiKeys(ledger_id),
            )
            for prefix in found.beacon_tokens.prefixes():
                self._by_prefix[prefix] = (*self._by_prefix.get(prefix, ()), found)
        return found

    def of_slot_key(self, key: str) -> OpenLedger:
        """Return the ledger that a slot key belongs to; raise Unauthenticated."""
        sha256 = digest(key)
        known = self._by_slot_key.get(sha256)
        if known is not None and sha256 in known.serving.snapshot.slot_by_key_sha256:
            return known
        for each in self._open.values():
            if sha256 in each.serving.snapshot.slot_by_key_sha256:
                if len(self._by_slot_key) >= SLOT_KEYS_REMEMBERED_MAX:
                    self._by_slot_key.clear()
                self._by_slot_key[sha256] = each
                return each
        raise Unauthenticated

    def of_api_key(self, key: str) -> tuple[OpenLedger, KnownKey]:
        """Return the ledger that an API key belongs to, and what is known of the key; raise Unauthenticated."""
        for each in self._open.values():
            known = each.api_keys.known(key)
            if known is not None:
                return each, known
        raise Unauthenticated

    def verified(self, token: str, verify: Callable[[BeaconTokens, str], T]) -> tuple[OpenLedger, T]:
        """Return which ledger signed a beacon's token, and what it says; for any other string raise TokenForged."""
        *others, last = self._by_prefix.get(token[1:3]) or _NONE
        for each in others:
            with suppress(TokenForged):
                return each, verify(each.beacon_tokens, token)
        if last is None:
            raise TokenForged
        return last, verify(last.beacon_tokens, token)

    def refreshed_at(self) -> float:
        """Return when, by the steady clock, the snapshot was made sure of that is the oldest."""
        return min((each.serving.refreshed_at for each in self), default=monotonic())

    async def notice(self, connection: Connection, writer: Writer) -> None:
        """Open what has come to be, read it, and begin to serve it."""
        for ledger_id in await installation.ledgers(connection):
            if ledger_id not in self._served:
                await see(connection, ledger_id)
                await subject_keys.check_masters(connection, self._secrets.masters)
                opened = self.of(ledger_id)
                await opened.serving.refresh(connection)
                await opened.api_keys.refresh(connection)
                self._served[ledger_id] = _served(opened, writer)

    async def refresh_api_keys(self, connection: Connection) -> None:
        """Read again which API keys there are, and write which were used."""
        for each in self:
            await see(connection, each.id)
            await each.api_keys.refresh(connection)

    async def follow(self, url: str, writer: Writer) -> None:
        """Notice new ledgers, and refresh each whenever its log grows, until cancelled."""
        while True:
            try:
                async with await connect(url, role=APPLICATION_ROLE) as connection:
                    await self._follow(connection, writer)
            except (OSError, psycopg.Error, msgspec.DecodeError) as error:
                log.warning("serving snapshots are not refreshed", error=repr(error))
                await asyncio.sleep(POLL_SECONDS)

    async def close(self) -> None:
        """End what serves each ledger: what is promised and not taken is given back, what was counted is told."""
        tasks = [task for tasks in self._served.values() for task in tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, connection: Connection, writer: Writer) -> None:
        await connection.execute(f"LISTEN {CHANNEL}")
        listening: dict[str, Holds] = {}
        grown: set[str] = set()
        looked_at = float("-inf")
        while True:
            started = monotonic()
            if started >= looked_at + POLL_SECONDS or not grown <= {str(each.id) for each in self}:
                await self.notice(connection, writer)
                grown, looked_at = {str(each.id) for each in self}, started
            await _listen(connection, {worker_channel(each.worker): each for each in self.holds.values()}, listening)
            for each in self:
                if str(each.id) in grown:
                    await _refresh(connection, each)
            # Snapshots that take long to make are made less often.
            await asyncio.sleep(max(REFRESH_SECONDS_MIN, monotonic() - started))
            grown = set()
            async for heard in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                if heard.channel in listening:
                    listening[heard.channel].confirm_elsewhere(UUID(name) for name in heard.payload.split())
                else:
                    grown.add(heard.payload)


def _served(opened: OpenLedger, writer: Writer) -> tuple[asyncio.Task[None], ...]:
    """Begin to keep a ledger's promises stocked, and to tell its log what was asked for."""
    tallying = Tallying(opened.id, opened.serving.holds.worker, opened.serving.tally)
    return (
        asyncio.create_task(opened.serving.keep_stocked(writer), name=f"stock of {opened.id}"),
        asyncio.create_task(tallying.keep(writer), name=f"tally of {opened.id}"),
    )


async def _listen(connection: Connection, wanted: Mapping[str, Holds], listening: dict[str, Holds]) -> None:
    for channel in wanted.keys() - listening.keys():
        await connection.execute(f"LISTEN {channel}")
        listening[channel] = wanted[channel]


async def _refresh(connection: Connection, each: OpenLedger) -> None:
    await see(connection, each.id)
    try:
        await each.serving.refresh(connection)
    except msgspec.DecodeError as error:
        # An entry that only a newer program can read: what is known goes on being served.
        log.warning("serving snapshot is not refreshed", ledger=str(each.id), error=repr(error))
