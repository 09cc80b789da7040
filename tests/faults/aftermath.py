"""The aftermath: what has to be true of a ledger after whatever befell the service, stated once for every fault.

    traffic = Traffic()
    page = market(world)
    with traffic.flowing(page):
        ...  # the fault, and that it occurred
    aftermath(page.world, traffic)

The service has to run and be reachable by then, after a restart where the fault calls for one. `traffic` is all that
was asked in the life of the ledger: keep one and hand it in after each of many faults. What was not answered is asked
again, with the same token or idempotency key. Money, positions and deliveries are counted here from the bare entries of
the log, and not by the code that is tested.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from time import monotonic, sleep
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx
import msgspec
import psycopg
from psycopg.rows import dict_row

from projections import rebuild
from projections.catalogue import PROJECTIONS
from tests.faults.traffic import Traffic, ticket_of
from tests.world import World

ANSWER_SECONDS_MAX: Final = 30
"""For so long after a fault the service may say that it cannot answer yet."""

CATCH_UP_SECONDS_MAX: Final = 30
TOKENS_PER_REQUEST: Final = 500
REPEATED_MAX: Final = 1_000
"""Of what was answered so many of the latest are asked again, to see that nothing comes of it."""

KINDS: Final = {"i": "impression_recorded", "v": "view_recorded", "c": "click_recorded"}
LIMITS: Final = ("budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget")

_READ_EVENTS: Final = """
    SELECT position, stream_id, version, type, recorded_at, entry::text AS entry
    FROM events JOIN ledgers USING (ledger_id) ORDER BY position
"""

_READ_BEHIND: Final = """
    SELECT projection FROM checkpoints JOIN ledger_heads AS head USING (ledger_id)
    WHERE checkpoints.position < head.command_position
        OR projection IN ('budgets', 'delivery') AND checkpoints.position < head.position
