"""The shape of every aggregate: three functions in a record, and what a decision may know besides the state."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

from msgspec import UNSET, Struct, structs

from domain.errors import AlreadyExists, NotFound
from domain.rights import Rights

S = TypeVar("S")
C = TypeVar("C", contravariant=True)  # noqa: PLC0105  as its neighbours
E = TypeVar("E")
T = TypeVar("T", bound=Struct)

_NOBODY: Final[Mapping[str, object]] = MappingProxyType({})


class Context(Struct, frozen=True, kw_only=True):
    """What a decision may know besides the state.

    `subject` is the id of the thing the command is for, a fresh one when the command creates it; `others` holds, by
    stream, the states of the things that the command refers to (see `Decider.references`). `rights` are what the actor
    may do besides asking for the command at all; `person` answers for what the actor does, which may be a program.
    """

    now: datetime
    actor: str
    subject: UUID
    others: Mapping[str, object] = _NOBODY
    rights: Rights = Rights()
    person: UUID | None = None


class Decider(NamedTuple, Generic[S, C, E]):
    """An aggregate: what it is called, what it decides, how it evolves, and whom a decision has to see.

    `decide` raises a `domain.errors.Refusal`; both take None for a stream that has not begun.
    """

    thing: str
    decide: Callable[[S | None, C, Context], tuple[E, ...]]
    evolve: Callable[[S | None, E], S]
    references: Callable[[C], tuple[str, ...]] = lambda _command: ()


def stream_of(thing: str, thing_id: UUID) -> str:
    """Return the name of a thing's stream, such as `campaign-0199...`."""
    return f"{thing}-{thing_id}"


def fold(decider: Decider[S, C, E], state: S | None, events: Iterable[E]) -> S | None:
    """Return the state that the events lead to."""
    for event in events:
        state = decider.evolve(state, event)
    return state


def existing(thing: str, state: S | None, context: Context) -> S:
    """Return the state of a thing that a command wants to change; raise NotFound when there is none."""
    if state is None:
        raise NotFound(thing, context.subject)
    return state


def absent(thing: str, state: object | None, context: Context) -> None:
    """Raise AlreadyExists when the thing that a command wants to create is there."""
    if state is not None:
        raise AlreadyExists(f"There is a {thing} {context.subject} already.")


def begun(state: S | None) -> S:
    """Return the state of a stream that must have begun; ValueError says that the log is damaged."""
    if state is None:
        raise ValueError("a stream begins with its creation")
    return state


def copied(kind: type[T], source: Struct) -> T:
    """Return a struct of `kind` with the fields it has in common with its descendant `source`."""
    return kind(**{name: getattr(source, name) for name in kind.__struct_fields__})


def named_fields(changes: Struct) -> dict[str, Any]:
    """Return the fields that a change sets."""
    return {name: value for name, value in structs.asdict(changes).items() if value is not UNSET}


def differing_fields(terms: Struct, changes: Struct) -> dict[str, Any]:
    """Return the fields that a change sets to something else than they are."""
    return {name: value for name, value in named_fields(changes).items() if getattr(terms, name) != value}


def changed(terms: T, changes: Struct) -> T:
    """Return the terms after a change."""
    return structs.replace(terms, **named_fields(changes))
