"""The short form of the soak: a few hundred steps on two nodes, with a kill and a restart in the middle."""

from collections.abc import Iterator
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory

import pytest

from tests.databases import fresh_database
from tests.soak.machine import OFTEN
from tests.soak.running import a_machine, staged, take_few
from tests.soak.stage import Stage


@pytest.fixture
def stage(cluster_url: str) -> Iterator[Stage]:
    """Two nodes on a fresh database."""
    with (
        fresh_database(cluster_url, "ledger") as url,
        TemporaryDirectory() as folder,
        staged(Path(folder), url) as found,
    ):
        yield found


def test_the_service_does_what_the_model_says(stage: Stage) -> None:
    """Whatever is asked, in any order, of either node, the log has exactly what follows, and readers see it.

    Where there is no C compiler the wall clock is not set.
    """
    machine = a_machine(stage, OFTEN)
    seed = SystemRandom().randrange(2**32)
    try:
        take_few(machine, seed=seed)
    except Exception as error:
        error.add_note(f"again with: python -m tests.soak --short --cycles 0 --seed {seed}\n{stage.nodes.logs()}")
        raise
    assert machine.steps > 50
    assert stage.book.kinds() >= {"impression", "view", "click"}