"""


@dataclass
class Account:
    """What one campaign, or the funds of one advertiser, may spend and has spent."""

    timezone: str = "UTC"
    currency: str | None = None
    limits: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(LIMITS))
    spent_micros: int = 0
    impressions: int = 0
    day: date = date.min
    day_spent_micros: int = 0
    day_impressions: int = 0

    def turn(self, moment: datetime) -> None:
        """Begin a new day, if one has begun."""
        day = moment.astimezone(ZoneInfo(self.timezone)).date()
        if day > self.day:
            self.day, self.day_spent_micros, self.day_impressions = day, 0, 0

    def charge(self, micros: int, impressions: int) -> None:
        """Take what was billed."""
        self.spent_micros += micros
        self.day_spent_micros += micros
        self.impressions += impressions
        self.day_impressions += impressions

    def beyond(self, micros: int = 0, impressions: int = 0) -> list[str]:
        """Return the limits that what was billed, and so much that is set aside, are beyond."""
        used = (
            self.spent_micros + micros,
            self.day_spent_micros + micros,
            self.impressions + impressions,
            self.day_impressions + impressions,
        )
        limits = [self.limits[name] for name in LIMITS]
        return [
            f"{name} {limit} < {taken}"
            for name, limit, taken in zip(LIMITS, limits, used, strict=True)
            if limit is not None and limit < taken
        ]


@dataclass
class Counted:
    """What the entries of a log say."""

    position: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    delivered: dict[tuple[str, str], int] = field(default_factory=dict)
    entered: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    recorded_at: datetime | None = None
    unbilled: Counter[str] = field(default_factory=Counter)
    invalid: set[tuple[str, str]] = field(default_factory=set)

    def take(self, row: dict[str, Any]) -> None:
        """Count one entry; what must never be is said at once."""
        at = row["position"]
        assert at == self.position + 1, f"positions between {self.position} and {at} are missing"
        self.position = at
        self.versions[row["stream_id"]] += 1
        assert row["version"] == self.versions[row["stream_id"]], f"version {row['version']} at {at} is out of order"
        assert self.recorded_at is None or self.recorded_at <= row["recorded_at"], f"time runs backwards at {at}"
        self.recorded_at = row["recorded_at"]
        entry: dict[str, Any] = msgspec.json.decode(row["entry"])
        event = entry["event"]
        assert (entry["stream"], event["type"]) == (row["stream_id"], row["type"])
        if key := entry.get("idempotency_key"):
            assert key not in self.entered, f"the command under {key} is in the log twice, the second time at {at}"
            subject = entry["stream"].partition("-")[2]
            self.entered[key] = (subject, row["version"], at)
        if row["type"] in KINDS.values():
            self._deliver(row, event)
        elif row["type"].startswith(("campaign_", "funds_")):
            self._limit(row, event)

    def _deliver(self, row: dict[str, Any], event: dict[str, Any]) -> None:
        name = (row["stream_id"].removeprefix("decision-"), row["type"])
        assert name not in self.delivered, f"{name} is in the log twice, the second time at {row['position']}"
        if str(event.get("reason")).startswith("invalid:"):
            assert name not in self.invalid, f"{name} is invalid twice, the second time at {row['position']}"
            self.invalid.add(name)
            self.unbilled[event["reason"]] += 1
            return
        self.delivered[name] = row["position"]
        assert event["billed"] is (event.get("reason") is None)
        if not event["billed"]:
            self.unbilled[event["reason"]] += 1
            return
        funds = self.accounts.get(event["advertiser_id"])
        paid_by = {event["campaign_id"]: self.accounts[event["campaign_id"]]}
        if funds is not None and funds.currency == event["currency"]:
            paid_by[event["advertiser_id"]] = funds
        for account in paid_by.values():
            account.turn(row["recorded_at"])
            account.charge(event["price_micros"], row["type"] == KINDS["i"])
            _check_limits(account, row)

    def _limit(self, row: dict[str, Any], event: dict[str, Any]) -> None:
        account = self.accounts.setdefault(row["stream_id"].partition("-")[2], Account())
        account.turn(row["recorded_at"])
        if row["type"].startswith("funds_"):
            sign = 1 if row["type"] == "funds_deposited" else -1
            account.limits["budget_micros"] = (account.limits["budget_micros"] or 0) + sign * event["amount_micros"]
        account.timezone = event.get("timezone", account.timezone)
        account.currency = event.get("currency", account.currency)
        account.limits.update({name: event[name] for name in LIMITS if name in event})
        _check_limits(account, row)


def _check_limits(account: Account, row: dict[str, Any]) -> None:
    assert account.beyond() == [], f"beyond {account.beyond()} at position {row['position']}"


def aftermath(world: World, traffic: Traffic) -> Counted:
    """Assert that nothing was lost, doubled, skipped or overspent, before and after what is open is asked again.

    Returns what the log says in the end, for what a fault has to show besides.
    """
    with world.service.database() as url:
        check_log(url, traffic)
        ask_again(world, traffic)
        counted = check_log(url, traffic)
        check_read_models(url, counted)
    check_reports(world, counted)
    return counted


def ask_again(world: World, traffic: Traffic) -> None:
    """Send what was not answered once more, and see that it is taken; and that a third time adds nothing."""
    headers = {"Authorization": world.admin.headers["Authorization"]}
    with world.service.client(headers=headers) as client:
        deadline = monotonic() + ANSWER_SECONDS_MAX
        while traffic.unanswered:
            assert monotonic() < deadline, f"{len(traffic.unanswered)} commands are not answered"
            for key, command in [*traffic.unanswered.items()]:
                traffic.ask(client, key, command)
        lost = sorted(traffic.open)
        answered = sorted(traffic.answered)[-REPEATED_MAX:]
        assert _results(traffic, client, answered) <= {"repeated"}
        assert _results(traffic, client, lost) <= {"recorded", "repeated"}
        assert _results(traffic, client, lost) <= {"repeated"}
    traffic.answered.update(lost)
    traffic.open.clear()


def check_log(url: str, traffic: Traffic) -> Counted:
    """Assert that the log is whole and within all limits, and holds what was answered, and nothing that nobody sent."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        counted = Counted()
        with connection.cursor(name="events") as cursor:
            cursor.itersize = 5_000
            for row in cursor.execute(_READ_EVENTS):
                counted.take(row)
        (head,) = (row["position"] for row in connection.execute("SELECT position FROM ledger_heads"))
        assert head == counted.position, f"the log ends at {counted.position}, its head at {head}"
        _check_budgets(connection, counted)
    sent, answered = (deliveries(tokens) for tokens in (traffic.open | traffic.answered, traffic.answered))
    assert answered - counted.delivered.keys() - counted.invalid == set(), "answered, and not in the log"
    assert (counted.delivered.keys() | counted.invalid) - sent == set(), "in the log, and never sent"
    for key, receipt in traffic.receipts.items():
        assert counted.entered.get(key) == (receipt["id"], receipt["version"], receipt["position"]), key
    assert counted.entered.keys() <= traffic.receipts.keys() | traffic.unanswered.keys()
    return counted


