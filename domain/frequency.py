"""Frequency caps: how often a viewer is shown a campaign, or a creative, before it is enough.

The log's writer keeps, in the transaction that appends the events, when each viewer saw what is capped: an impression
beyond a cap is counted, and never billed. Each worker keeps a copy in memory, of those seen last, and does not choose
what a viewer has seen often enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from msgspec import Struct

from domain.values import CapWindow

VIEWERS_MAX: Final = 50_000
"""How many viewers a worker remembers: those beyond, seen longest ago, are left to the writer's count."""

_SECONDS: Final[Mapping[str, int]] = {
    "minute": 60,
    "hour": 3_600,
    "day": 86_400,
    "week": 604_800,
    "month": 30 * 86_400,
}


class Cap(Struct, frozen=True, kw_only=True, array_like=True):
    """At most so many impressions to a viewer within so many seconds; within 0 seconds means for ever."""

    views: int
    seconds: int


class Viewing(NamedTuple):
    """How often a viewer has seen something, and at which of the last moments, in seconds since 1970."""

    views: int = 0
    times: tuple[int, ...] = ()


ViewingKey = tuple[UUID, str]
"""The campaign or creative, and the viewer's pseudonym."""

SECONDS_FOR_EVER: Final = 2**62


def window_seconds(window: CapWindow) -> int:
    """Return how long a window is; a month has 30 days."""
    return window.value * _SECONDS[window.unit]


def is_reached(viewing: Viewing, cap: Cap, second: int, *, open_views: int = 0) -> bool:
    """Tell whether one more impression at a moment would be beyond the cap, when some are promised and still open."""
    return counted(viewing, cap, second) + open_views >= cap.views


def counted(viewing: Viewing, cap: Cap, second: int) -> int:
    """Return how many of the impressions that a viewer has seen a cap counts at a moment."""
    if cap.seconds == 0:
        return viewing.views
    since = second - cap.seconds
    return sum(time > since for time in viewing.times)


def seen(viewing: Viewing, cap: Cap, second: int) -> Viewing:
    """Return the viewing after one more impression; only as many moments are kept as the cap counts."""
    times = (*viewing.times, second)[-cap.views :] if cap.seconds else ()
    return Viewing(viewing.views + 1, times)


class _Seen:
    """What one viewer has seen of one thing, and until when each impression is open that was promised."""

    __slots__ = ("open_until", "viewing")

    def __init__(self) -> None:
        self.viewing = Viewing()
        self.open_until: list[float] = []


class Viewings:
    """What a worker remembers of the viewers it met, or was told of; like `holds.Holds` it is mutable.

    Its ticks are those of a steady clock, in seconds.
    """

    def __init__(self, viewers_max: int = VIEWERS_MAX) -> None:
        """Remember nobody yet, and never more than so many."""
        self._viewers_max = viewers_max
        self._by_viewer: dict[str, dict[UUID, _Seen]] = {}

    def reached(self, names: Sequence[str], caps: Mapping[UUID, Cap], *, second: int, tick: float) -> set[UUID]:
        """Return what a viewer, by all of their names, has seen often enough, or is about to: campaigns, creatives."""
        found: dict[UUID, int] = {}
        for name in names:
            for subject, of_subject in self._by_viewer.get(name, {}).items():
                cap = caps.get(subject)
                if cap is not None:
                    of_subject.open_until = [until for until in of_subject.open_until if until > tick]
                    views = counted(of_subject.viewing, cap, second) + len(of_subject.open_until)
                    found[subject] = found.get(subject, 0) + views
        return {subject for subject, views in found.items() if views >= caps[subject].views}

    def has_room(
        self, names: Sequence[str], subject: UUID, cap: Cap, impressions: int, *, second: int, tick: float
    ) -> bool:
        """Tell whether a viewer, by all of their names, may be shown something so many times at once."""
        views = impressions
        for name in names:
            if known := self._by_viewer.get(name, {}).get(subject):
                views += counted(known.viewing, cap, second) + sum(until > tick for until in known.open_until)
        return views <= cap.views

    def promise(self, viewer: str, subjects: Iterable[UUID], *, until: float) -> None:
        """Count an impression as seen until it is confirmed, or a tick at which it is taken for not shown."""
        for subject in subjects:
            self._find(viewer, subject).open_until.append(until)

    def take_back(self, viewer: str, subjects: Iterable[UUID], *, until: float) -> None:
        """Forget promises of which nobody was told; to be called before the next await."""
        for subject in subjects:
            self._find(viewer, subject).open_until.remove(until)

    def learn(self, subject: UUID, viewer: str, viewing: Viewing) -> None:
        """Take over what the log's writer has counted; as many promises as are new in it are confirmed."""
        known = self._find(viewer, subject)
        del known.open_until[: max(viewing.views - known.viewing.views, 0)]
        known.viewing = viewing

    def _find(self, viewer: str, subject: UUID) -> _Seen:
        # Whoever is met again moves to the end, so that the first is whom nobody met for longest.
        of_viewer = self._by_viewer.pop(viewer, None) or {}
        self._by_viewer[viewer] = of_viewer
        if len(self._by_viewer) > self._viewers_max:
            del self._by_viewer[next(iter(self._by_viewer))]
        return of_viewer.setdefault(subject, _Seen())
