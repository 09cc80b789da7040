"""The lifeline: a pipe to the supervisor, whose end says that the supervisor is gone, however it went."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def hung_on(descriptor: int | None, *, stop: Sequence[int], tell: Callable[[], None] = lambda: None) -> Iterator[None]:
    """When the other end of the pipe closes, `tell` this process and ask the first of `stop` that is there to end."""
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(descriptor)
        tell()
        for process in stop:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
                return

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


async def until_stopped(work: Coroutine[None, None, None], lifeline: int | None) -> None:
    """Work until it is done, a signal asks for an orderly end, or the supervisor is gone."""
    working = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    with hung_on(lifeline, stop=[os.getpid()]), suppress(asyncio.CancelledError):
        await working
