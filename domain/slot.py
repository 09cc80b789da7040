"""Slots: places where a creative can be shown, and the keys with which they ask for one."""

from typing import Annotated, Final, assert_never
from uuid import UUID

from msgspec import Meta, Struct, structs

from domain.decider import Context, Decider, absent, begun, changed, copied, differing_fields, existing
from domain.errors import AlreadyExists, NotFound, TooManyKeys
from domain.events import SlotChanged, SlotCreated, SlotEvent, SlotKeyIssued, SlotKeyRevoked
from domain.terms import SlotChanges, SlotTerms

VALID_KEYS_MAX: Final = 2
"""Two, so that a key can be replaced without a moment in which none is valid."""


class CreateSlot(SlotTerms, frozen=True, kw_only=True):
    """Set up a slot."""


class ChangeSlot(SlotChanges, frozen=True, kw_only=True):
    """Set fields of a slot."""


class IssueSlotKey(Struct, frozen=True, kw_only=True):
    """Make a key valid, of which only the SHA-256 (hexadecimal) is told."""

    key_id: UUID
    key_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]


class RevokeSlotKey(Struct, frozen=True, kw_only=True):
    """Make a key invalid."""

    key_id: UUID


SlotCommand = CreateSlot | ChangeSlot | IssueSlotKey | RevokeSlotKey


class Slot(Struct, frozen=True, kw_only=True):
    """A slot as it stands, with the SHA-256 of each valid key by the key's id."""

    terms: SlotTerms
    keys: dict[UUID, str] = {}


def decide(state: Slot | None, command: SlotCommand, context: Context) -> tuple[SlotEvent, ...]:
    """Return what follows from a command; raise NotFound, AlreadyExists or TooManyKeys."""
    match command:
        case CreateSlot():
            absent("slot", state, context)
            return (copied(SlotCreated, command),)
        case ChangeSlot():
            fields = differing_fields(existing("slot", state, context).terms, command)
            return (SlotChanged(**fields),) if fields else ()
        case IssueSlotKey():
            keys = existing("slot", state, context).keys
            if command.key_id in keys:
                raise AlreadyExists(f"The slot has a key {command.key_id} already.")
            if len(keys) >= VALID_KEYS_MAX:
                raise TooManyKeys(f"The slot has {VALID_KEYS_MAX} valid keys; revoke one first.")
            return (SlotKeyIssued(key_id=command.key_id, key_sha256=command.key_sha256),)
        case RevokeSlotKey():
            if command.key_id not in existing("slot", state, context).keys:
                raise NotFound("key", command.key_id)
            return (SlotKeyRevoked(key_id=command.key_id),)
        case _:
            assert_never(command)


def evolve(state: Slot | None, event: SlotEvent) -> Slot:
    """Return the slot after an event."""
    match event:
        case SlotCreated():
            return Slot(terms=copied(SlotTerms, event))
        case SlotChanged():
            slot = begun(state)
            return structs.replace(slot, terms=changed(slot.terms, event))
        case SlotKeyIssued():
            slot = begun(state)
            return structs.replace(slot, keys=slot.keys | {event.key_id: event.key_sha256})
        case SlotKeyRevoked():
            slot = begun(state)
            return structs.replace(slot, keys={k: v for k, v in slot.keys.items() if k != event.key_id})
        case _:
            assert_never(event)


SLOT: Final = Decider("slot", decide, evolve)
