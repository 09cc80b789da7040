"""Deciders: the laws that every aggregate keeps, whatever it is asked and in whatever order."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from domain import advertiser, campaign, policy
from domain.advertiser import ADVERTISER, CreateAdvertiser, MoveFunds
from domain.campaign import CAMPAIGN
from domain.creative import CREATIVE
from domain.decider import Context, Decider, fold, stream_of
from domain.errors import Refusal
from domain.events import AdvertiserCreated, BudgetPolicySet, CampaignCreated, Entry
from domain.policy import POLICY
from domain.slot import SLOT, CreateSlot
from tests.domain import strategies
from tests.domain.asking import policy_commands
from tests.domain.given import NOW, SUBJECT
from tests.domain.stored import stored
from tests.domain.strategies import EVENT_TYPES, law, moments, tag_of

AnyDecider = Decider[Any, Any, Any]


class Asked(NamedTuple):
    """A command, and when it is decided."""

    command: Any
    now: datetime


class Decided(NamedTuple):
    """A decision: on what, on which command, knowing what, and what came of it (None: it was refused)."""

    state: Any
    command: Any
    context: Context
    events: tuple[Any, ...] | None


def _asked(first: SearchStrategy[Any], any_command: SearchStrategy[Any]) -> SearchStrategy[list[Asked]]:
    asked = st.builds(Asked, any_command, moments)
    later = st.lists(asked, max_size=12) | st.lists(asked, min_size=8, max_size=12)
    return later | st.builds(lambda command, asked: [Asked(command, NOW), *asked], first, later)


# Each aggregate with commands that may follow one another, most of them from its creation on.
LIVES: Final[list[tuple[AnyDecider, SearchStrategy[list[Asked]]]]] = [
    (ADVERTISER, _asked(strategies.made(CreateAdvertiser, strategies.ADVERTISER), strategies.advertiser_commands)),
    (CAMPAIGN, _asked(strategies.drafted_campaigns, strategies.campaign_commands)),
    (CREATIVE, _asked(strategies.drafted_creatives, strategies.creative_commands)),
    (POLICY, _asked(policy_commands, policy_commands)),
    (SLOT, _asked(strategies.made(CreateSlot, strategies.SLOT), strategies.slot_commands)),
]
of_every_aggregate: Final = pytest.mark.parametrize(
    ("aggregate", "lives"), LIVES, ids=[aggregate.thing for aggregate, _ in LIVES]
)

_OTHERS: Final = {
    "policy": policy.evolve(None, stored(BudgetPolicySet)),
    "advertiser": advertiser.evolve(None, stored(AdvertiserCreated)),
    "campaign": campaign.evolve(None, stored(CampaignCreated)),
}


def _live(aggregate: AnyDecider, asked: list[Asked]) -> Iterator[Decided]:
    state = None
    for command, now in asked:
        others = {stream: _OTHERS[stream.partition("-")[0]] for stream in aggregate.references(command)}
        context = Context(now=now, actor="user:somebody", subject=SUBJECT, others=others)
        try:
            events = aggregate.decide(state, command, context)
        except Refusal:
            yield Decided(state, command, context, None)
        else:
            yield Decided(state, command, context, events)
            state = fold(aggregate, state, events)


@of_every_aggregate
@law
@for_all(data=st.data())
def test_replaying_the_events_gives_the_state(
    aggregate: AnyDecider, lives: SearchStrategy[list[Asked]], data: st.DataObject
) -> None:
    """The state reached step by step is the one that all events lead to from the start, read back from the log."""
    log: list[bytes] = []
    for decided in _live(aggregate, data.draw(lives)):
        stored = [msgspec.json.decode(entry, type=Entry, strict=True).event for entry in log]
        assert fold(aggregate, None, stored) == decided.state
        for event in decided.events or ():
            version = len(log) + 1
            entry = Entry(stream="s", version=version, actor="a", occurred_at=NOW, recorded_at=NOW, event=event)
            log.append(msgspec.json.encode(entry))


@of_every_aggregate
@law
@for_all(data=st.data())
def test_a_decision_can_be_repeated_and_changes_nothing(
    aggregate: AnyDecider, lives: SearchStrategy[list[Asked]], data: st.DataObject
) -> None:
    """The same question is answered alike, down to the words of a refusal, and leaves the state what it was."""
    for state, command, context, _ in _live(aggregate, data.draw(lives)):
        before = msgspec.json.encode(state)
        assert _outcome(aggregate, state, command, context) == _outcome(aggregate, state, command, context)
        assert msgspec.json.encode(state) == before


@of_every_aggregate
@law
@for_all(data=st.data())
def test_what_is_repeated_changes_nothing_more(
    aggregate: AnyDecider, lives: SearchStrategy[list[Asked]], data: st.DataObject
) -> None:
    """A change that was made is no event when it is asked for again, and nothing but money moves twice in a row."""
    for state, command, context, events in _live(aggregate, data.draw(lives)):
        if events and not isinstance(command, MoveFunds):
            after = fold(aggregate, state, events)
            again = _outcome(aggregate, after, command, context)
            assert isinstance(again, tuple)
            assert again == () or issubclass(again[0], Refusal)


def _outcome(aggregate: AnyDecider, state: object, command: object, context: Context) -> tuple[Any, ...]:
    try:
        return aggregate.decide(state, command, context)
    except Refusal as refusal:
        return type(refusal), refusal.detail, refusal.pointer


@pytest.mark.parametrize("aggregate", [each for each, _ in LIVES if each is not POLICY], ids=lambda each: each.thing)
def test_only_creation_begins_a_stream(aggregate: AnyDecider) -> None:
    """Every event of an aggregate but its creation is a sign of damage at the start of a stream."""
    first, *others = [event for event in EVENT_TYPES if tag_of(event).startswith(f"{aggregate.thing}_")]
    assert tag_of(first).endswith("_created")
    assert aggregate.evolve(None, stored(first)) is not None
    for event in others:
        with pytest.raises(ValueError, match="begins with its creation"):
            aggregate.evolve(None, stored(event))


def test_streams_are_named_after_their_thing() -> None:
    """A stream's name is the kind of thing and its id."""
    assert stream_of("campaign", SUBJECT) == f"campaign-{SUBJECT}"


def test_a_decision_may_need_to_see_nothing_else() -> None:
    """An aggregate that refers to no other has no references."""
    assert ADVERTISER.references(CreateAdvertiser(name="Shoes")) == ()
