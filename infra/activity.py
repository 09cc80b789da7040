"""Activity: how much a viewer, or an address, reports in a while; more than a person could do is invalid.

It is counted in the memory in which the workers of a service count their rates, in fixed windows: nothing is kept of
who it was, and nothing for longer. Each node counts for itself.
"""

from collections.abc import Mapping

from domain.budget import DeliveryKind
from infra import clock
from infra.rate_limits import Rates, SharedCounts, rates
from infra.settings import Settings
from infra.throttle import network_of


class Activity:
    """How many impressions and clicks are plausible of a viewer, and of an address, by kind of delivery."""

    def __init__(
        self, of_viewer: Mapping[DeliveryKind, str], of_address: Mapping[DeliveryKind, str], counts: SharedCounts
    ) -> None:
        """Take the rates in the notation of `limits`, empty for none; raise RatesUnreadable."""
        self._counts = counts
        self._of_viewer = {kind: rates(f"viewer {kind}", said) for kind, said in of_viewer.items() if said}
        self._of_address = {kind: rates(f"sender {kind}", said) for kind, said in of_address.items() if said}

    def is_too_much(self, kind: DeliveryKind, viewer: str | None, address: str) -> bool:
        """Count a delivery, and tell whether there are too many of its kind by that viewer or from that address."""
        found = False
        if viewer is not None and (of_viewer := self._of_viewer.get(kind)):
            found = self._exceeds(of_viewer, viewer)
        if of_address := self._of_address.get(kind):
            found |= self._exceeds(of_address, network_of(address) if ":" in address else address)
        return found

    def _exceeds(self, of_kind: Rates, whom: str) -> bool:
        second = clock.second()
        counts = [self._counts.add(name, whom, second // seconds) - most for name, most, seconds in of_kind]
        return max(counts) > 0


def activity_of(found: Settings, counts: SharedCounts) -> Activity:
    """Return what counts as the settings say; raise RatesUnreadable."""
    return Activity(
        {"impression": found.impressions_per_viewer, "click": found.clicks_per_viewer},
        {"impression": found.impressions_per_address, "click": found.clicks_per_address},
        counts,
    )
