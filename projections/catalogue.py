"""All projections, in one tuple that can be read."""

from typing import Final

from projections import advertisers, budgets, campaigns, creatives, delivery, history, slots
from projections.runner import Projection

PROJECTIONS: Final[tuple[Projection, ...]] = (
    advertisers.PROJECTION,
    campaigns.PROJECTION,
    creatives.PROJECTION,
    slots.PROJECTION,
    budgets.PROJECTION,
    delivery.PROJECTION,
    history.PROJECTION,
)
