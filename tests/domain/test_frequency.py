"""Frequency caps: nobody is billed for showing a viewer more than the cap allows, and workers stop before that."""

from datetime import timedelta
from typing import Final
from uuid import UUID

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from msgspec import structs

from domain.books import Books
from domain.budget import Budget
from domain.delivery import Delivery, settle, viewings_of
from domain.frequency import Cap, Viewing, ViewingKey, Viewings, is_reached, seen, window_seconds
from domain.values import CapWindow
from tests.domain.deliveries import CAMPAIGN_ID, NOON, delivery, ticket
from tests.domain.strategies import law

HOURLY: Final = Cap(views=2, seconds=3_600)
FOR_EVER: Final = Cap(views=2, seconds=0)
CREATIVE_ID: Final = UUID(int=201)
CAPS: Final = {CAMPAIGN_ID: HOURLY, CREATIVE_ID: FOR_EVER}


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [(5, "minute", 300), (2, "hour", 7_200), (1, "day", 86_400), (1, "week", 604_800), (1, "month", 2_592_000)],
)
def test_a_window_is_as_long_as_it_says(value: int, unit: str, seconds: int) -> None:
    """Windows are counted in seconds; a month has thirty days."""
    assert window_seconds(CapWindow(value=value, unit=unit)) == seconds  # type: ignore[arg-type]  # as parametrised


def test_a_window_slides() -> None:
    """What was seen as long ago as the window is long does not count any more."""
    viewing = seen(seen(Viewing(), HOURLY, 1_000), HOURLY, 2_000)
    assert viewing == Viewing(2, (1_000, 2_000))
    assert is_reached(viewing, HOURLY, 4_599)
    assert not is_reached(viewing, HOURLY, 4_600)
    assert is_reached(viewing, HOURLY, 4_600, open_views=1)
    assert seen(viewing, HOURLY, 4_600) == Viewing(3, (2_000, 4_600))


def test_for_ever_has_no_window() -> None:
    """A cap without a window counts every impression, and remembers no moment of them."""
    viewing = seen(seen(Viewing(), FOR_EVER, 1), FOR_EVER, 2)
    assert viewing == Viewing(2, ())
    assert is_reached(viewing, FOR_EVER, 2**40)
    assert not is_reached(seen(Viewing(), FOR_EVER, 1), FOR_EVER, 1)


def capped(decision: int, **fields: object) -> Delivery:
    """Return an impression under both caps."""
    return delivery(of=structs.replace(ticket(decision, campaign_cap=HOURLY, creative_cap=None), **fields))


def reasons(*deliveries: Delivery, viewings: dict[ViewingKey, Viewing] | None = None) -> list[str | None]:
    """Return why each of a batch is not billed."""
    books = Books({CAMPAIGN_ID: Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC")}, NOON)
    found = settle(deliveries, recorded={}, books=books, leases={}, viewings=viewings or {}, now=NOON)
    return [outcome.event.reason if outcome else "repeated" for outcome in found.outcomes]


def test_what_is_beyond_a_cap_is_counted_and_not_billed() -> None:
    """Of one viewer's impressions as many are billed as the cap allows, whatever else is in the batch."""
    other = capped(4, viewer="beef")
    batch = (capped(1), capped(1), capped(2), capped(3), other, delivery("click", capped(3).ticket))
    assert reasons(*batch) == [None, "repeated", None, "over_cap", None, None]
    second = int(NOON.timestamp())
    before = {(CAMPAIGN_ID, "f00d"): Viewing(7, (second - 3_600, second - 10))}
    assert reasons(capped(1), capped(2), viewings=before) == [None, "over_cap"]


def test_a_creative_has_a_cap_of_its_own() -> None:
    """An impression beyond either cap is over it, and then counts against neither."""
    both = {"campaign_cap": Cap(views=3, seconds=60), "creative_cap": Cap(views=1, seconds=0)}
    other = {"creative_id": UUID(int=202)}
    batch = [
        capped(1, **both),
        capped(2, **both),
        capped(3, **both, **other),
        capped(4, **both, creative_id=UUID(int=3)),
    ]
    assert reasons(*batch) == [None, "over_cap", None, None]


@pytest.mark.parametrize("flaw", [{"viewer": None}, {"test": True}, {"expires_at": 0}])
def test_what_nobody_sees_counts_against_no_cap(flaw: dict[str, object]) -> None:
    """Without a viewer there is no cap; tests and late impressions use none up."""
    found = reasons(capped(1, **flaw), capped(2, **flaw), capped(3, **flaw), capped(4))
    assert found[3] is None
    assert "over_cap" not in found


def test_a_batch_concerns_the_viewings_of_its_impressions() -> None:
    """What is looked up are the campaigns and creatives with a cap, with the viewers of impressions."""
    both = capped(1, creative_cap=FOR_EVER)
    batch = [both, capped(2, viewer="beef"), delivery("click", both.ticket), delivery(), capped(3, viewer=None)]
    assert viewings_of(batch) == {(CAMPAIGN_ID, "f00d"), (CREATIVE_ID, "f00d"), (CAMPAIGN_ID, "beef")}


@law
@for_all(steps=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 1)), max_size=40))
def test_no_window_holds_more_billed_impressions_than_the_cap(steps: list[tuple[int, int]]) -> None:
    """In any span as long as the window no viewer has more billed impressions than the cap allows."""
    now, viewings, billed = NOON, dict[ViewingKey, Viewing](), dict[str, list[int]]()
    for decision, (seconds, viewer) in enumerate(steps):
        now += timedelta(seconds=seconds)
        impression = capped(decision, viewer=str(viewer), expires_at=2**40)
        books = Books({CAMPAIGN_ID: Budget(budget_id=CAMPAIGN_ID, currency="CNY", timezone="UTC")}, now)
        found = settle([impression], recorded={}, books=books, leases={}, viewings=viewings, now=now)
        viewings |= found.viewings
        (outcome,) = found.outcomes
        assert outcome is not None
        if outcome.event.billed:
            billed.setdefault(str(viewer), []).append(int(now.timestamp()))
    for moments in billed.values():
        for first, third in zip(moments, moments[HOURLY.views :], strict=False):
            assert third - first >= HOURLY.seconds


