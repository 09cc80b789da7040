"""The lifeline: whoever hangs on it ends when the other end of the pipe is gone."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process

from api.lifeline import hung_on


async def started(program: str) -> Process:
    """Start a Python program."""
    return await asyncio.create_subprocess_exec(sys.executable, "-c", program)


async def test_the_end_of_the_pipe_ends_processes() -> None:
    """When the other end is closed the processes are asked to end; one that has ended already is no trouble."""
    lifeline, other_end = os.pipe()
    sleeping, gone = await started("import time; time.sleep(60)"), await started("")
    await gone.wait()
    with hung_on(lifeline, stop=[gone.pid, sleeping.pid]):
        await asyncio.sleep(0)
        assert sleeping.returncode is None
        os.close(other_end)
        assert await asyncio.wait_for(sleeping.wait(), 10) == -signal.SIGTERM
    os.close(lifeline)


async def test_who_says_that_the_end_has_come_asks_by_itself() -> None:
    """A supervisor that says so ends the first itself; the last is asked as well, in case it did not hear it."""
    lifeline, other_end = os.pipe()
    server, worker = await started("import time; time.sleep(60)"), await started("import time; time.sleep(60)")
    told = asyncio.Event()
    with hung_on(lifeline, stop=[server.pid, worker.pid], tell=told.set):
        os.write(other_end, b".")
        await asyncio.wait_for(told.wait(), 10)
        assert await asyncio.wait_for(worker.wait(), 10) == -signal.SIGTERM
        assert server.returncode is None
        os.close(other_end)
    server.kill()
    await server.wait()
    os.close(lifeline)


async def test_a_supervisor_that_is_gone_leaves_nobody_to_start_anew() -> None:
    """Without a supervisor the server, which would start its workers again, is killed, and the worker is asked."""
    lifeline, other_end = os.pipe()
    server, worker = await started("import time; time.sleep(60)"), await started("import time; time.sleep(60)")
    with hung_on(lifeline, stop=[server.pid, worker.pid]):
        os.close(other_end)
        assert await asyncio.wait_for(server.wait(), 10) == -signal.SIGKILL
        assert await asyncio.wait_for(worker.wait(), 10) == -signal.SIGTERM
    os.close(lifeline)


async def test_who_is_let_go_ends_nothing() -> None:
    """After its work is done a process no longer hangs on the pipe."""
    lifeline, other_end = os.pipe()
    sleeping = await started("import time; time.sleep(60)")
    with hung_on(lifeline, stop=[sleeping.pid]):
        pass
    os.close(other_end)
    await asyncio.sleep(0.05)
    assert sleeping.returncode is None
    sleeping.kill()
    await sleeping.wait()
    os.close(lifeline)


async def test_without_a_pipe_nothing_is_watched() -> None:
    """A process that was started by nobody in particular runs until it is told to stop."""
    with hung_on(None, stop=[os.getpid()]):
        await asyncio.sleep(0)
