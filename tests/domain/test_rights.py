"""What somebody may set of a thing that they may change."""

from uuid import uuid4

import pytest

from domain.errors import NotAllowed
from domain.rights import LIMITS, Rights, check_change
from domain.terms import CampaignChanges

PLANNER = Rights(spends=False)
PAYER = Rights(plans=False)
DRAFTER = Rights(spends=False, beyond_drafts=False)


def test_limits_are_fields_of_a_campaign() -> None:
    """No limit is misspelled."""
    assert set(CampaignChanges.__struct_fields__) >= LIMITS


@pytest.mark.parametrize(
    ("rights", "fields", "draft", "allowed"),
    [
        (Rights(), {"name", "budget_micros"}, False, True),
        (PLANNER, {"name", "budget_micros"}, True, True),
        (PLANNER, {"name"}, False, True),
        (PLANNER, {"daily_impression_budget"}, False, False),
        (PAYER, {"impression_budget", "daily_budget_micros"}, True, True),
        (PAYER, {"budget_micros"}, False, True),
        (PAYER, {"name"}, True, False),
        (DRAFTER, {"name", "budget_micros"}, True, True),
        (DRAFTER, {"name"}, False, False),
        (DRAFTER, set(), False, False),
    ],
)
def test_who_sets_what(rights: Rights, fields: set[str], *, draft: bool, allowed: bool) -> None:
    """Who plans sets anything of a draft and no limit later, who pays sets limits, and some change only drafts."""
    if allowed:
        check_change(rights, fields, draft=draft)
    else:
        with pytest.raises(NotAllowed):
            check_change(rights, fields, draft=draft)


def test_who_makes_things_for_whom() -> None:
    """Who is limited to some advertisers makes nothing for others; who is not, for all."""
    own, other = uuid4(), uuid4()
    assert Rights().knows(other)
    limited = Rights(advertisers=frozenset({own}))
    assert (limited.knows(own), limited.knows(other)) == (True, False)
