"""Plants each of the bugs in a copy of the source, and shows that the suite finds it: `python -m tests.planted`."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

import click

from tests.planted.bugs import BUGS, planted

ROOT: Final = Path(__file__).parent.parent.parent
COPIED: Final = ("api", "domain", "infra", "migrations", "projections", "tests", "pyproject.toml")
FAILED: Final = 1
"""The exit status of pytest when tests ran and some failed; when they cannot be found or imported it has others."""


def main() -> int:
    """Run the tests without any bug, where all must pass, and with each, where all must fail; 1 if it is otherwise."""
    wrong = 0
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy / name)
        wanted = [bug for bug in BUGS if not sys.argv[1:] or bug.name in sys.argv[1:]]
        for test in sorted({test for bug in wanted for test in bug.tests}):
            wrong += _tell("no bug", test, _status(copy, test), expected=0)
        for bug in wanted:
            path = copy / bug.path
            original = path.read_text(encoding="utf-8")
            path.write_text(planted(bug, copy), encoding="utf-8")
            for test in bug.tests:
                wrong += _tell(bug.name, test, _status(copy, test), expected=FAILED)
            path.write_text(original, encoding="utf-8")
    click.echo("WRONG" if wrong else f"each of {len(wanted)} bugs is found")
    return 1 if wrong else 0


def _status(copy: Path, test: str) -> tuple[int, float, str]:
    """Return the exit status of a test that is run in the copy, how long it took, and the end of what it said."""
    started = monotonic()
    # The copy goes before the installed source, also in the processes that a test starts; no stale bytecode is left.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "--no-cov", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=copy, env=environment, check=False, capture_output=True, text=True)
    return done.returncode, monotonic() - started, done.stdout[-2_000:] + done.stderr[-1_000:]


def _tell(name: str, test: str, ran: tuple[int, float, str], *, expected: int) -> bool:
    status, seconds, said = ran
    outcome = {0: "passes", FAILED: "fails"}.get(status, f"did not run ({status})")
    click.echo(f"{name:<22}{outcome:<8}{seconds:>6.0f} s  {test}")
    if status != expected:
        click.echo(said)
    return status != expected


if __name__ == "__main__":
    sys.exit(main())
