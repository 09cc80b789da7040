"""The lifeline: a pipe to the supervisor, whose end says that the supervisor is gone, however it went."""

import asyncio
import os
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def hung_on(descriptor: int | None, *, stop: Collection[int]) -> Iterator[None]:
    """Ask processes to end in an orderly way when the other end of the pipe is closed."""
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        for process in stop:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
