"""Promises: what one request takes of what its worker may promise, and gives back of what nobody is told of."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from domain.choosing import Candidate
from domain.frequency import Cap
from domain.terms import SlotTerms
from projections.serving import Serving

Refused = Literal["frequency_capped", "paced", "no_budget"]


class Promise(NamedTuple):
    """A creative that is held for a decision, in a slot, and which one of its page it is."""

    candidate: Candidate
    decision_id: UUID
    slot: SlotTerms
    order: int


class Promises:
    """What a request was promised: impressions that are held, the part of a pace, and views that count for caps.

    It is taken and given back at once, before the next await. A test is promised everything, and takes nothing.
    """

    def __init__(
        self,
        serving: Serving,
        viewer: str | None,
        *,
        earlier: str | None = None,
        second: int,
        tick: float,
        test: bool,
    ) -> None:
        """Take for a viewer, if one is known, at a moment: in seconds since 1970, and on the steady clock.

        What they saw under their earlier name counts for caps as well.
        """
        self._serving = serving
        self._caps = serving.snapshot.caps
        self._viewer = viewer if self._caps and not test else None
        self._names = [name for name in (viewer, earlier) if name is not None]
        self._second = second
        self._tick = tick
        self._test = test

    def seen_enough(self) -> set[UUID]:
        """Return the campaigns and creatives that the viewer has seen as often as their caps allow."""
        if self._viewer is None:
            return set()
        return self._serving.viewings.reached(self._names, self._caps, second=self._second, tick=self._tick)

    def take(self, wanted: Sequence[Promise]) -> Refused | None:
        """Promise all of these, which are of one campaign, or none of them; return why not."""
        if self._test:
            return None
        first = wanted[0].candidate
        if self._viewer is not None and not self._have_room(wanted):
            return "frequency_capped"
        if first.campaign_id in self._serving.snapshot.paces and not self._serving.pacer.take(
            first.campaign_id, len(wanted)
        ):
            return "paced"
        if first.limited and not self._hold(wanted):
            self._serving.pacer.give_back(first.campaign_id, len(wanted))
            return "no_budget"
        if self._viewer is not None:
            for candidate, _, slot, _ in wanted:
                if capped := _capped(candidate):
                    self._serving.viewings.promise(self._viewer, capped, until=self._tick + slot.hold_seconds)
        return None

    def give_back(self, promise: Promise) -> None:
        """Take a promise for not made: nobody was told."""
        if self._test:
            return
        candidate, decision_id, slot, _ = promise
        self._serving.holds.give_back(decision_id)
        self._serving.pacer.give_back(candidate.campaign_id, 1)
        if self._viewer is not None:
            until = self._tick + slot.hold_seconds
            self._serving.viewings.take_back(self._viewer, _capped(candidate), until=until)

    def _hold(self, wanted: Sequence[Promise]) -> bool:
        holds = self._serving.holds
        if len(wanted) > 1:
            decisions = {each.decision_id: each.slot.hold_seconds for each in wanted}
            return holds.take_all(wanted[0].candidate.campaign_id, decisions, tick=self._tick)
        candidate, decision_id, slot, _ = wanted[0]
        return holds.take(candidate.campaign_id, decision_id, tick=self._tick, hold_seconds=slot.hold_seconds)

    def _have_room(self, wanted: Sequence[Promise]) -> bool:
        times: dict[UUID, int] = {}
        caps: dict[UUID, Cap] = {}
        for candidate, *_ in wanted:
            for subject, cap in _capped(candidate).items():
                times[subject] = times.get(subject, 0) + 1
                caps[subject] = cap
        return all(
            self._serving.viewings.has_room(
                self._names, subject, cap, times[subject], second=self._second, tick=self._tick
            )
            for subject, cap in caps.items()
        )


def _capped(candidate: Candidate) -> Mapping[UUID, Cap]:
    """Return the caps that a candidate is under, by campaign and creative."""
    caps = ((candidate.campaign_id, candidate.campaign_cap), (candidate.creative_id, candidate.creative_cap))
    return {subject: cap for subject, cap in caps if cap is not None}
