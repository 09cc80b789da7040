"""Tries many of each kind of tampering, and prints which checks found it how often: `python -m tests.tamper`."""

import argparse
import asyncio
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from infra import embedded, schema
from tests import evening
from tests.tamper import is_found
from tests.tamper.exports import KINDS, Kind, try_folder
from tests.tamper.live import LIVE_KINDS, try_live


def main() -> int:
    """Try every kind many times, and print which checks found it how often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000, help="how many of each kind")
    cases = parser.parse_args().cases
    missed = 0
    with TemporaryDirectory() as data, TemporaryDirectory() as folder, embedded.hold(Path(data)) as url:
        schema.migrate(url)
        source = asyncio.run(evening.prepared(url, Path(folder)))
        for kind in (*KINDS, *LIVE_KINDS):
            found: Counter[str] = Counter()
            for seed in range(cases):
                with TemporaryDirectory() as scratch:
                    report = (
                        try_folder(kind, source, Path(scratch), seed)
                        if isinstance(kind, Kind)
                        else asyncio.run(try_live(kind, url, seed))
                    )
                found.update({finding.check for finding in report.findings})
                missed += not is_found(kind.found_by, report)
            checks = ", ".join(f"{check} {count:,}" for check, count in found.most_common())
            sys.stdout.write(f"{kind.name:<36} {cases:>6,}  {checks}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{missed:,} were not found by the check that has to.\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
