"""The pacer of a worker: from figures of a second ago, how each campaign that is spread evenly is to be delivered.

What traffic to expect is learned of the last four weeks, and learned anew every ten minutes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from time import monotonic
from typing import Final, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from domain.choosing import Candidate, Snapshot
from domain.dayparts import Hours
from domain.holds import Holds
from domain.pacing import Delivered, Pace, pace, portions
from domain.terms import CampaignTerms
from domain.traffic import CELL_SECONDS, HOUR_SECONDS, Curve, Shape, curve, either, learned, openings, together
from domain.values import flight, local_date
from infra.database import Connection
from projections import figures
from projections.figures import Spent

LOOK_EVERY_SECONDS: Final = 1.0
LEARN_SECONDS: Final = 600.0
LEARNED_OF: Final = timedelta(weeks=4)
REST: Final = 10
"""A worker with so many campaigns that looking takes long looks less often: so many times as long passes in between."""

Dayparts = frozenset[tuple[Hours, ...]]
"""For each creative the hours that it, and its campaign, may be shown in."""


class Plan(NamedTuple):
    """What pacing a campaign takes: its terms, its flight, and when and where it may be shown."""

    terms: CampaignTerms
    flight: tuple[int, int | None]
    clock: ZoneInfo | None
    dayparts: Dayparts
    slots: frozenset[UUID]


class Pacer:
    """How the campaigns of a snapshot are paced; what a worker may promise of them is counted down here."""

    def __init__(self) -> None:
        """Begin with nothing to pace."""
        self._plans: Mapping[UUID, Plan] = {}
        self._shapes: Mapping[UUID, Shape] = {}
        self._curves: dict[tuple[frozenset[UUID], Dayparts, ZoneInfo | None], Curve] = {}
        self._left: dict[UUID, int] = {}
        self._learn_at = 0.0
        self._look_at = 0.0

    def know(self, plans: Mapping[UUID, Plan]) -> None:
        """Pace these campaigns from now on, and look at them at once."""
        self._plans = plans
        self._look_at = 0.0

    def is_due(self, tick: float) -> bool:
        """Tell whether it is time to look at the figures again."""
        return bool(self._plans) and tick >= self._look_at

    def take(self, campaign_id: UUID, impressions: int = 1) -> bool:
        """Count impressions that are about to be promised; False when as many are promised as may be for now."""
        left = self._left.get(campaign_id, 1)
        if left <= 0:
            return False
        self._left[campaign_id] = left - impressions
        return True

    def give_back(self, campaign_id: UUID, impressions: int) -> None:
        """Take impressions for not promised, if they are paced; to be called before the next await."""
        if campaign_id in self._left:
            self._left[campaign_id] += impressions

    async def look(self, connection: Connection, ledger_id: UUID, holds: Holds, now: datetime) -> Mapping[UUID, Pace]:
        """Return how each campaign is to be delivered until the next look."""
        started = monotonic()
        if self._plans and started >= self._learn_at:
            await self._learn(connection, ledger_id, now)
        spent = await figures.read_spent(connection, ledger_id, self._plans) if self._plans else {}
        workers = await figures.count_workers(connection, ledger_id) if self._plans else 0
        held = {campaign_id: holds.part_held(campaign_id) for campaign_id in spent}
        # In a thread, so that requests are answered meanwhile.
        paces = await asyncio.to_thread(self._paces, spent, held, int(now.timestamp()), workers) if spent else {}
        self._left = {campaign_id: each.allowance for campaign_id, each in paces.items()}
        self._look_at = monotonic() + max(LOOK_EVERY_SECONDS, REST * (monotonic() - started))
        return paces

    def _paces(
        self, spent: Mapping[UUID, Spent], held: Mapping[UUID, float], second: int, workers: int
    ) -> dict[UUID, Pace]:
        paces = {}
        for campaign_id, plan in self._plans.items():
            known = spent.get(campaign_id)
            if known is not None:
                day, begins, ends = _day(plan.terms.timezone, second // CELL_SECONDS)
                is_today = known.day >= day
                delivered = Delivered(
                    impressions=known.impressions,
                    micros=known.spent_micros,
                    day_impressions=known.day_impressions if is_today else 0,
                    day_micros=known.day_spent_micros if is_today else 0,
                    held=known.leased_impressions * held[campaign_id],
                )
                kept_to = portions(plan.terms, delivered, flight=plan.flight, day=(begins, ends))
                if kept_to:
                    paces[campaign_id] = pace(kept_to, self._curve(plan, second), second, workers=workers)
        return paces

    async def _learn(self, connection: Connection, ledger_id: UUID, now: datetime) -> None:
        until = now.replace(minute=0, second=0, microsecond=0)
        asked = await figures.read_asked(connection, ledger_id, until - LEARNED_OF, until)
        last_hour = int(until.timestamp()) // HOUR_SECONDS
        self._shapes = {each.slot_id: learned(each.requests, each.first_hour, last_hour) for each in asked}
        self._curves = {}
        self._learn_at = monotonic() + LEARN_SECONDS

    def _curve(self, plan: Plan, second: int) -> Curve:
        key = (plan.slots, plan.dayparts, plan.clock)
        found = self._curves.get(key)
        if found is None:
            ahead = datetime.fromtimestamp(second, plan.clock).utcoffset() or timedelta(0)
            open_parts = either([openings(hours, int(ahead.total_seconds())) for hours in plan.dayparts])
            shapes = [self._shapes[slot_id] for slot_id in plan.slots if slot_id in self._shapes]
            found = self._curves[key] = curve(together(shapes), open_parts)
        return found


def plans(snapshot: Snapshot, began: Mapping[UUID, int]) -> dict[UUID, Plan]:
    """Return what pacing takes of each campaign that is spread evenly; `began` says when each was first activated."""
    slots: dict[UUID, set[UUID]] = defaultdict(set)
    candidates: dict[UUID, dict[UUID, Candidate]] = defaultdict(dict)
    slots_of = defaultdict(set)
    for slot_id, lineup in snapshot.lineups.items():
        slots_of[id(lineup)].add(slot_id)
    for lineup in {id(each): each for each in snapshot.lineups.values()}.values():
        for candidate in lineup.candidates:
            if candidate.campaign.pacing == "even":
                slots[candidate.campaign_id] |= slots_of[id(lineup)]
                candidates[candidate.campaign_id][candidate.creative_id] = candidate
    return {
        campaign_id: _plan(list(of_campaign.values()), slots[campaign_id], began.get(campaign_id, 0))
        for campaign_id, of_campaign in candidates.items()
    }


def _plan(candidates: Sequence[Candidate], slots: Collection[UUID], began: int) -> Plan:
    terms = candidates[0].campaign
    last_day = min((day for day in (terms.end_date, terms.expiry_date) if day is not None), default=None)
    start, end = flight(terms.start_date, last_day, terms.timezone)
    return Plan(
        terms=terms,
        flight=(max(int(start.timestamp()), began), None if end is None else int(end.timestamp())),
        clock=candidates[0].timezone,
        dayparts=frozenset(candidate.hours for candidate in candidates),
        slots=frozenset(slots),
    )


@lru_cache(maxsize=1_024)
def _day(timezone: str, quarter: int) -> tuple[date, int, int]:
    """Return the local date of a quarter of an hour since 1970, and the seconds in which it begins and ends.

    In every time zone a day begins with a full quarter of an hour of UTC.
    """
    day = local_date(datetime.fromtimestamp(quarter * CELL_SECONDS, UTC), timezone)
    start, end = flight(day, day, timezone)
    assert end is not None  # noqa: S101  it is a flight of one day
    return day, int(start.timestamp()), int(end.timestamp())
