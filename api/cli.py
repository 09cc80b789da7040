"""The `ledger` command. Exit status: 0 done, 1 found something wrong, 2 could not be run as asked."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final, get_args
from uuid import UUID

import click
import msgspec
import psycopg
import uvloop

from api import logs, projections_cli
from api.ad_slot import Unanswered
from api.audit_cli import audit
from api.background import sending_of
from api.background import work as work_in_background
from api.demo import NotADemo
from api.demo import demo as serve_demo
from api.keys_cli import BackupUnfit, keys
from api.lifeline import until_stopped
from api.play import CouldNotPlay, Summary
from api.play import play as play_log
from api.serve import CannotListen, prepare
from api.serve import serve as serve_until_stopped
from domain.access import PersonAdded
from domain.errors import Refusal
from infra import cosigner, installation, log_keys, settings, users
from infra.access_audit import OPERATOR, append_alone
from infra.data_centres import NetworksUnreadable
from infra.database import WORKER_ROLE, NotDurable, connect
from infra.embedded import DataFolderHeld, PostgresFailed
from infra.inspection import Unreadable
from infra.installation import NotInstalled
from infra.keys import SecretUnfit
from infra.mirror import FolderUnfit
from infra.ownership import check_known
from infra.rate_limits import RatesUnreadable
from infra.schema import SchemaUnfit
from infra.settings import SettingMissing, SettingUnfit
from infra.subject_keys import MasterKeyUnknown
from infra.users import INSTALLATION, User
from projections import status
from projections.rebuild import RebuildRunning
from projections.status import ProjectionStatus

COULD_NOT_RUN: Final = 2
COULD_NOT_RUN_BECAUSE: Final = (
    *(BackupUnfit, MasterKeyUnknown),
    *(CannotListen, CouldNotPlay, DataFolderHeld, FolderUnfit, NotADemo, NotDurable, NotInstalled),
    *(PostgresFailed, RatesUnreadable, RebuildRunning, Refusal, SchemaUnfit, SecretUnfit, SettingMissing),
    *(NetworksUnreadable, SettingUnfit, Unanswered, Unreadable),
)
PROGRESS_EVERY_SECONDS: Final = 5

ABOUT_ALL: Final = """
Exit status: 0 done, 1 found something wrong, 2 could not be run as asked.

\b
Environment:
  LEDGER_DATABASE_URL           the PostgreSQL to use; not set: the service starts its own
  LEDGER_DATA_DIR               where that one and its keys are kept [default: .ledger]
  LEDGER_SECRET_KEY             32 random bytes or more in base64url, needed with LEDGER_DATABASE_URL
  LEDGER_PREVIOUS_SECRET_KEY    the one before, while it is being replaced
  LEDGER_ENCRYPTION_KEY         32 random bytes in base64url, needed with LEDGER_DATABASE_URL: personal data
  LEDGER_SIGNING_KEY_FILE       an Ed25519 key in PEM, needed with LEDGER_DATABASE_URL
  LEDGER_LOG_KEY_FILE           another one, for its owner alone, needed with LEDGER_DATABASE_URL to sign the log
  LEDGER_PREVIOUS_LOG_KEY_FILE  the one before, while it is being replaced: both sign
  LEDGER_LOG_POLICY_FILE        witnesses that cosign the log, where they are, and how many are enough
  LEDGER_LOG_MLDSA44_KEY_FILE   an ML-DSA-44 key in PEM that signs the log as well
  LEDGER_LOG_ORIGIN             what the log is called in its checkpoints, for ever
  LEDGER_RATE_PER_KEY           how many requests each slot key may make, such as 500/second [default: any number]
  LEDGER_RATE_PER_ADDRESS       the same for each address
  LEDGER_IMPRESSIONS_PER_VIEWER how many of one viewer are plausible; more are invalid [default: 600/minute]
  LEDGER_CLICKS_PER_VIEWER      the same of clicks [default: 60/minute]
  LEDGER_IMPRESSIONS_PER_ADDRESS, LEDGER_CLICKS_PER_ADDRESS
                                the same from one address [default: any number]
  LEDGER_VIEWER_KEY_DAYS        how long the pseudonyms of viewers last; no longer do frequency caps [default: 90]
  LEDGER_DATA_CENTRES_FILE      networks of data centres, one a line: what they report is invalid
  LEDGER_CORS_ORIGINS           origins of pages that may ask /api/v1 and /audit/v1, separated by commas [default: none]
  LEDGER_TRUSTED_PROXIES        addresses and networks whose X-Forwarded-For is believed, separated by commas
  LEDGER_CONNECTIONS_MAX        how many connections each web worker holds at once [default: 2048]
  LEDGER_PUBLIC_URL             where ad slots reach the service, when it is not where they asked
  LEDGER_CONSOLE_PATH           the path of a page there, such as /console, that links in mail lead to [default: none]
  LEDGER_MEDIA_URL              the bucket for uploaded images, such as s3://ads/media, reached as AWS_* variables say
                                [default: the folder media of LEDGER_DATA_DIR]
  LEDGER_WEBHOOK_NETWORKS       private networks in which webhooks may be, separated by commas [default: none]
  LEDGER_SMTP_URL               the server that mail leaves through, such as smtp://user:password@mail.example:587
                                [default: none; mail is kept as files in the folder mail of LEDGER_DATA_DIR]
  LEDGER_MAIL_FROM              whom mail is from, such as Ledger <ledger@example.com>
  LEDGER_MESSAGE_RETRY_SECONDS  how long to wait before a message is sent again, and again, separated by commas
  LEDGER_OIDC_PROVIDERS         through whom people may sign in, such as google,acme, with for each (here ACME)
                                LEDGER_OIDC_ACME_ISSUER, _CLIENT_ID and _CLIENT_SECRET (google needs no issuer), and
                                LEDGER_OIDC_ACME_SECOND_FACTOR=trusted if its own is enough; needs LEDGER_PUBLIC_URL
  LEDGER_OIDC_CONSOLE_URL       where they are sent then, with a code to exchange [default: they get tokens as JSON]
  LEDGER_ADMIN_EMAIL            with LEDGER_ADMIN_PASSWORD: the first admin of an empty ledger
  LEDGER_SELF_SIGN_UP           whether everybody may begin organisations, or operators only: on or off [default: on]
  LEDGER_LOG_LEVEL              debug, info, warning or error [default: info]
