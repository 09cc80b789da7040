"""Slots: set up once, changed in any field, opened by at most two keys."""

import json
from uuid import UUID

import pytest

from domain.errors import AlreadyExists, NotFound, TooManyKeys
from domain.events import SlotChanged, SlotCreated, SlotKeyIssued, SlotKeyRevoked
from domain.slot import SLOT, ChangeSlot, CreateSlot, IssueSlotKey, RevokeSlotKey, Slot, SlotCommand
from domain.terms import SlotTerms
from tests.domain.given import given
from tests.domain.shape import passes

CREATED = SlotCreated(name="Front page", ad_type="top_bar_ad", width=300, height=250)
FIRST, SECOND, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)
FIRST_ISSUED = SlotKeyIssued(key_id=FIRST, key_sha256="aa" * 32)
SECOND_ISSUED = SlotKeyIssued(key_id=SECOND, key_sha256="bb" * 32)


def test_a_slot_is_set_up() -> None:
    """Setting up a slot records its terms, and no key opens it yet."""
    command = CreateSlot(name="Front page", ad_type="top_bar_ad", width=300, height=250)
    terms = SlotTerms(name="Front page", ad_type="top_bar_ad", width=300, height=250)
    assert given(SLOT).when(command).then(CREATED) == Slot(terms=terms, keys={})


def test_a_slot_is_set_up_once() -> None:
    """A stream that has begun does not begin again."""
    given(SLOT, CREATED).when(CreateSlot(name="Other", ad_type="top_bar_ad")).then_refused(AlreadyExists)


def test_a_change_sets_the_fields_it_names_and_keeps_the_keys() -> None:
    """A change records the fields that differ; keys stay valid."""
    change = ChangeSlot(name="Front page", width=None, status="inactive")
    state = given(SLOT, CREATED, FIRST_ISSUED).when(change).then(SlotChanged(width=None, status="inactive"))
    assert (state.terms.name, state.terms.width, state.terms.status) == ("Front page", None, "inactive")
    assert state.keys == {FIRST: "aa" * 32}


def test_a_change_of_nothing_is_no_event() -> None:
    """A change to what is the case already records nothing."""
    given(SLOT, CREATED).when(ChangeSlot(width=300)).then()


def test_two_keys_are_valid_at_a_time() -> None:
    """A key can be replaced without a moment in which none is valid, but a third must wait."""
    issue = IssueSlotKey(key_id=SECOND, key_sha256="bb" * 32)
    state = given(SLOT, CREATED, FIRST_ISSUED).when(issue).then(SECOND_ISSUED)
    assert state.keys == {FIRST: "aa" * 32, SECOND: "bb" * 32}
    third = IssueSlotKey(key_id=THIRD, key_sha256="cc" * 32)
    given(SLOT, CREATED, FIRST_ISSUED, SECOND_ISSUED).when(third).then_refused(TooManyKeys)
    revoked = SlotKeyRevoked(key_id=FIRST)
    given(SLOT, CREATED, FIRST_ISSUED, SECOND_ISSUED, revoked).when(third).then(
        SlotKeyIssued(key_id=THIRD, key_sha256="cc" * 32)
    )


def test_a_key_is_issued_once() -> None:
    """An id names one key for as long as it is valid."""
    again = IssueSlotKey(key_id=FIRST, key_sha256="bb" * 32)
    given(SLOT, CREATED, FIRST_ISSUED).when(again).then_refused(AlreadyExists)


def test_a_revoked_key_opens_nothing() -> None:
    """Revoking a key takes it away and leaves the other; what is not valid cannot be revoked."""
    revoke = RevokeSlotKey(key_id=FIRST)
    state = given(SLOT, CREATED, FIRST_ISSUED, SECOND_ISSUED).when(revoke).then(SlotKeyRevoked(key_id=FIRST))
    assert state.keys == {SECOND: "bb" * 32}
    given(SLOT, CREATED, FIRST_ISSUED, SlotKeyRevoked(key_id=FIRST)).when(revoke).then_refused(NotFound)


@pytest.mark.parametrize(
    "command",
    [ChangeSlot(name="x"), IssueSlotKey(key_id=FIRST, key_sha256="aa" * 32), RevokeSlotKey(key_id=FIRST)],
)
def test_what_is_not_there_cannot_change(command: SlotCommand) -> None:
    """A slot that was never set up is not found."""
    given(SLOT).when(command).then_refused(NotFound)


@pytest.mark.parametrize("sha256", ["", "aa" * 31, "aa" * 33, "AA" * 32, "xx" * 32, "aa" * 32 + "\n", 1, None])
def test_a_key_is_told_by_its_sha256(sha256: object) -> None:
    """Only the hexadecimal SHA-256 of a key has the right shape."""
    assert passes(IssueSlotKey, json.dumps({"key_id": str(FIRST), "key_sha256": "ab" * 32}))
    assert not passes(IssueSlotKey, json.dumps({"key_id": str(FIRST), "key_sha256": sha256}))
