"""Strategies for budgets that are asked for, and for the policy that says which have to be."""

from typing import Any, Final
from uuid import UUID

from hypothesis import strategies as st

from domain.policy import SetBudgetPolicy
from domain.terms import BudgetLimit
from domain.values import MICROS_MAX

micros: Final = st.integers(0, MICROS_MAX)
limits: Final = st.builds(BudgetLimit, currency=st.sampled_from(["EUR", "USD", "XXY"]), above_micros=micros)
policies: Final = st.lists(limits, max_size=2).map(tuple)
policy_commands: Final = st.builds(SetBudgetPolicy, limits=policies)

BUDGET: Final[dict[str, st.SearchStrategy[Any]]] = {
    "request_id": st.integers(1, 4).map(lambda number: UUID(int=number)),
    **dict.fromkeys(("requested_micros", "requested_daily_micros"), st.none() | micros),
    "currency": st.sampled_from(["EUR", "USD"]),
    "asked_by": st.none() | st.uuids(),
    "limits": policies,
}
