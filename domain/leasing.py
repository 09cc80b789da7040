"""Leases: what of the budgets is set aside for a worker to promise to ad slots, so that no two promise the same.

A worker leases impressions before it promises them. An impression that is confirmed in time is charged to the lease;
one that is not is the worker's to promise again. What a worker leased and never gave back returns when the worker has
been silent for so long that no promise of it can still be open.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.budget import Budget, headroom, leased, on_day

LEASE_SECONDS: Final = 15
"""For how long a worker may promise what it leased without being heard of."""

LeaseKey = tuple[int, UUID]
"""The worker and the campaign of a lease."""


class Want(Struct, frozen=True, kw_only=True):
    """How many impressions of a campaign a worker wants more, or (negative) gives back.

    It would also give back what it `offers`, all but one, if that is more than its share of what is left.
    """

    campaign_id: UUID
    impressions: int
    offers: int = 0


class Leased(NamedTuple):
    """The leases that a worker has of what it asked about, and the budgets that changed."""

    leases: dict[LeaseKey, int]
    budgets: dict[UUID, Budget]


def lease(
    worker: int,
    wants: Iterable[Want],
    *,
    workers: int,
    leases: Mapping[LeaseKey, int],
    budgets: Mapping[UUID, Budget],
    now: datetime,
) -> Leased:
    """Return what a worker gets of what it wants, when so many workers are alive.

    Alone it gets all there is; one of several gets at most a share of what is left, so that leases shrink towards one
    as the budget drains, and no more than one impression is stuck with a worker that nobody asks.
    """
    after: dict[LeaseKey, int] = {}
    changed: dict[UUID, Budget] = {}
    for want in wants:
        budget = budgets.get(want.campaign_id)
        if budget is None:
            continue
        budget = on_day(budget, now)
        key = (worker, want.campaign_id)
        has = leases.get(key, 0)
        offered = min(want.offers, has)
        room = headroom(leased(budget, -offered))
        share = room if workers <= 1 else -(-room // (2 * workers))
        # Of what it offers, the worker may have promised one before it reads the answer.
        more = max(-has, min(want.impressions, max(share, min(offered, 1)) - offered))
        after[key] = has + more
        if more:
            changed[want.campaign_id] = leased(budget, more)
    return Leased(after, changed)


def reclaim(silent: Mapping[LeaseKey, int], budgets: Mapping[UUID, Budget]) -> dict[UUID, Budget]:
    """Return the budgets to which the leases of workers that fell silent have returned."""
    changed: dict[UUID, Budget] = {}
    for (_, campaign_id), impressions in silent.items():
        budget = changed.get(campaign_id) or budgets.get(campaign_id)
        if budget is not None:
            changed[campaign_id] = leased(budget, -impressions)
    return changed
