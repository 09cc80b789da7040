"""Given these events, when this command, then those events: the notation in which the domain's tests are written."""

from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from domain.decider import Context, Decider, fold
from domain.errors import Refusal

S = TypeVar("S")
C = TypeVar("C")
E = TypeVar("E")

NOW: Final = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
SUBJECT: Final = UUID("01990000-0000-7000-8000-000000000001")
NOBODY: Final[Mapping[str, object]] = MappingProxyType({})


class Answer(NamedTuple, Generic[S, C, E]):
    """What was decided: events, or a refusal."""

    decider: Decider[S, C, E]
    state: S | None
    events: tuple[E, ...]
    refusal: Refusal | None

    def then(self, *events: E) -> S:
        """Expect these events and no refusal; return the state they lead to."""
        assert self.refusal is None, f"refused: {self.refusal!r}"
        assert self.events == events
        state = fold(self.decider, self.state, self.events)
        assert state is not None
        return state

    def then_refused(self, kind: type[Refusal], *, pointer: str | None = None) -> None:
        """Expect a refusal of exactly this kind, at this place of the body."""
        assert self.refusal is not None, f"not refused, but decided: {self.events}"
        assert type(self.refusal) is kind
        assert self.refusal.pointer == pointer


class Given(NamedTuple, Generic[S, C, E]):
    """A thing as its events have made it."""

    decider: Decider[S, C, E]
    state: S | None

    def when(self, command: C, *, now: datetime = NOW, others: Mapping[str, object] = NOBODY) -> Answer[S, C, E]:
        """Decide on a command."""
        context = Context(now=now, actor="user:somebody", subject=SUBJECT, others=others)
        try:
            events = self.decider.decide(self.state, command, context)
        except Refusal as refusal:
            return Answer(self.decider, self.state, (), refusal)
        return Answer(self.decider, self.state, events, None)


def given(decider: Decider[S, C, E], *events: Any) -> Given[S, C, E]:
    """Return the thing that these events make."""
    return Given(decider, fold(decider, None, events))
