"""Traffic: clients that ask and report through whatever befalls the service, and remember what they were answered."""

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from threading import Event, Lock
from time import monotonic
from typing import Any, Final, NamedTuple
from uuid import uuid4

import httpx
import msgspec

from domain.delivery import Ticket
from tests.api.pages import Page, new_page
from tests.world import World

AD_SLOTS: Final = 6
COMMANDERS: Final = 2
REQUEST_SECONDS_MAX: Final = 40
"""More than the service may ever take to answer."""

PAUSE_SECONDS: Final = 0.02
ANSWERS_MIN: Final = 150
PRICE_MICROS: Final = 5_000
LIMITS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"impression_budget": 150},
    {"budget_micros": 100 * PRICE_MICROS},
    {"daily_impression_budget": 120, "impression_budget": 100_000},
    {"daily_budget_micros": 80 * PRICE_MICROS, "budget_micros": 100_000 * PRICE_MICROS},
    {"pricing": {"model": "cpc", "price_micros": 400}, "budget_micros": 50 * 400},
)
"""One campaign each, of which the limited ones are sold out within seconds of traffic."""

ANSWERS: Final = {"i": 204, "v": 204, "c": 302}


class Command(NamedTuple):
    """A command that is sent under an idempotency key: an advertiser that is entered, or a campaign that is renamed."""

    method: str
    path: str
    body: dict[str, str]
    status: int


@dataclass
class Traffic:
    """What was asked in the life of a ledger: answered, or still without an answer and to be asked again."""

    answered: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    receipts: dict[str, dict[str, Any]] = field(default_factory=dict)
    unanswered: dict[str, Command] = field(default_factory=dict)
    troubles: Counter[str] = field(default_factory=Counter)
    slowest_seconds: float = 0.0
    slowest_beacon_seconds: float = 0.0
    answered_before: int = 0
    random: Random = field(default_factory=Random)
    lock: Lock = field(default_factory=Lock)
    stopped: Event = field(default_factory=Event)

    @contextmanager
    def flowing(self, page: Page, *, ad_slots: int = AD_SLOTS, commanders: int = COMMANDERS) -> Iterator[None]:
        """Play ad slots and people at work; at the end they stop, and what they were not answered stays open."""
        self.stopped.clear()
        self.troubles.clear()
        self.slowest_seconds = self.slowest_beacon_seconds = 0.0
        self.answered_before = len(self.answered)
        campaigns = [page.world.campaign() for _ in range(commanders)]
        with ThreadPoolExecutor(ad_slots + commanders) as threads:
            playing = [threads.submit(self._show, page) for _ in range(ad_slots)]
            playing += [threads.submit(self._command, page.world, each) for each in campaigns]
            try:
                yield
            finally:
                self.stopped.set()
                for each in playing:
                    each.result()  # first of all: what a client was wrongly answered says more than what did not come

    def new_answers(self) -> int:
        """Return how many beacons were answered since the traffic began to flow."""
        return len(self.answered) - self.answered_before

    def is_under_way(self, answers: int = ANSWERS_MIN) -> bool:
        """Tell whether much was answered, and beacons and commands are on their way at this moment."""
        return self.new_answers() >= answers and len(self.open) > 1 and bool(self.unanswered)

    def send(self, client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Send a request; None when there is no answer, or one that says when to try again."""
        started = monotonic()
        try:
            answer = client.request(method, path, **options)
        except httpx.TransportError as error:
            self._trouble(type(error).__name__)
            return None
        finally:
            took_seconds = monotonic() - started
            self.slowest_seconds = max(self.slowest_seconds, took_seconds)
            if method == "GET":
                self.slowest_beacon_seconds = max(self.slowest_beacon_seconds, took_seconds)
        if answer.status_code == 503:
            assert int(answer.headers["Retry-After"]) >= 1
            self._trouble("503")
            return None
        return answer

    def beacon(self, client: httpx.Client, token: str) -> None:
        """Report what a token says, and remember whether it was answered."""
        with self.lock:
            if token not in self.answered:
                self.open.add(token)
        answer = self.send(client, "GET", f"/ads/v1/{token[0]}/{token}")
        if answer is not None:
            assert answer.status_code == ANSWERS[token[0]], answer.text
            with self.lock:
                self.open.discard(token)
                self.answered.add(token)

    def ask(self, client: httpx.Client, key: str, command: Command) -> None:
        """Send a command, for the first time or again, and keep its receipt; it is always the same."""
        with self.lock:
            if key not in self.receipts:
                self.unanswered[key] = command
        answer = self.send(client, command.method, command.path, json=command.body, headers={"Idempotency-Key": key})
        if answer is not None:
            assert answer.status_code == command.status, answer.text
            with self.lock:
                self.unanswered.pop(key, None)
                assert self.receipts.setdefault(key, answer.json()) == answer.json()

    def _trouble(self, name: str) -> None:
        with self.lock:
            self.troubles[name] += 1
        self.stopped.wait(PAUSE_SECONDS)

    def _show(self, page: Page) -> None:
        body = {"id": "r", "placements": [{"id": "p", "slot_id": page.slot_id, "count": 3}]}
        headers = {"Authorization": page.ads.headers["Authorization"]}
        with page.world.service.client(headers=headers, timeout=REQUEST_SECONDS_MAX) as client:
            while not self.stopped.is_set():
                decided = self.send(client, "POST", "/ads/v1/decisions", json=body)
                if decided is None:
                    continue
                assert decided.status_code == 200, decided.text
                for token in self._tokens(decided.json()["decisions"][0]["ads"]):
                    if self.stopped.is_set():
                        return
                    self.beacon(client, token)

    def _tokens(self, ads: Sequence[dict[str, Any]]) -> list[str]:
        """Return what becomes of creatives, in an order that nobody would wish for: some twice, some never."""
        names = [("impression_url", 0.9), ("view_url", 0.2), ("click_url", 0.3), ("impression_url", 0.1)]
        tokens = [token_of(ad[name]) for ad in ads for name, share in names if self.random.random() < share]
        self.random.shuffle(tokens)
        return tokens

    def _command(self, world: World, campaign_id: str) -> None:
        headers = {"Authorization": world.admin.headers["Authorization"]}
        with world.service.client(headers=headers, timeout=REQUEST_SECONDS_MAX) as client:
            while not self.stopped.is_set():
                key = str(uuid4())
                enter = Command("POST", "/api/v1/advertisers", {"name": key}, 201)
                rename = Command("PATCH", f"/api/v1/campaigns/{campaign_id}", {"name": key}, 200)
                self.ask(client, key, self.random.choice((enter, rename)))


def market(world: World) -> Page:
    """Set up a slot, and for it campaigns with every kind of limit; all are served once this returns."""
    page = new_page(world)
    for limits in LIMITS:
        page.campaign(**limits)
    page.known()
    page.served()
    return page


def token_of(url: str) -> str:
    """Return the token that a beacon's URL carries."""
    return url.rpartition("/")[2]


def ticket_of(token: str) -> Ticket:
    """Return what a token promises, whoever has signed it."""
    raw = base64.urlsafe_b64decode(token[1:] + "=" * (-len(token[1:]) % 4))
    return msgspec.msgpack.decode(raw[1:-16], type=Ticket)
