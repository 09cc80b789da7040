"""The wall clock of services under test: it can be set forth and back while they run, as an operator or NTP might.

The services are not told: a small library that is preloaded into their processes (`wall_clock.c`) shifts what the
kernel says. Their steady clocks, and the clock of the database, are left alone.
"""

import mmap
import shutil
import struct
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_suffix(".c")
_AHEAD: Final = struct.Struct("=q")


class WallClock:
    """A wall clock so many seconds ahead of this machine's; without a C compiler it cannot be set."""

    def __init__(self, folder: Path) -> None:
        """Build the library into a folder."""
        self.ahead_seconds = 0
        self._file = folder / "wall_clock"
        self._file.write_bytes(_AHEAD.pack(0))
        with self._file.open("r+b") as file:
            self._mapped = mmap.mmap(file.fileno(), _AHEAD.size)
        self._library = folder / "wall_clock.so"
        compiler = shutil.which("cc")
        self.can_be_set = compiler is not None
        if compiler is not None:
            command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
            subprocess.run(command, check=True, capture_output=True)

    def environment(self) -> Mapping[str, str]:
        """Return what puts a process under this clock."""
        return {"LD_PRELOAD": str(self._library), "WALL_CLOCK_FILE": str(self._file)} if self.can_be_set else {}

    def step(self, seconds: int) -> None:
        """Set the clock forth, or back, at once and for all processes under it."""
        assert self.can_be_set
        self.ahead_seconds += seconds
        self._mapped[:] = _AHEAD.pack(self.ahead_seconds)

    def now(self) -> datetime:
        """Return the time that this clock shows."""
        return datetime.now(UTC) + timedelta(seconds=self.ahead_seconds)
