"""A full disk: callers are told to try again, nothing is lost, and the service goes on when there is room."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.api.pages import eventually
from tests.faults.aftermath import aftermath
from tests.faults.traffic import Traffic, market
from tests.running import running
from tests.world import World

DISK_BYTES: Final = 192 * 2**20
"""Room for a new cluster, and a few segments of its log."""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, in memory; only root can have one."""
    with TemporaryDirectory() as folder:
        options = f"size={DISK_BYTES},mode=0755"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
        unmount = ["umount", "--lazy", folder]
        try:
            subprocess.run(mount, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("no file system can be mounted here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(unmount, check=True)


def test_a_full_disk(small_disk: Path) -> None:
    """While the disk is full commands and beacons get 503, and when there is room the service goes on by itself."""
    traffic = Traffic()
    ballast = small_disk / "ballast"
    with running(small_disk / "data") as service, closing(service.signed_in()) as admin:
        page = market(World(service, admin))
        with traffic.flowing(page):
            eventually(traffic.is_under_way)
            left = os.statvfs(small_disk)
            with suppress(OSError):  # the service writes meanwhile
                ballast.write_bytes(bytes(left.f_bavail * left.f_frsize))
            assert os.statvfs(small_disk).f_bavail == 0
            eventually(lambda: traffic.troubles["503"] > 20)
            ballast.unlink()
            at = traffic.new_answers()
            eventually(lambda: traffic.new_answers() > at + 100)
        assert traffic.troubles.keys() == {"503"}
        aftermath(page.world, traffic)
        for client in page.world.clients:
            client.close()
