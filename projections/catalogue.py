"""All projections, in one tuple that can be read."""

from collections.abc import Mapping
from typing import Final

from projections import advertisers, budgets, campaigns, creatives, delivery, history, requests, slots
from projections.runner import AnyProjection

PROJECTIONS: Final[tuple[AnyProjection, ...]] = (
    advertisers.PROJECTION,
    campaigns.PROJECTION,
    creatives.PROJECTION,
    slots.PROJECTION,
    budgets.PROJECTION,
    delivery.PROJECTION,
    history.PROJECTION,
    requests.PROJECTION,
)


_BY_NAME: Final[Mapping[str, AnyProjection]] = {projection.name: projection for projection in PROJECTIONS}


def named(name: str) -> AnyProjection:
    """Return a projection by its name."""
    return _BY_NAME[name]