"""

_data_dir = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the service keeps its own PostgreSQL and keys, unless LEDGER_DATABASE_URL is set. "
    "[default: LEDGER_DATA_DIR or .ledger]",
)
_host = click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
_port = click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(1, 65_535), help="The port to listen on."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, epilog=ABOUT_ALL)
@click.version_option(package_name="campaign-ledger")
def ledger() -> None:
    """An event-sourced ledger for advertising campaigns."""


@ledger.command()
@_host
@_port
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="How many web processes.")
@_data_dir
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


@ledger.command()
@_host
@_port
@_data_dir
def demo(host: str, port: int, data_dir: Path | None) -> None:
    """Serve a lived-in example.

    There are campaigns in every state and a day of traffic, and more is trickling in while it runs. Prints an admin's
    credentials, new ones at every start, and what to try. Nothing is made twice: the next start goes on with the same
    ledger. Takes an empty ledger, or one that it made; for any other it ends with 2.
    """
    serve_demo(host=host, port=port, data_dir=data_dir)


@ledger.command()
@click.argument("log", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--clicks", type=click.Path(path_type=Path), help="The clicks that belong to FILE, in its format.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Where the service is.")
@click.option("--slot-key", required=True, help="A key of any of its slots.")
@click.option(
    "--parallel", default=8, show_default=True, type=click.IntRange(1, 256), help="How many connections ask at once."
)
@_as_json
def play(log: Path, clicks: Path | None, url: str, slot_key: str, parallel: int, as_json: bool) -> None:
    """Play a recorded log against a running service.

    FILE has the format of the iPinYou contest: 24 columns separated by tabs, no header. A row asks for a creative for
    the slot of its size, and reports the impression as of the row's time; a row whose bid id came before reports the
    same impression again. Of --clicks, which are kept in memory, those are reported that have an impression in FILE.

    Exit status: 0 all was played; 1 rows were malformed, or the service refused something; 2 a file cannot be read, or
    the service does not answer or refuses the key.
    """
    with _progress(log) as progress:
        found = asyncio.run(play_log(log, clicks, url=url, slot_key=slot_key, parallel=parallel, progress=progress))
    click.echo(msgspec.json.encode(found) if as_json else "\n".join(_told(found)))
    sys.exit(bool(found.malformed or found.refused))


@ledger.command()
@_data_dir
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


@ledger.command()
@_data_dir
def migrate(data_dir: Path | None) -> None:
    """Bring the database up to date.

    Makes what an installation begins with as well: a ledger and, of LEDGER_ADMIN_EMAIL and LEDGER_ADMIN_PASSWORD, its
    first admin. `ledger serve` does the same where it keeps the database itself.
    """
    found = settings.read(data_dir=data_dir)
    with installation.database(found, begins=True) as url:
        prepare(url, found, migrate=True)
    click.echo("The database is up to date.")


@ledger.group()
def projections() -> None:
    """Look after the read models."""


@projections.command("list")
@_data_dir
@_as_json
def list_projections(data_dir: Path | None, as_json: bool) -> None:
    """Show how far each read model has come.

    Lag is how many events it is behind, parked how many it could not apply: if there are any, the exit status is 1.
    """
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


for command in projections_cli.COMMANDS:
    projections.add_command(command)


ledger.add_command(audit)
ledger.add_command(keys)


@ledger.group()
def user() -> None:
    """Look after the people of the ledger."""


@user.command("create")
@click.option("--email", required=True, help="What they sign in with.")
@click.option("--role", required=True, type=click.Choice(get_args(users.Role)), help="What they may do.")
@click.option("--advertiser", "advertisers", multiple=True, type=click.UUID, help="Whose campaigns an advertiser sees.")
@_data_dir
@_as_json
def create_user(
    email: str, role: users.Role, advertisers: tuple[UUID, ...], data_dir: Path | None, as_json: bool
) -> None:
    """Add a person.

    The password is asked for, or read from standard input when that is no terminal. Ends with 2 when the e-mail address
    is taken or the password is refused.
    """
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    with installation.database(settings.read(data_dir=data_dir)) as url:
        added = asyncio.run(_create(url, email, password, role, advertisers))
    click.echo(msgspec.json.encode(added) if as_json else f"{added.email} may sign in as {added.role}.")


async def _create(url: str, email: str, password: str, role: users.Role, advertisers: tuple[UUID, ...]) -> User:
    async with await connect(url) as connection:
        ledger_id = INSTALLATION if role == "operator" else await installation.ledger_of(connection)
        await check_known(connection, ledger_id, advertisers)
        async with connection.transaction():
            added = await users.create(
                connection, ledger_id, email=email, password=password, role=role, advertiser_ids=advertisers
            )
            event = PersonAdded(role=role, advertiser_ids=advertisers)
            await append_alone(connection, ledger_id, added.id, event, actor=OPERATOR)
        return added


async def _statuses(url: str) -> list[ProjectionStatus]:
    async with await connect(url) as connection:
        return await status.read_status(connection, await installation.ledger_of(connection))


@contextmanager
def _progress(log: Path) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows on standard error how far a log has been played: a bar, or a line every few seconds."""
    size = log.stat().st_size if log.is_file() else 0
    if sys.stderr.isatty():
        with click.progressbar(length=size, label=f"Playing {log.name}", file=sys.stderr) as bar:
            yield lambda end, _rows: bar.update(end - bar.pos)
        return
    told_at = monotonic()

    def tell(end: int, rows: int) -> None:
        nonlocal told_at
        if monotonic() - told_at >= PROGRESS_EVERY_SECONDS:
            told_at = monotonic()
            click.echo(f"{rows:,} rows of {log.name} played, {end / max(1, size):.0%}", err=True)

    yield tell


