"""Rows about verifying an export, which takes neither a database nor a service."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Final, NamedTuple

from infra.verifier import Report, parse_policy, verify_folder
from tests.bench import large_export
from tests.bench.rounds import Plan, Row

HASHED_ENTRIES: Final = 100_000
EXPORTED_ENTRIES: Final = 1_000_000
SECONDS_MAX: Final = 60
HASHED_A_SECOND_MIN: Final = 300_000
BYTES_PER_MB: Final = 1_000_000
KILOBYTE: Final = 1_024
"""What the system counts memory in."""

LAUNCH: Final = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""A small process starts the measured one: the system counts what the parent had at that time as the child's."""


class Verified(NamedTuple):
    """How long the verification of an export took, and how much memory its process had at most."""

    seconds: float
    memory_mb: float


def verification(plan: Plan) -> Iterator[Row]:
    """Verifying exports: hashes and structure of the tree alone, and all of it, a large one beside a small one."""
    with TemporaryDirectory(prefix="ledger-bench-") as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        large_export.write(small, HASHED_ENTRIES)
        yield Row(
            name="hashing",
            what="entries of an export hashed, and held against tree and checkpoints, one core",
            unit="/s",
            figure=median([HASHED_ENTRIES / _seconds(small) for _ in range(plan.rounds)]),
            target=HASHED_A_SECOND_MIN,
        )
        large_export.write(large, EXPORTED_ENTRIES)
        all_of_it, part = verify(large), verify(small)
        yield Row(
            name="verification",
            what=f"an export of {EXPORTED_ENTRIES:,} entries verified, with replay",
            unit="s",
            figure=all_of_it.seconds,
            limit="at most",
            target=SECONDS_MAX,
            note="without beancount; once",
        )
        ratio = all_of_it.memory_mb / part.memory_mb
        yield Row(
            name="verification-memory",
            what=f"memory at most for {EXPORTED_ENTRIES:,} entries",
            unit="MB",
            figure=all_of_it.memory_mb,
            beside=f"for {HASHED_ENTRIES:,} entries",
            beside_figure=part.memory_mb,
            ratio=ratio,
            ratio_min=ratio,
            ratio_max=ratio,
            limit="at most",
            target=1.25,
        )


def verify(folder: Path) -> Verified:
    """Verify an export as an auditor does, in a process of its own."""
    command = [sys.executable, "-m", "api.cli", "audit", "verify", str(folder), "--no-bean-check", "--json"]
    started = perf_counter()
    told = subprocess.run([sys.executable, "-I", "-c", LAUNCH, *command], capture_output=True, text=True, check=True)
    return Verified(perf_counter() - started, int(told.stdout) * KILOBYTE / BYTES_PER_MB)


def _seconds(folder: Path) -> float:
    report, policy = Report(), parse_policy((folder / "policy").read_text())
    started = process_time()  # of one core, whoever else is using it
    verify_folder(folder, policy, (), report, lambda _position, _entry: None)
    assert not report.found
    return process_time() - started
