"""Refusals: each has a code for programs and a sentence for people."""

from collections.abc import Iterator
from typing import Any, get_args

import pytest

from domain import errors
from domain.errors import Kind, Refusal


def _refusals(kind: type[Refusal] = Refusal) -> Iterator[type[Refusal]]:
    for refusal in kind.__subclasses__():
        if refusal.__module__ == errors.__name__:
            yield refusal
            yield from _refusals(refusal)


def test_every_refusal_has_a_code_of_its_own() -> None:
    """No two refusals share a code, none has the general one, and codes are snake_case for ever."""
    codes = [refusal.code for refusal in _refusals()]
    assert len({*codes, Refusal.code}) == len(codes) + 1
    assert [code for code in codes if not code.replace("_", "").isalpha() or code != code.lower()] == []


def test_every_refusal_is_of_a_kind_that_doors_know() -> None:
    """The kind says how a door answers, whatever the refusal; none is there for nothing."""
    assert {refusal.kind for refusal in _refusals()} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("refusal", "kind", "code", "detail", "pointer"),
    [
        (Refusal("No.", pointer="/a"), "rule", "refused", "No.", "/a"),
        (errors.NotFound("slot", 7), "missing", "not_found", "There is no slot 7 in this ledger.", None),
        (
            errors.UnknownReference("advertiser", 7, pointer="/advertiser_id"),
            "rule",
            "unknown_reference",
            "There is no advertiser 7 in this ledger.",
            "/advertiser_id",
        ),
        (
            errors.WrongState("campaign", "draft", "pause"),
            "conflict",
            "wrong_state",
            "A campaign that is draft cannot be asked to pause.",
            None,
        ),
        (
            errors.VersionConflict("slot-7", 3),
            "conflict",
            "version_conflict",
            "slot-7 is no longer at version 3; read it again and retry.",
            None,
        ),
        (
            errors.PreconditionFailed(3, 4),
            "precondition",
            "precondition_failed",
            "If-Match asks for version 3, but the current version is 4.",
            None,
        ),
    ],
)
def test_a_refusal_says_what_and_where(refusal: Refusal, kind: str, code: str, detail: str, pointer: Any) -> None:
    """A refusal carries kind, code, a sentence, and the place in the body when it has one."""
    assert (refusal.kind, refusal.code, refusal.detail, refusal.pointer) == (kind, code, detail, pointer)
    assert str(refusal) == detail
