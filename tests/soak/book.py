"""A second reading of the log: every entry once, in order, checked against all that came before it.

It shares no code with the service. Whatever a test asked for must be found here exactly once; and at every position the
book sees to it that nothing was skipped, counted twice, or billed beyond a limit.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import psycopg

from tests.soak.wrong import Wrong

LIMITS: Final = ("budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget")
TALLIED: Final = "requests_tallied"
KINDS: Final = {"impression_recorded": "impression", "view_recorded": "view", "click_recorded": "click"}
INVALID: Final = "invalid "
STATUS_AFTER: Final = {
    "campaign_activated": "active",
    "campaign_paused": "paused",
    "campaign_completed": "completed",
    "campaign_expired": "expired",
    "campaign_archived": "inactive",
    "creative_activated": "active",
    "creative_paused": "paused",
    "creative_archived": "inactive",
}
UNSAID: Final[Mapping[str, Mapping[str, Any]]] = {
    "advertiser_created": {"status": "active"},
    "campaign_created": {"timezone": "UTC", "priority": 3, "targeting": []},
    "creative_created": {"alt_text": "", "weight": 1},
    "slot_created": {"status": "active", "floor_cpm_micros": 0},
}
"""What something is that its first entry does not say, because it is as usual; null is left unsaid, too."""

REVIEW_AFTER: Final = {"creative_submitted": "pending", "creative_approved": "approved", "creative_denied": "denied"}

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_READ: Final = (
    "SELECT position, version, stream_id, type, entry::text FROM events WHERE position > %s ORDER BY position"
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log."""

    position: int
    stream: str
    version: int
    type: str
    actor: str
    occurred_at: datetime
    recorded_at: datetime
    key: str | None
    event: Mapping[str, Any]

    @property
    def subject(self) -> str:
        """The id of what its stream is about."""
        return self.stream.partition("-")[2]


@dataclass
class Thing:
    """An advertiser, campaign, creative or slot as it stands, and the entries that led there."""

    fields: dict[str, Any]
    entries: list[Entry]
    status: str = "draft"
    review: str = "unsubmitted"

    @property
    def version(self) -> int:
        """The version of its stream."""
        return len(self.entries)


@dataclass
class Sums:
    """What was counted and billed of a campaign, in all and on the last day of its time zone."""

    impressions: int = 0
    billed_impressions: int = 0
    views: int = 0
    clicks: int = 0
    billed_clicks: int = 0
    spent_micros: int = 0
    day: date = date.min
    day_billed_impressions: int = 0
    day_spent_micros: int = 0

    def used(self) -> Mapping[str, int]:
        """Return what stands against each limit."""
        used = (self.spent_micros, self.day_spent_micros, self.billed_impressions, self.day_billed_impressions)
        return dict(zip(LIMITS, used, strict=True))


