"""Pseudonyms: the same for everybody in a period, others in the next, and known there for as long as caps ask."""

from itertools import pairwise
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.frequency import SECONDS_FOR_EVER
from infra.pseudonyms import SECONDS_PER_DAY, Pseudonyms

ROOT: Final = bytes(range(32))
DAYS: Final = 90
PERIOD: Final = DAYS * SECONDS_PER_DAY
VIEWER: Final = str(UUID(int=7))

seconds = st.integers(0, 100 * PERIOD - 1)


def fresh(root: bytes = ROOT) -> Pseudonyms:
    """Return the pseudonyms as a worker has them that was just started."""
    return Pseudonyms(root, days=DAYS)


def test_pseudonyms_never_change() -> None:
    """A key gives a viewer, in a period, the name that it has always given."""
    assert fresh().name("viewer-1", 230 * PERIOD) == "t8h3vJHAhDEP5EcLyIyoYQ"


@given(st.lists(seconds, min_size=1, max_size=8))
def test_workers_need_not_agree(moments: list[int]) -> None:
    """Whatever a worker was asked before, it knows everybody by the same names as one that was just started."""
    worked = fresh()
    for moment in moments:
        assert worked.name(VIEWER, moment) == fresh().name(VIEWER, moment)
        asked = worked.earlier(VIEWER, moment, seconds=PERIOD)
        assert asked == fresh().earlier(VIEWER, moment, seconds=PERIOD)


@given(seconds, st.integers(1, PERIOD))
def test_what_was_seen_within_a_cap_is_seen_under_a_known_name(moment: int, back: int) -> None:
    """A viewer has, at any moment, a name they had as long ago as a cap looks back, if that is at most a period."""
    names = fresh()
    known = {names.name(VIEWER, moment), names.earlier(VIEWER, moment, seconds=back)}
    for ago in (0, 1, back - 1):
        assert moment < ago or names.name(VIEWER, moment - ago) in known


def test_a_name_lasts_for_a_period() -> None:
    """A viewer has one name from the first to the last second of a period, and another in each."""
    names = fresh()
    spans = [{names.name(VIEWER, number * PERIOD + second) for second in (0, PERIOD - 1)} for number in range(5)]
    assert [len(each) for each in spans] == [1] * 5
    assert len(set.union(*spans)) == 5
    for before, after in pairwise(range(5)):
        assert names.earlier(VIEWER, after * PERIOD, seconds=1) == names.name(VIEWER, before * PERIOD)


@pytest.mark.parametrize(
    ("second", "seconds", "is_known"),
    [
        (5 * PERIOD, 0, False),
        (5 * PERIOD + 59, 60, True),
        (5 * PERIOD + 60, 60, False),
        (6 * PERIOD - 1, SECONDS_FOR_EVER, True),
        (PERIOD - 1, SECONDS_FOR_EVER, False),
    ],
)
def test_the_name_of_before_is_asked_for_while_a_cap_reaches_there(second: int, seconds: int, is_known: bool) -> None:
    """It is known for as long as the longest cap looks back, and in the first of all periods there is none."""
    assert (fresh().earlier(VIEWER, second, seconds=seconds) is not None) is is_known


def test_another_ledger_has_other_names() -> None:
    """A viewer's names in one ledger tell nothing of another, and no representation tells the key."""
    assert fresh(bytes(32)).name(VIEWER, 0) != fresh().name(VIEWER, 0)
    assert repr(fresh()) == "Pseudonyms(days=90)"
