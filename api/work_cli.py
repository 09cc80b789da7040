"""The command `ledger work`."""

from pathlib import Path

import click
import uvloop

from api import logs, options
from api.background import sending_of
from api.background import work as work_in_background
from api.lifeline import until_stopped
from infra import cosigner, installation, log_keys, settings


@click.command()
@options.data_dir
def work(data_dir: Path | None) -> None:
    """Run a background worker alone.

    It keeps the read models, seals the log, and does what the dates of campaigns ask for. Several may run; each job is
    done by one of them. `ledger serve` runs one as well, unless it is told --no-background.
    """
    found = settings.read(data_dir=data_dir)
    logs.configure(found.log_level)
    with installation.database(found) as url:
        witnesses = cosigner.read(found.log_policy_file)
        working = work_in_background(url, log_keys.read(found), witnesses, sending_of(found))
        uvloop.run(until_stopped(working, found.lifeline))
