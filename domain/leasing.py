"""Leases: what of the budgets is set aside for a worker to promise to ad slots, so that no two promise the same.

A worker leases impressions before it promises them. An impression that is confirmed in time is charged to the lease;
one that is not is the worker's to promise again. What a worker leased and never gave back returns when the worker has
been silent for so long that no promise of it can still be open.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.books import Books

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


def lease(
    worker: int, wants: Iterable[Want], *, workers: int, leases: Mapping[LeaseKey, int], books: Books
) -> dict[LeaseKey, int]:
    """Return the leases that a worker has of what it wants, when so many workers are alive, and note them in `books`.

    Of what nobody else could promise it gets all there is, of what others could a share, so that no more than one
    impression of a campaign is stuck with a worker that nobody asks for it.
    """
    after: dict[LeaseKey, int] = {}
    for want in wants:
        budget = books.find(want.campaign_id)
        if budget is None:
            continue
        key = (worker, want.campaign_id)
        has = leases.get(key, 0)
        offered = min(want.offers, has)
        share = books.share(budget, offered, workers=max(workers, 1))
        # Of what it offers, the worker may have promised one before it reads the answer.
        more = max(-has, min(want.impressions, max(share, min(offered, 1)) - offered))
        after[key] = has + more
        if more:
            books.lease(budget, more)
    return after


def reclaim(silent: Mapping[LeaseKey, int], books: Books) -> None:
    """Return the leases of workers that fell silent to the budgets in `books`."""
    for (_, campaign_id), impressions in silent.items():
        budget = books.find(campaign_id)
        if budget is not None:
            books.lease(budget, -impressions)