def test_a_worker_stops_at_the_cap() -> None:
    """What is promised counts as seen until it is confirmed, or open no more."""
    viewings = Viewings()
    assert viewings.reached(["v"], CAPS, second=0, tick=0.0) == set()
    viewings.promise("v", [CAMPAIGN_ID], until=60.0)
    viewings.promise("v", [CAMPAIGN_ID], until=90.0)
    assert viewings.reached(["v"], CAPS, second=0, tick=59.0) == {CAMPAIGN_ID}
    assert viewings.reached(["w"], CAPS, second=0, tick=59.0) == set()
    assert viewings.reached(["v"], {}, second=0, tick=59.0) == set()
    assert viewings.reached(["v"], CAPS, second=0, tick=60.0) == set()


def test_a_page_asks_for_several_views_at_once() -> None:
    """A viewer may be shown something as many times as the cap still allows, and promises that are open count."""
    viewings = Viewings()

    def rooms(tick: float) -> list[bool]:
        return [viewings.has_room(["v"], CAMPAIGN_ID, HOURLY, many, second=11, tick=tick) for many in (1, 2, 3)]

    assert rooms(0.0) == [True, True, False]
    viewings.promise("v", [CAMPAIGN_ID], until=60.0)
    assert rooms(0.0) == [True, False, False]
    assert rooms(60.0) == [True, True, False]
    viewings.take_back("v", [CAMPAIGN_ID], until=60.0)
    viewings.learn(CAMPAIGN_ID, "v", Viewing(2, (10, 11)))
    assert rooms(0.0) == [False, False, False]


def test_a_worker_learns_what_was_counted() -> None:
    """A confirmed promise is counted once; what other workers showed counts as much."""
    viewings = Viewings()
    viewings.promise("v", [CAMPAIGN_ID], until=60.0)
    viewings.learn(CAMPAIGN_ID, "v", Viewing(1, (10,)))
    assert viewings.reached(["v"], CAPS, second=11, tick=1.0) == set()
    viewings.learn(CAMPAIGN_ID, "v", Viewing(1, (10,)))
    viewings.learn(CAMPAIGN_ID, "v", Viewing(2, (10, 11)))
    assert viewings.reached(["v"], CAPS, second=11, tick=1.0) == {CAMPAIGN_ID}


def test_a_worker_remembers_no_more_viewers_than_it_may() -> None:
    """Whom nobody met for longest is forgotten first."""
    viewings = Viewings(viewers_max=2)
    for viewer in ("a", "b", "a", "c"):
        viewings.learn(CREATIVE_ID, viewer, Viewing(2))
    assert [bool(viewings.reached([viewer], CAPS, second=0, tick=0.0)) for viewer in "abc"] == [True, False, True]


def test_a_name_of_before_counts_as_well() -> None:
    """What a viewer saw under two names is counted together, seen or promised, and promised under the last."""
    viewings, names = Viewings(), ["now", "before"]
    viewings.learn(CAMPAIGN_ID, "before", Viewing(1, (10,)))
    viewings.learn(CREATIVE_ID, "before", Viewing(2))
    assert viewings.reached(["now"], CAPS, second=11, tick=0.0) == set()
    assert viewings.reached(names, CAPS, second=11, tick=0.0) == {CREATIVE_ID}
    assert viewings.has_room(names, CAMPAIGN_ID, HOURLY, 1, second=11, tick=0.0)
    assert not viewings.has_room(names, CAMPAIGN_ID, HOURLY, 2, second=11, tick=0.0)
    viewings.promise("now", [CAMPAIGN_ID], until=60.0)
    assert viewings.reached(names, CAPS, second=11, tick=0.0) == {CAMPAIGN_ID, CREATIVE_ID}
    assert viewings.reached(names, CAPS, second=10 + HOURLY.seconds, tick=0.0) == {CREATIVE_ID}


@pytest.mark.parametrize("cap", [HOURLY, FOR_EVER])
def test_a_new_name_undoes_no_cap(cap: Cap) -> None:
    """Whoever saw one impression under the name of before is billed for one more, and the rest is beyond the cap."""
    second = int(NOON.timestamp())
    key = (CAMPAIGN_ID, "before")
    before = {key: seen(Viewing(), cap, second - 1)}
    impressions = [capped(each, campaign_cap=cap, viewer="now", earlier="before") for each in (1, 2)]
    assert viewings_of(impressions) == {(CAMPAIGN_ID, "now"), key}
    assert reasons(*impressions, viewings=before) == [None, "over_cap"]
    assert reasons(*(capped(each, campaign_cap=cap, viewer="now") for each in (1, 2)), viewings=before) == [None, None]
    assert viewings_of([capped(1, viewer="now")]) == {(CAMPAIGN_ID, "now")}
