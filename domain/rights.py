"""What somebody may do with a thing that they may change at all: it depends on which fields, and on where it stands."""

from collections.abc import Collection
from typing import Final
from uuid import UUID

from msgspec import Struct

from domain.errors import NotAllowed

LIMITS: Final = frozenset({"budget_micros", "daily_budget_micros", "impression_budget", "daily_impression_budget"})
"""The fields of a campaign that say how much it may spend or deliver."""


class Rights(Struct, frozen=True, kw_only=True):
    """Whether somebody sets fields that are no limits, limits of what is no draft any more, and what is no draft.

    Where `advertisers` is not None, whoever asks makes things for these alone, and knows of no others.
    """

    plans: bool = True
    spends: bool = True
    beyond_drafts: bool = True
    advertisers: frozenset[UUID] | None = None

    def knows(self, advertiser_id: UUID) -> bool:
        """Tell whether somebody may make things for an advertiser."""
        return self.advertisers is None or advertiser_id in self.advertisers


def check_change(rights: Rights, fields: Collection[str], *, draft: bool) -> None:
    """Raise NotAllowed unless somebody with these rights may set the fields of a thing.

    The limits of a draft are a proposal, which whoever plans may make; nothing is spent by it yet.
    """
    if not draft and not rights.beyond_drafts:
        raise NotAllowed("You may change this only as long as it is a draft.")
    for name in sorted(fields):
        if name in LIMITS:
            if not rights.spends and not (draft and rights.plans):
                raise NotAllowed("Once a campaign has been activated, finance sets its limits.", pointer=f"/{name}")
        elif not rights.plans:
            raise NotAllowed(f"You may set limits, and not the {name}.", pointer=f"/{name}")