def _check_budgets(connection: psycopg.Connection[dict[str, Any]], counted: Counted) -> None:
    """Assert that the writer's budgets are what was billed, and within every limit together with what is leased."""
    leases: Counter[str] = Counter()
    for row in connection.execute("SELECT campaign_id, impressions FROM leases"):
        assert row["impressions"] >= 0
        leases[str(row["campaign_id"])] += row["impressions"]
    budgets = connection.execute("SELECT * FROM budgets").fetchall()
    funds = {str(row["advertiser_id"]) for row in budgets if row.get("advertiser_id")}
    for row in budgets:
        name = str(row.get("budget_id") or row["campaign_id"])
        account = counted.accounts[name]
        said, right = (row["spent_micros"], row["impressions"]), (account.spent_micros, account.impressions)
        assert said == right, f"of budget {name} {said} is said to be spent, and {right} was billed"
        assert {limit: row[limit] for limit in LIMITS} == account.limits, f"the limits of budget {name}"
        leased = row["leased_impressions"]
        assert name in funds or leased == leases[name], f"of budget {name} {leased} leased, to workers {leases[name]}"
        beyond = account.beyond(row["leased_micros"], leased)
        assert beyond == [], f"with what is leased, budget {name} is beyond {beyond}"


def check_read_models(url: str, counted: Counted) -> None:
    """Assert that every read model, once it has come to the end of the log, is the one that a second replay makes."""
    with psycopg.connect(url, autocommit=True) as connection:
        deadline = monotonic() + CATCH_UP_SECONDS_MAX
        while behind := connection.execute(_READ_BEHIND).fetchall():
            assert monotonic() < deadline, f"{behind} did not come to the end of the log"
            sleep(0.02)
        assert connection.execute("SELECT count(*) FROM parked_events").fetchone() == (0,)
        delivered = connection.execute("SELECT sum(impressions), sum(views), sum(clicks) FROM deliveries").fetchone()
    kinds = Counter(kind for _, kind in (*counted.delivered, *counted.invalid))
    assert [total or 0 for total in delivered or ()] == [kinds[kind] for kind in KINDS.values()]
    for projection in PROJECTIONS:
        compared = asyncio.run(rebuild.compare(url, projection, lambda _: None))
        assert compared.differences == [], projection.name
        assert compared.live == compared.anew


def check_reports(world: World, counted: Counted) -> None:
    """Assert that people read over HTTP what the log says was billed."""
    cursor: dict[str, str] = {}
    while True:
        page = world.get("reports/budgets", limit=500, **cursor)
        for line in page["items"]:
            account = counted.accounts[line["campaign_id"]]
            said = (line["spent_micros"], line["billed_impressions"])
            assert said == (account.spent_micros, account.impressions), line["campaign_id"]
        if page["next_cursor"] is None:
            return
        cursor = {"cursor": page["next_cursor"]}


def _results(traffic: Traffic, client: httpx.Client, tokens: Sequence[str]) -> set[str]:
    found: set[str] = set()
    deadline = monotonic() + ANSWER_SECONDS_MAX
    for first in range(0, len(tokens), TOKENS_PER_REQUEST):
        body = {"tokens": tokens[first : first + TOKENS_PER_REQUEST]}
        while (answer := traffic.send(client, "POST", "/ads/v1/events", json=body)) is None:
            assert monotonic() < deadline, "beacons are not answered"
        assert answer.status_code == 200, answer.text
        found |= {result["result"] for result in answer.json()["results"]}
    return found


def deliveries(tokens: Iterable[str]) -> set[tuple[str, str]]:
    """Return the decisions and kinds of events that tokens report."""
    return {(str(ticket_of(token).decision_id), KINDS[token[0]]) for token in tokens}