def _told(found: Summary) -> Iterator[str]:
    for name, count, counts in (
        ("rows", found.rows, {}),
        ("decisions", found.decisions, {}),
        ("impressions recorded", found.impressions, {}),
        ("repeated", found.repeated, {}),
        ("clicks recorded", found.clicks, {}),
        ("clicks repeated", found.repeated_clicks, {}),
        ("clicks without impression", found.clicks_without_impression, {}),
        ("recorded, not billed", sum(found.unbilled.values()), found.unbilled),
        ("no bid", sum(found.no_bids.values()), found.no_bids),
        ("no slot of that size", sum(found.without_slot.values()), found.without_slot),
        ("refused", sum(found.refused.values()), found.refused),
        ("malformed rows", found.malformed, {}),
    ):
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in sorted(counts.items()))
        yield f"{name:<26}{count:>12,}" + (f"  ({reasons})" if reasons else "")
    yield from (f"  {line}" for line in found.malformed_lines)
    yield f"{'seconds':<26}{found.seconds:>12,.1f}  ({found.rows_per_second:,.0f} rows/s)"


def main() -> None:
    """Run the command line; what keeps a command from being run is said in a sentence."""
    try:
        ledger()
    except Exception as error:
        reason = _why(error)
        if reason is None:
            raise
        click.echo(f"ledger: {reason}", err=True)
        sys.exit(COULD_NOT_RUN)


def _why(error: Exception) -> str | None:
    """Return what keeps a command from being run; None for a defect, whose traceback should be seen."""
    if isinstance(error, COULD_NOT_RUN_BECAUSE):
        return str(error)
    if isinstance(error, psycopg.errors.UndefinedTable) or f'role "{WORKER_ROLE}" does not exist' in str(error):
        return NotInstalled.__doc__
    if isinstance(error, psycopg.OperationalError):
        return f"The database cannot be reached: {str(error).splitlines()[0]}."
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return f"LEDGER_DATABASE_URL does not name a database: {str(error).strip()}."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used: {error.strerror}."
    return None


if __name__ == "__main__":
    main()
