"""A deploy: what was accepted is answered, nothing new is taken in, and the next version goes on from there."""

import signal
from typing import Final

import psutil

from tests.api.pages import Page, eventually
from tests.faults.aftermath import aftermath, check_log, deliveries
from tests.faults.traffic import Traffic
from tests.running import Service

STOP_SECONDS_MAX: Final = 15


def stopped(service: Service) -> list[psutil.Process]:
    """Ask a service to end, wait until it has, and return the processes that it had."""
    assert service.process is not None
    top = psutil.Process(service.process.pid)
    processes = [top, *top.children(recursive=True), *service.postgres()]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(STOP_SECONDS_MAX) == 0
    service.process = None
    return processes


def test_a_deploy_under_load(service: Service, page: Page, traffic: Traffic) -> None:
    """SIGTERM under load: who was heard is answered, who comes later finds nobody or 503; no process stays."""
    with traffic.flowing(page):
        eventually(traffic.is_under_way)
        before = stopped(service)
        eventually(lambda: traffic.troubles["ConnectError"] > 20)
        # An idle connection may be closed while a request is on its way: nobody heard it.
        assert traffic.troubles.keys() <= {"ConnectError", "503", "RemoteProtocolError"}
    assert psutil.wait_procs(before, timeout=5)[1] == []
    service.start()
    with service.database() as url:
        counted = check_log(url, traffic)
    assert not deliveries(traffic.open) & (counted.delivered.keys() | counted.invalid), "heard, and not answered"
    assert not traffic.unanswered.keys() & counted.entered.keys(), "heard, and not answered"
    aftermath(page.world, traffic)
