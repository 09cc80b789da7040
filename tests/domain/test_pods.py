"""Ad pods: a break is filled exactly wherever that can be done."""

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.pods import Pod, fill, fits, is_filled
from tests.domain.strategies import law

durations = st.sampled_from([5, 10, 15, 20, 30, 60])


@settings(law, max_examples=100)
@given(offered=st.lists(durations, max_size=9), seconds=st.integers(1, 130), ads_max=st.integers(1, 5))
def test_as_much_is_filled_as_can_be(offered: list[int], seconds: int, ads_max: int) -> None:
    """No choice of the offered ads fills more of a pod; of those that fill as much, the first offered are taken."""
    chosen = fill(offered, Pod(seconds=seconds, ads_max=ads_max))
    choices = [
        choice
        for count in range(ads_max + 1)
        for choice in combinations(range(len(offered)), count)
        if sum(offered[number] for number in choice) <= seconds
    ]
    most = max(sum(offered[number] for number in choice) for choice in choices)
    as_much = [choice for choice in choices if sum(offered[number] for number in choice) == most]
    # Padded, so that of two that begin alike the longer comes first.
    assert chosen == min(as_much, key=lambda choice: (*choice, *[len(offered)] * (ads_max - len(choice))))


@settings(law, max_examples=50)
@given(
    offered=st.lists(durations, max_size=80),
    wanted=st.sets(durations, min_size=1, max_size=3),
    seconds=st.integers(5, 600),
    ads_max=st.integers(1, 40),
)
def test_required_durations_are_exact(offered: list[int], wanted: set[int], seconds: int, ads_max: int) -> None:
    """Each ad has one of the durations that are required; in order, no ad twice, and never more than there is room."""
    pod = Pod(seconds=seconds, ads_max=ads_max, durations=tuple(wanted))
    fitting = [each for each in offered if fits(pod, each)]
    chosen = fill(fitting, pod)
    assert list(chosen) == sorted(set(chosen))
    assert {fitting[number] for number in chosen} <= wanted
    assert len(chosen) <= ads_max
    assert sum(fitting[number] for number in chosen) <= seconds


@pytest.mark.parametrize(
    ("pod", "offered", "shown"),
    [
        (Pod(seconds=60, ads_max=4), [30, 20, 15, 15, 30], (0, 2, 3)),
        (Pod(seconds=60, ads_max=2), [30, 20, 15, 15, 30], (0, 4)),
        (Pod(seconds=60, ads_max=4), [45, 30, 20, 10], (1, 2, 3)),
        (Pod(seconds=60, ads_max=4), [45], (0,)),
        (Pod(seconds=60, ads_max=4), [], ()),
        (Pod(seconds=10, ads_max=4), [20], ()),
        (Pod(ads_max=2), [30, 20, 15], (0, 1)),
    ],
)
def test_examples_of_pods(pod: Pod, offered: list[int], shown: tuple[int, ...]) -> None:
    """An exact fill goes before the ad that was offered first; where there is none, the longest is taken."""
    assert fill(offered, pod) == shown


@pytest.mark.parametrize(
    ("pod", "seconds", "does"),
    [
        (Pod(durations=(15, 30)), 15, True),
        (Pod(durations=(15, 30)), 20, False),
        (Pod(seconds_min=10, seconds_max=20), 10, True),
        (Pod(seconds_min=10, seconds_max=20), 21, False),
        (Pod(seconds_min=10, seconds_max=20), 9, False),
        (Pod(seconds=20), 21, False),
        (Pod(), None, False),
    ],
)
def test_which_ads_may_be_in_a_pod(pod: Pod, seconds: int | None, does: bool) -> None:
    """An ad without a duration is in no pod; others by the required durations, the bounds, and the pod's length."""
    assert fits(pod, seconds) is does


@pytest.mark.parametrize(
    ("pod", "shown", "expected"),
    [
        (Pod(seconds=30, ads_max=3), [10, 20], True),
        (Pod(seconds=30, ads_max=3), [10, None], False),
        (Pod(seconds=None, ads_max=2), [10, None], True),
        (Pod(seconds=None, ads_max=2), [10], False),
    ],
)
def test_a_pod_is_filled_by_seconds_or_by_count(pod: Pod, shown: list[int | None], expected: bool) -> None:
    """A pod of a certain length is filled when nothing of it is left, another when it has as many ads as it takes."""
    assert is_filled(pod, shown) is expected
