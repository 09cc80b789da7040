"""A few of each kind of tampering are found, each by the check that has to; `make tamper` tries many more."""

import asyncio
from pathlib import Path

import pytest

from tests.tamper import is_found
from tests.tamper.exports import KINDS, Kind, try_folder
from tests.tamper.live import LIVE_KINDS, LiveKind, try_live

CASES: int = 4
LIVE_CASES: int = 2


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_meddled_export_is_found_out(evening_source: tuple[str, Path], tmp_path: Path, kind: Kind) -> None:
    """Whatever is done to an export, or by whom, the check that is there for it finds it."""
    for seed in range(CASES):
        report = try_folder(kind, evening_source[1], tmp_path, seed)
        assert is_found(kind.found_by, report), (seed, report.findings)


@pytest.mark.parametrize("kind", LIVE_KINDS, ids=lambda kind: kind.name)
def test_a_meddled_database_is_found_out(evening_source: tuple[str, Path], kind: LiveKind) -> None:
    """Whatever is done to the database behind the service's back, the check that is there for it finds it."""
    for seed in range(LIVE_CASES):
        report = asyncio.run(try_live(kind, evening_source[0], seed))
        assert is_found(kind.found_by, report), (seed, report.findings)
