"""The second half of the verifier: counts again, from the entries alone, what was delivered and what it cost.

It is written from the meaning of the events, in the standard library, and shares no code with the service whose figures
it checks. What is checked, by name:

structure     entries are events of known types, every stream without a gap, in the order of time
money         at every position, what was billed is within every limit, at its price, and every delivery counts once
reports       budgets and delivery reports are those that the entries lead to
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from os import urandom
from struct import Struct
from struct import error as StructError  # noqa: N812  the standard library names it so
from tempfile import TemporaryFile
from typing import IO, Any, Final
from zoneinfo import ZoneInfo

from infra.verifier import Report

PLAYBACK: Final = {
    "start_recorded": 4,
    "first_quartile_recorded": 5,
    "midpoint_recorded": 6,
    "third_quartile_recorded": 7,
    "complete_recorded": 8,
    "error_recorded": 9,
}
CONVERSION: Final = "conversion_recorded"
DELIVERIES: Final = {"impression_recorded": 1, "view_recorded": 2, "click_recorded": 3, **PLAYBACK, CONVERSION: 10}
TYPES: Final = {
    *DELIVERIES,
    *("advertiser_created", "advertiser_changed", "funds_deposited", "funds_withdrawn"),
    *("legal_hold_placed", "legal_hold_lifted", "personal_data_erased"),
    *("campaign_created", "campaign_changed", "campaign_activated", "campaign_paused", "campaign_completed"),
    *("campaign_expired", "campaign_archived"),
    *("budget_requested", "budget_confirmed", "budget_refused", "budget_policy_set"),
    *("creative_created", "creative_changed", "creative_submitted", "creative_approved", "creative_denied"),
    *("creative_activated", "creative_paused", "creative_archived"),
    *("slot_created", "slot_changed", "slot_key_issued", "slot_key_revoked"),
    *("requests_tallied", "log_key_replaced", "projection_compared"),
    *("signed_in", "sessions_ended", "access_refused", "exported"),
    *("organisation_founded", "organisation_changed"),
    *("person_added", "role_changed", "person_deactivated", "person_reactivated", "password_changed"),
    *("email_changed", "invitation_sent", "invitation_withdrawn", "invitation_accepted"),
    *("provider_linked", "provider_unlinked"),
    *("second_factor_enabled", "second_factor_disabled", "second_factor_policy_set"),
    *("api_key_issued", "api_key_revoked", "webhook_secret_issued", "webhook_deleted"),
}
LIMITS: Final = (  # each with what must not exceed it
    ("budget_micros", "spent_micros"),
    ("daily_budget_micros", "day_spent_micros"),
    ("impression_budget", "billed_impressions"),
    ("daily_impression_budget", "day_billed_impressions"),
)
TERMS: Final = ("advertiser_id", "name", "timezone", "currency", "pricing", *(limit for limit, _ in LIMITS))
TOTALS: Final = ("impressions", "billed_impressions", "views", "clicks", "billed_clicks", "spent_micros")
TODAY: Final = ("day_impressions", "day_billed_impressions", "day_clicks", "day_billed_clicks", "day_spent_micros")
THING: Final = ("campaign_id", "creative_id", "advertiser_id", "slot_id")
GROUP: Final = ("day", *THING, "currency", "reason")
PLACE: Final = ("country", "region", "city")
COUNTS: Final = ("impressions", "views", "clicks", "spent_micros")
FURTHER: Final = {kind.replace("_recorded", "s"): kind for kind in (*PLAYBACK, CONVERSION)}
"""The types of what players and advertisers report, by the names under which reports count them."""

VALUE: Final = "conversion_micros"
"""Under what reports say what conversions are worth."""

INVALID: Final = 16
"""How far the numbers of invalid deliveries are from those of valid ones."""

NOTHING: Final[Mapping[str, Any]] = {**dict.fromkeys(TOTALS + TODAY, 0), "day": "0001-01-01"}
IMPRESSIONS_PER_CPM: Final = 1_000

BUCKETS: Final = 64
BUCKET_BUFFER_BYTES: Final = 1 << 16
DAYS_CACHED_MAX: Final = 10_000

Campaign = dict[str, Any]
"""A campaign's terms and limits, and its counts under the names of TOTALS and TODAY."""

Group = tuple[str, ...]
"""What the deliveries of one line of the report have in common: the values of GROUP; `day` is that of UTC."""


