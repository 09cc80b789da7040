"""The tally: whatever was asked for is in the events that are taken, once."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain import tally
from domain.tally import Tally
from infra.event_log import ENTRY_BYTES_MAX, encode_entry
from tests.domain.strategies import law
from tests.projections.histories import recorded_at

SLOT = UUID(int=1)
REASONS = ("no_budget", "no_matching_creative", "frequency_capped", "paced")
asked = st.tuples(
    st.sampled_from([SLOT, UUID(int=2)]),
    st.sampled_from(["CN", "DE", None]),
    st.integers(0, 3 * 3_600),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(REASONS),
)


@law
@for_all(rounds=st.lists(st.lists(asked, max_size=20), max_size=3))
def test_what_is_asked_for_is_counted_once(rounds: list[list[tuple[UUID, str | None, int, int, int, str]]]) -> None:
    """However often the events are taken, together they say what was asked for, by hour, slot, country and reason."""
    counted, right = Counter[object](), Counter[object]()
    counting = Tally()
    for placements in rounds:
        for slot_id, country, second, filled, missing, reason in placements:
            why = reason if missing else None
            counting.add(slot_id, country, second=second, asked=filled + missing, filled=filled, reason=why)
            hour = datetime.fromtimestamp(second - second % 3_600, UTC)
            right[hour, slot_id, country, ""] += filled
            right[hour, slot_id, country, reason] += missing
        for event in counting.take():
            for line in event.lines:
                for why, count in {"": line.fills, **line.no_fill}.items():
                    counted[event.hour, line.slot_id, line.country, why] += count
    assert counting.take() == ()
    assert +counted == +right


def test_an_event_is_not_larger_than_the_log_takes() -> None:
    """Many slots and countries at once make several events; beyond a bound, countries are counted together."""
    counting = Tally()
    for number in range(tally.KINDS_MAX + 500):
        for reason in REASONS:
            counting.add(
                UUID(int=number // 250), f"{number % 250}", second=10**9, asked=10**6, filled=10**5, reason=reason
            )
    events = counting.take()
    assert sum(line.fills for event in events for line in event.lines) == len(REASONS) * 10**5 * (tally.KINDS_MAX + 500)
    assert sum(len(event.lines) for event in events) <= tally.KINDS_MAX + 2
    assert any(line.country is None for event in events for line in event.lines)
    longest = max(len(encode_entry(recorded_at(1, "requests-1", 1, event).entry)) for event in events)
    assert ENTRY_BYTES_MAX / 2 < longest < ENTRY_BYTES_MAX


def test_what_is_full_has_no_reason_and_what_is_empty_no_fill() -> None:
    """A placement that got all it asked for is counted as filled alone, one that got nothing under its reason alone."""
    counting = Tally()
    counting.add(SLOT, "CN", second=0, asked=2, filled=2, reason=None)
    counting.add(SLOT, "DE", second=0, asked=3, filled=0, reason="paced")
    (event,) = counting.take()
    assert {line.country: (line.fills, line.no_fill) for line in event.lines} == {
        "CN": (2, {}),
        "DE": (0, {"paced": 3}),
    }
