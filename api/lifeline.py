"""The lifeline: a pipe to the supervisor. A byte in it says to end, its end that the supervisor is gone."""

import asyncio
import os
import select
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

ASK_AFTER_SECONDS: Final = 1.0


@contextmanager
def hung_on(descriptor: int | None, *, stop: Sequence[int], tell: Callable[[], None] = lambda: None) -> Iterator[None]:
    """When the end comes, `tell` this process, and see to it that the last of `stop` ends.

    If the supervisor is gone, those before the last are killed, because they would start what ends anew. They are not
    asked: several would ask at once, and granian waits for itself for ever when two signals arrive together. If it is
    the supervisor who says so, it asks them itself; the last is asked once more, for who is starting does not hear it.
    """
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()
    asking: list[asyncio.TimerHandle] = []

    def ended() -> None:
        loop.remove_reader(descriptor)
        tell()
        is_gone = _is_closed(descriptor)
        for process in stop[:-1] if is_gone else ():
            _signal(process, signal.SIGKILL)
        asking.append(loop.call_later(0 if is_gone else ASK_AFTER_SECONDS, _signal, stop[-1], signal.SIGTERM))

    loop.add_reader(descriptor, ended)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        for each in asking:
            each.cancel()


def _is_closed(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _signal(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)


async def until_stopped(work: Coroutine[None, None, None], lifeline: int | None) -> None:
    """Work until it is done, a signal asks for an orderly end, or the supervisor is gone."""
    working = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Once: whoever is asked again is still bringing what was accepted to its end.
        loop.add_signal_handler(number, lambda: working.cancelling() or working.cancel())
    with hung_on(lifeline, stop=[os.getpid()]), suppress(asyncio.CancelledError):
        await working