@dataclass
class Book:
    """The log as it was read so far."""

    url: str
    position: int = 0
    recorded_at: datetime = BEGINNING
    things: dict[str, Thing] = field(default_factory=dict)
    sums: dict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))
    delivered: dict[str, dict[str, Entry]] = field(default_factory=lambda: defaultdict(dict))
    lines: dict[tuple[str, ...], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0, 0, 0]))
    keys: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _connection: psycopg.Connection[Any] | None = None

    def read(self) -> list[Entry]:
        """Take in what the log has gained, and return it but for tallies and who was let in.

        Raises Wrong where it cannot be right.
        """
        found = []
        for position, version, stream, kind, text in self.rows(_READ, self.position):
            entry = _entry(position, text)
            if (entry.stream, entry.version, entry.type) != (stream, version, kind):
                raise Wrong(f"position {position}: the columns say {stream} {version} {kind}", text)
            self._take(entry)
            # Workers tell tallies by themselves, when it is time, and people sign in whenever a token ends.
            if kind != TALLIED and not stream.startswith("access-"):
                found.append(entry)
        return found

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        if self._connection is None:
            self._connection = psycopg.connect(self.url, autocommit=True)
        return self._connection.execute(query.encode(), parameters).fetchall()

    def close(self) -> None:
        """Let go of the database; the next reading asks for it anew."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def of(self, kind: str, thing_id: str) -> Thing:
        """Return an advertiser, campaign, creative or slot."""
        return self.things[f"{kind}-{thing_id}"]

    def kinds(self) -> set[str]:
        """Return what was delivered of any decision: impressions, views, clicks."""
        return {kind for kinds in self.delivered.values() for kind in kinds}

    def creatives_of(self, campaigns: Iterable[str]) -> Iterator[tuple[str, Thing]]:
        """Yield the creatives of campaigns."""
        wanted = set(campaigns)
        for stream, thing in self.things.items():
            if stream.startswith("creative-") and thing.fields["campaign_id"] in wanted:
                yield stream.partition("-")[2], thing

    def _take(self, entry: Entry) -> None:
        if entry.position != self.position + 1:
            raise Wrong(f"position {entry.position} follows {self.position}")
        if entry.recorded_at < self.recorded_at:
            raise Wrong(f"position {entry.position} was recorded before {self.recorded_at}", entry)
        self.position, self.recorded_at = entry.position, entry.recorded_at
        if entry.type in KINDS:
            self._deliver(entry)
        else:
            self._decide(entry)

    def _decide(self, entry: Entry) -> None:
        if entry.key is not None:
            self.keys[entry.key].append(entry.stream)
        thing = self.things.setdefault(entry.stream, Thing({}, []))
        if entry.version != thing.version + 1:
            raise Wrong(f"position {entry.position}: version {entry.version} follows {thing.version}", entry)
        thing.entries.append(entry)
        thing.status = STATUS_AFTER.get(entry.type, thing.status)
        thing.review = REVIEW_AFTER.get(entry.type, thing.review)
        if entry.type.endswith(("_created", "_changed")):
            thing.fields.update(UNSAID.get(entry.type, {}))
            thing.fields.update({name: value for name, value in entry.event.items() if name != "type"})
        if entry.type.startswith("campaign_"):
            self._check_limits(entry, entry.subject)

    def _deliver(self, entry: Entry) -> None:
        kind, event = KINDS[entry.type], entry.event
        known = self.delivered[entry.subject]
        name = name_of(entry)
        if {name, kind} & known.keys() or entry.version != len(known) + 1:
            raise Wrong(f"position {entry.position}: a {name} after {sorted(known)}", entry)
        if event["billed"] != (event.get("reason") is None):
            raise Wrong(f"position {entry.position}: billed, or why not?", entry)
        known[name] = entry
        campaign_id = event["campaign_id"]
        sums = self.sums[campaign_id]
        price = price_of(kind, self.of("campaign", campaign_id).fields["pricing"], sums)
        if event["price_micros"] != price:
            raise Wrong(f"position {entry.position}: a {kind} costs {price}", entry)
        self._count(entry, kind, sums)
        if event["billed"]:
            self._check_limits(entry, campaign_id)

    def _count(self, entry: Entry, kind: str, sums: Sums) -> None:
        event = entry.event
        billed, spent = event["billed"], event["price_micros"] if event["billed"] else 0
        day = self.day_of(event["campaign_id"], entry.recorded_at)
        if day > sums.day:
            sums.day, sums.day_billed_impressions, sums.day_spent_micros = day, 0, 0
        valid = not is_invalid(entry)
        sums.impressions += kind == "impression" and valid
        sums.billed_impressions += kind == "impression" and billed
        sums.day_billed_impressions += kind == "impression" and billed
        sums.views += kind == "view" and valid
        sums.clicks += kind == "click" and valid
        sums.billed_clicks += kind == "click" and billed
        sums.spent_micros += spent
        sums.day_spent_micros += spent
        hour = entry.occurred_at.replace(minute=0, second=0, microsecond=0).isoformat()
        places = (event.get("country") or "", event.get("region") or "", event.get("city") or "")
        who = (event["campaign_id"], event["creative_id"], event["advertiser_id"], event["slot_id"])
        line = self.lines[hour, *who, *places, event["currency"], event.get("reason") or ""]
        for number, add in enumerate((kind == "impression", kind == "view", kind == "click", spent)):
            line[number] += add

    def day_of(self, campaign_id: str, moment: datetime) -> date:
        """Return the date of a moment in the time zone of a campaign."""
        return moment.astimezone(ZoneInfo(self.of("campaign", campaign_id).fields["timezone"])).date()

    def room(self, campaign_id: str, price: int, impressions: int, moment: datetime) -> bool:
        """Tell whether a delivery would be within every limit of a campaign, if nothing were leased."""
        sums, fields = self.sums[campaign_id], self.of("campaign", campaign_id).fields
        used = dict(sums.used())
        if self.day_of(campaign_id, moment) > sums.day:
            used |= dict.fromkeys(("daily_budget_micros", "daily_impression_budget"), 0)
        takes = dict(zip(LIMITS, (price, price, impressions, impressions), strict=True))
        limits = {name: fields[name] for name in LIMITS if fields.get(name) is not None and takes[name]}
        return all(used[name] + takes[name] <= limit for name, limit in limits.items())

    def _check_limits(self, entry: Entry, campaign_id: str) -> None:
        fields = self.of("campaign", campaign_id).fields
        for name, used in self.sums[campaign_id].used().items():
            limit = fields.get(name)
            if limit is not None and used > limit and not (name.startswith("daily") and self._is_new_day(entry)):
                raise Wrong(f"position {entry.position}: {used} of {name} {limit} are used", entry)

    def _is_new_day(self, entry: Entry) -> bool:
        return entry.type not in KINDS and self.day_of(entry.subject, entry.recorded_at) > self.sums[entry.subject].day


def is_invalid(entry: Entry) -> bool:
    """Tell whether an entry says that a delivery is invalid."""
    return str(entry.event.get("reason") or "").startswith("invalid:")


def name_of(entry: Entry) -> str:
    """Return the name of a delivery, of which a decision has one; invalid ones have names of their own."""
    kind = KINDS.get(entry.type, entry.type)
    return f"{INVALID}{kind}" if is_invalid(entry) else kind


def price_of(kind: str, pricing: Mapping[str, Any], sums: Sums) -> int:
    """Return what a delivery of a campaign costs, in micros."""
    price = int(pricing["price_micros"])
    match kind, pricing["model"]:
        case "impression", "cpm":
            return price // 1_000
        case "impression", "flat":
            return 0 if sums.billed_impressions else price
        case "click", "cpc":
            return price
        case _:
            return 0


def _entry(position: int, text: str) -> Entry:
    raw = msgspec.json.decode(text)
    return Entry(
        position=position,
        stream=raw["stream"],
        version=raw["version"],
        type=raw["event"]["type"],
        actor=raw["actor"],
        occurred_at=datetime.fromisoformat(raw["occurred_at"]).astimezone(UTC),
        recorded_at=datetime.fromisoformat(raw["recorded_at"]).astimezone(UTC),
        key=raw.get("idempotency_key"),
        event=raw["event"],
    )
