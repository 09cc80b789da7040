"""Ad pods: which of the creatives that are offered fill a break of a stream, so that nothing of it is left over.

In the words of OpenRTB 2.6, a pod has so many seconds (`poddur`) for at most so many ads (`maxseq`), each of which is
as long as one of `rqddurs`, or between `minduration` and `maxduration`.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

POD_SECONDS_MAX: Final = 3_600
ADS_PER_POD_MAX: Final = 40
"""Bounds what choosing a fill takes: a few milliseconds when as many again are offered."""

PodSeconds = Annotated[int, Meta(ge=1, le=POD_SECONDS_MAX)]


class Pod(Struct, frozen=True, kw_only=True):
    """A break to fill: how long each ad may be, how many there may be, and how long they are together.

    Where `durations` are given, each ad has exactly one of them. Where `seconds` is None, any number of ads up to
    `ads_max` will do, however long they are together.
    """

    seconds: PodSeconds | None = None
    ads_max: Annotated[int, Meta(ge=1, le=ADS_PER_POD_MAX)] = 1
    durations: tuple[PodSeconds, ...] = ()
    seconds_min: PodSeconds = 1
    seconds_max: PodSeconds = POD_SECONDS_MAX


def fits(pod: Pod, seconds: int | None) -> bool:
    """Tell whether an ad of so many seconds may be in a pod."""
    if seconds is None:
        return False
    if pod.durations and seconds not in pod.durations:
        return False
    return pod.seconds_min <= seconds <= min(pod.seconds_max, pod.seconds or POD_SECONDS_MAX)


def fill(offered: Sequence[int], pod: Pod) -> tuple[int, ...]:
    """Return which of the offered ads, given by their seconds in the order of preference, are shown, in that order.

    They fill the pod exactly if any of them together do; if none do, as much of it as any of them fill. Of all choices
    that fill as much, it is the one with the first ad offered that any of them has, then the second, and so on.
    """
    if pod.seconds is None:
        return tuple(range(min(len(offered), pod.ads_max)))
    sums = _sums(offered, pod)
    left, ads = sums[0][-1].bit_length() - 1, pod.ads_max
    chosen = []
    for number, seconds in enumerate(offered):
        if ads and seconds <= left and sums[number + 1][ads - 1] >> (left - seconds) & 1:
            chosen.append(number)
            left -= seconds
            ads -= 1
    return tuple(chosen)


def is_filled(pod: Pod, shown: Collection[int | None]) -> bool:
    """Tell whether ads of so many seconds leave nothing of a pod, or are as many as it takes."""
    if pod.seconds is None:
        return len(shown) == pod.ads_max
    return sum(seconds or 0 for seconds in shown) == pod.seconds


def _sums(offered: Sequence[int], pod: Pod) -> list[list[int]]:
    """Return, for the offered ads from each number on, the sums that at most so many of them can have, as bitsets."""
    within = (1 << (pod.seconds or 0) + 1) - 1
    rest = [1] * (pod.ads_max + 1)
    sums = [rest]
    for seconds in reversed(offered):
        rest = [1, *(rest[ads] | rest[ads - 1] << seconds & within for ads in range(1, pod.ads_max + 1))]
        sums.append(rest)
    return sums[::-1]
