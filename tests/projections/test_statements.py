"""Reports made of exported entries alone; that they equal the read models is held beside `ledger audit replay`."""

from pathlib import Path

import pytest

from infra import mirror
from projections import statements


def test_lines_that_are_too_many_for_memory_are_the_same(evening_export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries that were put on disk on the way are added up, in the same order, as those that were not."""
    size = int((evening_export / "checkpoint").read_text().splitlines()[1])
    whole = statements.rows_of("delivery", mirror.entries_in(evening_export, size))
    monkeypatch.setattr(statements, "LINES_IN_MEMORY_MAX", 3)
    assert statements.rows_of("delivery", mirror.entries_in(evening_export, size)) == whole
    assert len(whole) > 30
