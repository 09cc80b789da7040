"""Five bugs, each of which would break the promise of the ledger, and the tests that find it.

They are planted one at a time in a copy of the source (`python -m tests.planted`), and never in the source itself.
"""

from pathlib import Path
from typing import Final, NamedTuple

SOAK: Final = "tests/soak/test_soak.py::test_the_service_does_what_the_model_says"


class Bug(NamedTuple):
    """What is wrong, the text of a file that is replaced, which stands there once, and the tests that must fail."""

    name: str
    what: str
    path: str
    text: str
    replacement: str
    tests: tuple[str, ...]


_UNTIL_MARKED: Final = (
    "            outcomes.append(None)\n            continue\n"
    "        invalid = _why_invalid(delivery, kinds)\n        marked = mark(delivery.kind, invalid)\n"
)

BUGS: Final = (
    Bug(
        "lost acknowledgement",
        "beacons of a batch that could not be committed are answered as if they were recorded",
        "infra/writer.py",
        "        for waiting in of_ledger:\n            _fail(waiting, LogUnavailable())\n",
        "        for waiting in of_ledger:\n"
        "            if isinstance(waiting.request, Recording):\n"
        "                _answer(waiting, (None,) * len(waiting.request.deliveries))\n"
        "            _fail(waiting, LogUnavailable())\n",
        ("tests/faults/test_kills.py::test_what_is_killed_comes_back[postgres]",),
    ),
    Bug(
        "double count",
        "an impression that is recorded already is recorded again",
        "domain/delivery.py",
        "        if delivery.kind in kinds:\n" + _UNTIL_MARKED + "        if marked in kinds:\n",
        '        if delivery.kind in kinds - {"impression"}:\n'
        + _UNTIL_MARKED
        + '        if marked in kinds - {"impression"}:\n',
        ("tests/api/test_exactness.py::test_beacons_sent_many_times_at_once_count_once", SOAK),
    ),
    Bug(
        "skipped position",
        "after a batch of several entries the log goes on one position too late",
        "infra/commit.py",
        '            "position": head.position + len(planned.entries),\n',
        '            "position": head.position + len(planned.entries) + (len(planned.entries) > 1),\n',
        ("tests/faults/test_kills.py::test_everything_is_killed", SOAK),
    ),
    Bug(
        "overspend by one",
        "a limit that is reached takes one more",
        "domain/budget.py",
        "(limit - used) // each",
        "(limit - used) // each + 1",
        ("tests/api/test_exactness.py::test_a_limit_is_met_exactly[impression_budget]",),
    ),
    Bug(
        "stale lease",
        "an impression is charged to the lease that it was promised from, even if that was reclaimed",
        "domain/delivery.py",
        "left.get(key, leases.get(key, 0))",
        "left.get(key, leases.get(key, int(ticket.worker > 0)))",
        ("tests/infra/test_leasing.py::test_a_zombie_cannot_spend_a_reclaimed_lease",),
    ),
)


def planted(bug: Bug, root: Path) -> str:
    """Return the text of a file with a bug in it; raise ValueError unless the text to replace stands there once."""
    text = (root / bug.path).read_text(encoding="utf-8")
    if text.count(bug.text) != 1:
        raise ValueError(f"{bug.name}: {bug.path} has not once but {text.count(bug.text)} times {bug.text!r}")
    return text.replace(bug.text, bug.replacement)
