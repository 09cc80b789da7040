"""The planted bugs: that each can still be planted, and that the test which finds it is still there."""

from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Bug, planted

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_can_be_planted(bug: Bug) -> None:
    """The text that a bug replaces stands in the source once; what comes of it is Python."""
    compile(planted(bug, ROOT), bug.path, "exec")
    for test in bug.tests:
        path, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(encoding="utf-8")
