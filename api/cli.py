"""The `ledger` command. Exit status: 0 done, 1 found something wrong, 2 could not be run as asked."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
import msgspec
import psycopg

from api import logs
from api.background import work as work_in_background
from api.lifeline import hung_on
from api.serve import prepare
from api.serve import serve as serve_until_stopped
from domain.errors import Refusal
from infra import installation, settings, users
from infra.database import connect
from infra.embedded import DataFolderHeld, PostgresFailed
from infra.installation import NotInstalled
from infra.keys import SecretUnfit
from infra.settings import SettingMissing
from infra.users import User
from projections import status
from projections.status import ProjectionStatus

COULD_NOT_RUN: Final = 2

_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the service keeps its own PostgreSQL and keys when LEDGER_DATABASE_URL is not set. [default: .ledger]",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="campaign-ledger")
def ledger() -> None:
    """An event-sourced ledger for advertising campaigns."""


@ledger.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65_535), help="The port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="How many web processes.")
@_data_dir
@click.option(
    "--background/--no-background", default=True, show_default=True, help="Run the background worker as well."
)
def serve(host: str, port: int, workers: int, data_dir: Path | None, background: bool) -> None:  # noqa: FBT001  click
    """Serve the API; with no database configured, on a PostgreSQL of its own.

    LEDGER_ADMIN_EMAIL and LEDGER_ADMIN_PASSWORD make the first admin of an empty ledger.
    """
    serve_until_stopped(host=host, port=port, workers=workers, data_dir=data_dir, background=background)


@ledger.command()
@_data_dir
def work(data_dir: Path | None) -> None:
    """Run the background worker: read models, and what the dates of campaigns ask for.

    Several may run; each job is done by one of them.
    """
    found = settings.read(data_dir=data_dir)
    logs.configure(found.log_level)
    with installation.database(found) as url:
        asyncio.run(_until_stopped(url, found.lifeline))


@ledger.command()
@_data_dir
def migrate(data_dir: Path | None) -> None:
    """Bring the database up to this version, and make what an installation begins with."""
    found = settings.read(data_dir=data_dir)
    with installation.database(found) as url:
        prepare(url, found)
    click.echo("The database is up to date.")


@ledger.group()
def projections() -> None:
    """Look after the read models."""


@projections.command("list")
@_data_dir
@_as_json
def list_projections(data_dir: Path | None, as_json: bool) -> None:  # noqa: FBT001  click
    """Show how far each read model has come; exit with 1 when one of them could not apply an event."""
    with installation.database(settings.read(data_dir=data_dir)) as url:
        found = asyncio.run(_statuses(url))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"{'projection':<14}{'version':>8}{'position':>12}{'lag':>8}{'parked':>8}  updated")
        for each in found:
            moved = f"{each.updated_at:%Y-%m-%d %H:%M:%SZ}"
            click.echo(f"{each.name:<14}{each.version:>8}{each.position:>12,}{each.lag:>8,}{each.parked:>8,}  {moved}")
    sys.exit(any(each.parked for each in found))


@ledger.group()
def user() -> None:
    """Look after the people of the ledger."""


@user.command("create")
@click.option("--email", required=True, help="What they sign in with.")
@click.option(
    "--role", required=True, type=click.Choice(["admin", "manager", "viewer", "auditor"]), help="What they may do."
)
@_data_dir
@_as_json
def create_user(email: str, role: users.Role, data_dir: Path | None, as_json: bool) -> None:  # noqa: FBT001  click
    """Add a person; the password is asked for, or read from standard input."""
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    with installation.database(settings.read(data_dir=data_dir)) as url:
        added = asyncio.run(_create(url, email, password, role))
    click.echo(msgspec.json.encode(added) if as_json else f"{added.email} may sign in as {added.role}.")


async def _create(url: str, email: str, password: str, role: users.Role) -> User:
    async with await connect(url) as connection:
        ledger_id = await installation.ledger_of(connection)
        return await users.create(connection, ledger_id, email=email, password=password, role=role)


async def _statuses(url: str) -> list[ProjectionStatus]:
    async with await connect(url) as connection:
        return await status.read_status(connection, await installation.ledger_of(connection))


async def _until_stopped(url: str, lifeline: int | None) -> None:
    working = asyncio.create_task(work_in_background(url))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, working.cancel)
    with hung_on(lifeline, stop=[os.getpid()]), suppress(asyncio.CancelledError):
        await working


def main() -> None:
    """Run the command line; what keeps a command from being run is said in a sentence."""
    try:
        ledger()
    except (DataFolderHeld, NotInstalled, PostgresFailed, Refusal, SecretUnfit, SettingMissing) as error:
        click.echo(f"ledger: {error}", err=True)
        sys.exit(COULD_NOT_RUN)
    except psycopg.OperationalError as error:
        click.echo(f"ledger: the database cannot be reached: {str(error).splitlines()[0]}", err=True)
        sys.exit(COULD_NOT_RUN)
    except psycopg.errors.UndefinedTable:
        click.echo(f"ledger: {NotInstalled.__doc__}", err=True)
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main()
