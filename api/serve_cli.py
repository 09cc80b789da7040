"""The commands `ledger serve` and `ledger migrate`."""

from pathlib import Path

import click

from api import options
from api.serve import prepare
from api.serve import serve as serve_until_stopped
from infra import installation, settings


@click.command()
@options.host
@options.port
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="How many web processes.")
@options.data_dir
@click.option(
    "--background/--no-background", default=True, show_default=True, help="Run the background worker as well."
)
def serve(host: str, port: int, workers: int, data_dir: Path | None, background: bool) -> None:
    """Serve the API, and do the background work.

    With no database configured it runs on a PostgreSQL of its own, which it brings up to date; a configured one is
    brought up to date by `ledger migrate`. LEDGER_ADMIN_EMAIL and LEDGER_ADMIN_PASSWORD make the first admin of an
    empty ledger. Ends with 0 when it is told to stop, with 2 when it cannot start.
    """
    serve_until_stopped(host=host, port=port, workers=workers, data_dir=data_dir, background=background)


@click.command()
@options.data_dir
def migrate(data_dir: Path | None) -> None:
    """Bring the database up to date.

    Makes what an installation begins with as well: a ledger and, of LEDGER_ADMIN_EMAIL and LEDGER_ADMIN_PASSWORD, its
    first admin. `ledger serve` does the same where it keeps the database itself.
    """
    found = settings.read(data_dir=data_dir)
    with installation.database(found, begins=True) as url:
        prepare(url, found, migrate=True)
    click.echo("The database is up to date.")
