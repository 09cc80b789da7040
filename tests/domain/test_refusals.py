"""Refusals: whoever is refused is counted once, and however many there are, one event holds them."""

from collections import Counter

from hypothesis import given as for_all
from hypothesis import strategies as st

from domain.refusals import LINES_MAX, Refusals
from infra.event_log import ENTRY_BYTES_MAX, encode_entry
from tests.domain.given import NOW
from tests.domain.strategies import law
from tests.projections.histories import recorded_at

KINDS = st.sampled_from(["sign_in_refused", "access_denied"])
REASONS = st.sampled_from(["password", "forbidden"])


@law
@for_all(refused=st.lists(st.tuples(KINDS, st.sampled_from(["user:1", "key:2"]), REASONS, st.just("192.0.2.0/24"))))
def test_each_that_is_refused_is_counted(refused: list[tuple[str, str, str, str]]) -> None:
    """The event says how often each was refused, and the next begins anew."""
    refusals = Refusals()
    for kind, actor, reason, network in refused:
        refusals.add(kind, actor=actor, reason=reason, network=network)  # type: ignore[arg-type]  # sampled of the kinds
    lines = [line for event in refusals.take(NOW) for line in event.lines]
    assert {(line.kind, line.actor, line.reason, line.network): line.count for line in lines} == Counter(refused)
    assert refusals.take(NOW) == ()


def test_an_attack_fills_one_event() -> None:
    """Beyond so many lines nobody is told apart any more, all are counted, and the event fits into the log."""
    refusals = Refusals()
    for number in range(5_000):
        network = f"2001:db8:{number % 65_536:x}::/48"
        actor = f"user:01990000-0000-7000-8000-{number:012}"
        for _ in range(2):
            refusals.add("access_denied", actor=actor, reason="change_notifications forbidden", network=network)
    (event,) = refusals.take(NOW)
    assert sum(line.count for line in event.lines) == 10_000
    assert len(event.lines) == LINES_MAX + 1
    assert [line.count for line in event.lines if not line.actor] == [10_000 - 2 * LINES_MAX]
    assert len(encode_entry(recorded_at(1, "access-1", 1, event).entry)) < ENTRY_BYTES_MAX
