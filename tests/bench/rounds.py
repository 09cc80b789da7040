"""Rounds: two things measured in turns, A B A B, so that whatever else the machine does falls on both."""

from collections.abc import Callable
from statistics import median
from typing import Literal, NamedTuple

from msgspec import Struct

ROUNDS_MIN = 5


class Plan(NamedTuple):
    """How long to measure: rounds of a pair, and seconds of each side of a round."""

    rounds: int
    seconds: float


class Row(Struct, frozen=True, kw_only=True):
    """A line of the table: what was measured beside what; each figure is the median of its rounds.

    The target is for the ratio, or for the figure where there is nothing beside it.
    """

    name: str
    what: str
    unit: str
    figure: float
    beside: str | None = None
    beside_figure: float | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    limit: Literal["at least", "at most"] = "at least"
    target: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None when there is none."""
        if self.target is None:
            return None
        judged = self.figure if self.ratio is None else self.ratio
        return judged >= self.target if self.limit == "at least" else judged <= self.target


class Pair(NamedTuple):
    """The figures of each round: ours, and what is beside."""

    ours: list[float]
    theirs: list[float]

    def row(
        self,
        *,
        name: str,
        what: str,
        beside: str,
        unit: str,
        target: float | None = None,
        limit: Literal["at least", "at most"] = "at least",
        note: str = "",
    ) -> Row:
        """Return the line of the table; the ratio is the median of the rounds' own ratios."""
        ratios = [ours / theirs for ours, theirs in zip(self.ours, self.theirs, strict=True)]
        return Row(
            name=name,
            what=what,
            unit=unit,
            figure=median(self.ours),
            beside=beside,
            beside_figure=median(self.theirs),
            ratio=median(ratios),
            ratio_min=min(ratios),
            ratio_max=max(ratios),
            limit=limit,
            target=target,
            note=note,
        )


def in_turns(rounds: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Pair:
    """Measure both, in turns; one round before the first warms up and is thrown away."""
    pair = Pair([], [])
    for number in range(rounds + 1):
        figures = ours(), theirs()
        if number:
            pair.ours.append(figures[0])
            pair.theirs.append(figures[1])
    return pair