class Deliveries:
    """Deliveries by day, creative, slot and reason; hours and places are kept as one number for all of a group.

    That number is a sum of keyed hashes, one for each hour and place, times what was counted there: however many hours
    and places there are, two sets of rows have the same number only if they are the same (but for odds of 2**-64).
    """

    def __init__(self, key: bytes) -> None:
        """Begin with nothing; two of them can be compared when they have the same key, which nobody else knows."""
        self.groups: dict[Group, list[int]] = {}
        self._key = key

    def beside(self) -> "Deliveries":
        """Return deliveries with which these can be compared in detail."""
        return Deliveries(self._key)

    def add(self, group: Group, hour: str, place: Iterable[str], counts: Iterable[int]) -> None:
        """Add what was counted in an hour (UTC, such as 2026-01-31T23) and a place, in the order of COUNTS."""
        sums = self.groups.setdefault(group, [0, 0, 0, 0, 0])
        detail = "\n".join((hour, *place)).encode()
        hashed = blake2b(detail, key=self._key, digest_size=64).digest()
        for at, count in enumerate(counts):
            sums[at] += count
            sums[-1] += count * int.from_bytes(hashed[at * 16 : at * 16 + 8], "little")


def _is_invalid(event: Mapping[str, Any]) -> bool:
    return (event.get("reason") or "").startswith("invalid:")


def add_further(said: Deliveries, group: Group, hour: str, row: Mapping[str, Any]) -> None:
    """Add what players and advertisers reported, as a row of a report says it; what is not there was not reported."""
    for name, kind in FURTHER.items():
        value = row.get(VALUE, 0) if kind == CONVERSION else 0
        if (count := row.get(name, 0)) or value:
            said.add((*group, kind), hour, [row[place] for place in PLACE], [count, value])


class Streams:
    """Which version of which stream stands where: on disk, so that memory does not grow with the log."""

    _record = Struct("<16sQIB")

    def __init__(self) -> None:
        """Begin with no stream."""
        self._buckets: list[IO[bytes]] = [
            TemporaryFile(buffering=BUCKET_BUFFER_BYTES)  # noqa: SIM115  `close` closes them
            for _ in range(BUCKETS)
        ]

    def add(self, position: int, stream: str, version: int, event: Mapping[str, Any]) -> None:
        """Note an entry with its event, of which counts what kind of delivery it is, and whether it is invalid."""
        name = blake2b(stream.encode(), digest_size=16).digest()
        code = DELIVERIES.get(event["type"], 0)
        code += INVALID if code and _is_invalid(event) else 0
        self._buckets[name[0] % BUCKETS].write(self._record.pack(name, position, version, code))

    def finish(self, report: Report) -> None:
        """Check that every stream's versions are 1, 2, 3 and so on, and that it has each kind of delivery once.

        Before that, it may have been there once as an invalid one.
        """
        for bucket in self._buckets:
            bucket.seek(0)
            last: dict[bytes, tuple[int, int]] = {}
            for name, position, version, code in self._records(bucket):
                before, seen = last.get(name, (0, 0))
                if version != before + 1:
                    detail = f"version {version} of its stream follows version {before}"
                    report.wrong("structure", detail, position)
                if code and (seen >> code & 1 or seen >> code % INVALID & 1):
                    report.wrong("money", "the same delivery was counted before", position)
                last[name] = (version, seen | 1 << code)
            report.checked["structure"] += len(last)

    def close(self) -> None:
        """Forget everything."""
        for bucket in self._buckets:
            bucket.close()

    def _records(self, bucket: IO[bytes]) -> Iterator[tuple[Any, ...]]:
        while chunk := bucket.read(self._record.size * 4_096):
            yield from self._record.iter_unpack(chunk)


