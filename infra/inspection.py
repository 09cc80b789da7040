"""Inspecting an exported folder: the whole verifier over it, and the accounts checked line by line and by beancount."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from infra.accounts import Book
from infra.recount import COUNTS, FURTHER, GROUP, PLACE, THING, VALUE, Deliveries, Recount, add_further
from infra.verifier import Policy, Report, notes_in, parse_policy, verify_folder

ACCOUNTS: Final = "accounts.beancount"
BUDGETS: Final = "budgets.ndjson"
DELIVERIES: Final = "deliveries.ndjson"
BEAN_CHECK_TRANSACTIONS_MAX: Final = 100_000
"""Beancount holds all of them in memory: these take it 10 s and 0.4 GB; more are only checked when asked for."""

DIFFERENCES_MAX: Final = 20
LINE: Final = ("hour", *THING, *PLACE, "currency", "reason")


class Unreadable(Exception):
    """The folder {folder} is no export: {reason}."""

    def __init__(self, folder: Path, reason: str) -> None:
        """Say what is missing."""
        super().__init__(str(self.__doc__).format(folder=folder, reason=reason))


class _Accounts:
    """Compares the file of the accounts with what the entries lead to, as far as a line of both can be found."""

    def __init__(self, lines: Iterator[str], origin: str, report: Report) -> None:
        self.book = Book(origin)
        self._report = report
        self._differences = 0
        self._lines = lines
        self._compare(self.book.header, None)

    def add(self, position: int, said: Mapping[str, Any]) -> None:
        with self._understood(position):
            self._compare(self.book.text_of(position, said), position)

    def finish(self, campaigns: Iterable[Mapping[str, Any]]) -> None:
        with self._understood(None):
            self._compare(self.book.balances(campaigns), None)
        rest = sum(1 for _ in self._lines)
        if rest:
            self._report.wrong("accounts", f"{ACCOUNTS} has {rest:,} lines more than the entries lead to")

    @contextmanager
    def _understood(self, position: int | None) -> Iterator[None]:
        try:
            yield
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            self._report.wrong("accounts", f"what has to be said here cannot be understood: {error!r}", position)

    def _compare(self, expected: str, position: int | None) -> None:
        for line in expected.splitlines(keepends=True):
            self._report.checked["accounts"] += 1
            found = next(self._lines, "")
            if found != line and self._differences < DIFFERENCES_MAX:
                self._differences += 1
                self._report.wrong("accounts", f"{found.strip()!r} is said, {line.strip()!r} is right", position)


def policy_in(folder: Path) -> Policy:
    """Return the policy that came with a folder; raise Unreadable."""
    try:
        policy = parse_policy((folder / "policy").read_text(encoding="utf-8"))
    except (OSError, ValueError, IndexError) as error:
        raise Unreadable(folder, f"its policy cannot be read ({error})") from error
    if not policy.logs:
        raise Unreadable(folder, "its policy names no log")
    return policy


def inspect_folder(
    folder: Path, policy: Policy, kept: Iterable[tuple[str, str]], report: Report, *, bean_check: bool | None = None
) -> str | None:
    """Check everything in a folder; `kept` are notes that an auditor kept, each with its name. Raise Unreadable.

    `bean_check` says whether beancount is asked too; left open, it is when it is installed and the accounts are small.
    Where it was not, why not is returned.
    """
    try:
        with closing(Recount(report)) as recount, (folder / ACCOUNTS).open(encoding="utf-8", errors="replace") as lines:
            accounts = _Accounts(lines, policy.logs[0].name, report)

            def each(position: int, entry: bytes) -> None:
                said = recount.add(position, entry)
                if said is not None:
                    accounts.add(position, said)

            verify_folder(folder, policy, kept, report, each)
            recount.finish()
            recount.check_budgets(_rows(folder / BUDGETS, report))
            said, further = recount.deliveries.beside(), recount.further.beside()
            _read_deliveries(folder / DELIVERIES, said, further, report)
            recount.check_deliveries(said)
            recount.check_further(further)
            accounts.finish(recount.campaigns.values())
    except OSError as error:
        raise Unreadable(folder, f"{error.filename}: {error.strerror}") from error
    why_not = _why_no_beancount(accounts.book.transactions) if bean_check is None else None
    if bean_check is False:
        why_not = "you said so"
    if why_not is None:
        _ask_beancount(folder / ACCOUNTS, report)
    return why_not


def _why_no_beancount(transactions: int) -> str | None:
    if find_spec("beancount") is None:
        return "it is not installed; PyPI has it"
    if transactions > BEAN_CHECK_TRANSACTIONS_MAX:
        seconds, gigabytes = transactions // 10_000, transactions * 4 / 1_000_000
        needed = f"which take it about {seconds:,} s and {gigabytes:,.1f} GB"
        return f"there are {transactions:,} transactions, {needed}; --bean-check asks it"
    return None


def kept_notes(paths: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """Yield the checkpoints in files, in files of one a line, in proofs, and in the folders of earlier exports."""
    for path in paths:
        if path.is_dir():
            yield from kept_notes([path / "checkpoint", path / "checkpoints.ndjson"])
        elif path.suffix == ".ndjson":
            yield from notes_in(path)
        else:
            text = path.read_text(encoding="utf-8")
            yield str(path), text.partition("\n\n")[2] if text.startswith("c2sp.org/tlog-proof@") else text


def _rows(path: Path, report: Report) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if isinstance(row, dict):
                yield row
            else:
                report.wrong("reports", f"line {number} of {path.name} is no row")


def _read_deliveries(path: Path, said: Deliveries, further: Deliveries, report: Report) -> None:
    """Add the deliveries that a file says, a line for each hour, place and so on, in the order of its lines."""
    last: tuple[str, ...] = ()
    for number, row in enumerate(_rows(path, report), 1):
        report.checked["reports"] += 1
        key = tuple(text for name in LINE if type(text := row.get(name)) is str)
        counts = [count for name in COUNTS if type(count := row.get(name)) is int]
        rest = [count for name in (*FURTHER, VALUE) if type(count := row.get(name)) is int]
        lacking = {*LINE, *COUNTS} - row.keys()
        if lacking or len(key) + len(counts) + len(rest) != len(row):
            report.wrong("reports", f"line {number} of {path.name} is no line of the report")
        elif key <= last or not key[0].endswith(":00:00Z"):
            report.wrong("reports", f"line {number} of {path.name} is out of order, or has no full hour")
        else:
            named = dict(zip(LINE, key, strict=True)) | {"day": key[0][:10]}
            group = tuple(named[name] for name in GROUP)
            said.add(group, key[0][:13], [named[name] for name in PLACE], counts)
            add_further(further, group, key[0][:13], row)
            last = key


def _ask_beancount(path: Path, report: Report) -> None:
    asked = subprocess.run(  # noqa: S603  a program of this environment
        [sys.executable, "-m", "beancount.scripts.check", "--no-cache", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    report.checked["bean-check"] += 1
    if asked.returncode:
        report.wrong("bean-check", (asked.stderr or asked.stdout).strip()[:2_000])