class Recount:
    """What the entries so far lead to; what is on disk for it lasts until it is closed."""

    def __init__(self, report: Report) -> None:
        """Begin before the first entry."""
        self.campaigns: dict[str, Campaign] = {}
        self.funds: dict[str, dict[str, Any]] = {}
        self.deliveries = Deliveries(urandom(32))
        self.requests = self.deliveries.beside()
        self.further = self.deliveries.beside()
        self._report = report
        self._streams = Streams()
        self._time = datetime.min.replace(tzinfo=UTC)
        self._zones: dict[str, ZoneInfo] = {}
        self._days: dict[tuple[str, str], str] = {}

    def add(self, position: int, entry: bytes) -> dict[str, Any] | None:
        """Count the next entry, and return what it says, unless it says nothing that can be understood."""
        try:
            said: dict[str, Any] = json.loads(entry)
            event = said["event"]
            kind = event["type"]
            recorded_at = datetime.fromisoformat(said["recorded_at"])
            self._streams.add(position, said["stream"], said["version"], event)
            if kind not in TYPES:
                self._report.wrong("structure", f"an event of the type {kind} is not known", position)
            if recorded_at < self._time:
                detail = f"it was recorded at {recorded_at}, before the entry before it"
                self._report.wrong("structure", detail, position)
            self._time = recorded_at
            self._report.checked["structure"] += 1
            if kind in DELIVERIES:
                self._deliver(position, said, event)
            elif kind in {"campaign_created", "campaign_changed"}:
                self._set(position, said, event)
            elif kind in {"funds_deposited", "funds_withdrawn"}:
                self._fund(position, said, event)
            elif kind == "requests_tallied":
                self._tally(event)
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError, StructError) as error:
            self._report.wrong("structure", f"it cannot be understood: {error!r}", position)
            return None
        return said

    def finish(self) -> None:
        """Check what can only be checked at the end."""
        self._streams.finish(self._report)

    def close(self) -> None:
        """Give back what is on disk."""
        self._streams.close()

    def check_budgets(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Compare a report of budgets, a row a campaign, with what the entries lead to."""
        missing = dict(self.campaigns)
        for row in rows:
            self._report.checked["reports"] += 1
            campaign_id = str(row.get("campaign_id"))
            campaign = missing.pop(campaign_id, {})
            for name, said in row.items():
                right = campaign.get(name)
                if said != right:
                    detail = f"the {name} of campaign {campaign_id}: {said!r} is said, {right!r} is right"
                    self._report.wrong("reports", detail, campaign.get("position"))
        for campaign_id, campaign in missing.items():
            self._report.wrong("reports", f"the budget of campaign {campaign_id} is missing", campaign["position"])

    def check_deliveries(self, said: Deliveries) -> None:
        """Compare deliveries with what the entries lead to, also the hours and places in each group."""
        self._compare("deliveries", said, self.deliveries)

    def check_further(self, said: Deliveries) -> None:
        """Compare what players and advertisers reported with what the entries lead to, also the hours and places."""
        self._compare("playback and conversions", said, self.further)

    def check_requests(self, said: Deliveries) -> None:
        """Compare what slots asked for with what the entries lead to, also the hours and countries in each group."""
        self._compare("requests", said, self.requests)

    def _compare(self, what: str, said: Deliveries, entered: Deliveries) -> None:
        right = entered.groups
        for group in sorted(said.groups.keys() | right.keys()):
            self._report.checked["reports"] += 1
            left, expected = said.groups.get(group, [0] * 5), right.get(group, [0] * 5)
            if left[:-1] != expected[:-1]:
                self._report.wrong("reports", f"{what} of {group}: {left[:-1]} are said, {expected[:-1]} are right")
            elif left != expected:
                self._report.wrong("reports", f"{what} of {group}: other hours or places are said")

    def _set(self, position: int, said: dict[str, Any], event: dict[str, Any]) -> None:
        campaign_id = said["stream"].removeprefix("campaign-")
        if event["type"] == "campaign_created":
            new = dict.fromkeys(TERMS) | {"timezone": "UTC", "campaign_id": campaign_id}
            self.campaigns[campaign_id] = {
                **new,
                "created_at": said["recorded_at"],
                **NOTHING,
            }
        campaign = self.campaigns[campaign_id]
        campaign.update({name: event[name] for name in TERMS if name in event}, position=position)
        self._check_limits(position, campaign)

    def _deliver(self, position: int, said: dict[str, Any], event: dict[str, Any]) -> None:
        self._report.checked["money"] += 1
        kind, billed, price = DELIVERIES[event["type"]], event["billed"], event["price_micros"]
        spent = price if billed else 0
        if billed is not (event.get("reason") is None):
            self._report.wrong("money", "it is billed, or else a reason says why not", position)
        hour = said["occurred_at"][:13]
        if not said["occurred_at"].endswith("Z"):
            hour = datetime.fromisoformat(said["occurred_at"]).astimezone(UTC).isoformat()[:13]
        group = (hour[:10], *map(event.__getitem__, THING), event["currency"], event.get("reason") or "")
        if {type(name) for name in group} != {str} or type(price) is not int:
            raise TypeError(price, *group)
        counts = (kind == 1, kind == 2, kind == 3, spent)  # noqa: PLR2004  the kinds are numbered in DELIVERIES
        place = [event.get(name) or "" for name in PLACE]
        self.deliveries.add(group, hour, place, counts)
        if kind > DELIVERIES["click_recorded"]:
            value = event["value_micros"] if event["type"] == CONVERSION else 0
            if type(value) is not int:
                raise TypeError(value)
            self.further.add((*group, event["type"]), hour, place, [1, value])
        campaign = self.campaigns.get(event["campaign_id"])
        if campaign is None:
            if billed:
                self._report.wrong("money", "it is billed to a campaign that there is not", position)
            return
        if billed:
            self._check_price(position, campaign, event)
            self._draw(position, said, kind)
        self._count(campaign, said["recorded_at"], 0 if _is_invalid(event) else kind, billed=billed, spent=spent)
        campaign["position"] = position
        if billed:
            self._check_limits(position, campaign)

    def _tally(self, event: dict[str, Any]) -> None:
        hour = datetime.fromisoformat(event["hour"])
        for line in event["lines"]:
            outcomes = {"": line.get("fills", 0), **line.get("no_fill", {})}
            if {type(count) for count in outcomes.values()} != {int} or min(outcomes.values()) < 0:
                raise ValueError(outcomes)
            for reason, count in outcomes.items():
                if count:
                    group, place = (event["hour"][:10], line["slot_id"], reason), [line.get("country") or ""]
                    self.requests.add(group, f"{hour:%Y-%m-%dT%H}", place, [count])

    def _fund(self, position: int, said: dict[str, Any], event: dict[str, Any]) -> None:
        advertiser_id = said["stream"].removeprefix("advertiser-")
        if type(event["amount_micros"]) is not int or event["amount_micros"] <= 0:
            self._report.wrong("money", f"{event['amount_micros']!r} is no amount", position)
        fresh = {"currency": event["currency"], "timezone": "UTC", "budget_micros": 0, **NOTHING}
        funds = self.funds.setdefault(advertiser_id, fresh)
        funds["budget_micros"] += event["amount_micros"] * (1 if event["type"] == "funds_deposited" else -1)
        if funds["currency"] != event["currency"]:
            self._report.wrong("money", f"the funds of advertiser {advertiser_id} change their currency", position)
        self._check_funds(position, advertiser_id)

    def _draw(self, position: int, said: dict[str, Any], kind: int) -> None:
        event = said["event"]
        funds = self.funds.get(event["advertiser_id"])
        if funds is None:
            return
        if funds["currency"] == event["currency"]:
            self._count(funds, said["recorded_at"], kind, billed=True, spent=event["price_micros"])
        elif event["price_micros"]:
            self._report.wrong("money", "it is billed to funds in another currency", position)
        self._check_funds(position, event["advertiser_id"])

    def _check_funds(self, position: int, advertiser_id: str) -> None:
        funds = self.funds[advertiser_id]
        if funds["spent_micros"] > funds["budget_micros"]:
            detail = f"the {funds['spent_micros']:,} micros spent by advertiser {advertiser_id}"
            self._report.wrong("money", f"{detail} are more than its funds, {funds['budget_micros']:,}", position)

    def _count(self, campaign: Campaign, recorded_at: str, kind: int, *, billed: bool, spent: int) -> None:
        """Count a delivery of a kind, or an invalid one as 0."""
        day = self._day(recorded_at, campaign["timezone"])
        if day > campaign["day"]:
            campaign.update(dict.fromkeys(TODAY, 0), day=day)
        if kind == DELIVERIES["view_recorded"]:
            campaign["views"] += 1
        elif 0 < kind <= DELIVERIES["click_recorded"]:
            name = "impressions" if kind == DELIVERIES["impression_recorded"] else "clicks"
            campaign[name] += 1
            campaign[f"day_{name}"] += 1
            campaign[f"billed_{name}"] += billed
            campaign[f"day_billed_{name}"] += billed
        campaign["spent_micros"] += spent
        campaign["day_spent_micros"] += spent

    def _check_price(self, position: int, campaign: Campaign, event: dict[str, Any]) -> None:
        price = campaign["pricing"]["price_micros"]
        prices = {
            ("impression_recorded", "cpm"): price // IMPRESSIONS_PER_CPM,
            ("impression_recorded", "flat"): 0 if campaign["billed_impressions"] else price,
            ("click_recorded", "cpc"): price,
        }
        expected = prices.get((event["type"], campaign["pricing"]["model"]), 0)
        if event["price_micros"] != expected:
            detail = f"{event['price_micros']:,} micros were billed, where {expected:,} are the price"
            self._report.wrong("money", detail, position)
        for name in ("advertiser_id", "currency"):
            if event[name] != campaign[name]:
                self._report.wrong("money", f"the {name} is not that of its campaign", position)

    def _check_limits(self, position: int, campaign: Campaign) -> None:
        for limit, used in LIMITS:
            if campaign[limit] is not None and campaign[used] > campaign[limit]:
                detail = f"the {used} of campaign {campaign['campaign_id']} are {campaign[used]:,}"
                self._report.wrong("money", f"{detail}, and its {limit} {campaign[limit]:,}", position)

    def _day(self, moment: str, timezone: str) -> str:
        """Return the date of a moment in a time zone; all moments of a minute have the same."""
        key = (moment[:16], timezone)
        day = self._days.get(key)
        if day is None:
            if len(self._days) > DAYS_CACHED_MAX:
                self._days.clear()
            zone = self._zones.setdefault(timezone, ZoneInfo(timezone))
            day = datetime.fromisoformat(moment).astimezone(zone).date().isoformat()
            self._days[key] = day
        return day
