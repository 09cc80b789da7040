"""The command line: what its commands print, and the status with which each of them ends."""

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import click
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from api import cli
from api.serve import CannotListen, address_of
from infra import clock
from infra.database import connect
from infra.event_log import create_ledger
from tests.databases import fresh_database
from tests.running import START_SECONDS_MAX, free_port

PASSWORD = "correct horse battery staple"

Ledger = Callable[..., tuple[int, str, str]]


@pytest.fixture
def empty_url(cluster_url: str) -> Iterator[str]:
    """A database in which nothing is installed."""
    with fresh_database(cluster_url, "template1") as url:
        yield url


@pytest.fixture
def configured(empty_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An environment in which all that production needs is set; the URL of its database."""
    for name in [name for name in os.environ if name.startswith("LEDGER_")]:
        monkeypatch.delenv(name)
    for name in ("LEDGER_SIGNING_KEY_FILE", "LEDGER_LOG_KEY_FILE"):
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / name).write_bytes(pem)
        (tmp_path / name).chmod(0o600)
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("LEDGER_SECRET_KEY", urlsafe_b64encode(os.urandom(32)).decode())
    monkeypatch.setenv("LEDGER_ENCRYPTION_KEY", urlsafe_b64encode(os.urandom(32)).decode())
    monkeypatch.setenv("LEDGER_DATABASE_URL", empty_url)
    return empty_url


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ledger:
    """The command line in this process: given arguments and standard input, its status, output and errors."""

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ledger", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        found = capsys.readouterr()
        return status, found.out, found.err

    return run


def started(*arguments: str) -> subprocess.Popen[str]:
    """Return the command line in a process of its own."""
    command = [sys.executable, "-m", "api.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group, with the words that call it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


async def begun(url: str) -> UUID:
    """Begin another ledger, and return its id."""
    ledger_id = clock.fresh_id()
    async with await connect(url) as connection:
        await create_ledger(connection, ledger_id, "another", clock.now())
    return ledger_id


def test_help_says_what_the_environment_and_the_status_mean(ledger: Ledger) -> None:
    """The first thing a newcomer types lists the commands, every setting, and what the exit status says."""
    status, told, _ = ledger("--help")
    assert status == 0
    assert "0 done, 1 found something wrong, 2 could not be run as asked" in told
    settings = (Path(cli.__file__).parent.parent / "infra" / "settings.py").read_text()
    handed_down = {"LEDGER_LIFELINE", "LEDGER_RATES_FILE", "LEDGER_WORKERS"}
    read_by_people = set(re.findall(r"LEDGER_\w+", settings)) - handed_down
    assert read_by_people - set(re.findall(r"LEDGER_\w+", told)) - {"LEDGER_ADMIN_PASSWORD"} == set()


@pytest.mark.parametrize("path", [path for path, _ in commands(cli.ledger)], ids=" ".join)
def test_every_command_has_help(ledger: Ledger, path: tuple[str, ...]) -> None:
    """Every command says in a sentence what it does, and something about each of its options."""
    status, told, _ = ledger(*path, "--help")
    assert status == 0
    command = dict(commands(cli.ledger))[path]
    assert (command.help or "").partition("\n")[0].endswith(".")
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert f"ledger {' '.join(path)}" in told


def test_what_cannot_be_understood_ends_with_2(ledger: Ledger) -> None:
    """A command or an option that does not exist, or lacks its value, is a question that cannot be run."""
    for arguments in (("fly",), ("serve", "--wings"), ("user", "create"), ("serve", "--port", "0")):
        assert ledger(*arguments)[0] == 2


def test_migrate_may_be_repeated(ledger: Ledger, configured: str) -> None:
    """A database is brought up to date once, and found to be so the next time."""
    for _ in range(2):
        assert ledger("migrate") == (0, "The database is up to date.\n", "")
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM ledgers").fetchone() == (1,)


def test_a_person_is_created_from_standard_input(ledger: Ledger, configured: str) -> None:
    """The password is read from standard input; the result tells who was added, and nothing secret."""
    ledger("migrate")
    create = ("user", "create", "--email", "Ada@Example.com", "--role", "manager")
    status, told, _ = ledger(*create, "--json", stdin=f"{PASSWORD}\n")
    added = json.loads(told)
    assert (status, added["email"], added["role"], added["active"]) == (0, "ada@example.com", "manager", True)
    assert PASSWORD not in told
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT email FROM users").fetchall() == [("ada@example.com",)]
    status, told, error = ledger(*create, stdin=f"{PASSWORD}\n")
    assert (status, told, error) == (2, "", "ledger: Another account has this e-mail address.\n")


def test_a_command_is_about_one_ledger(ledger: Ledger, configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only organisation need not be named; of several one has to be, by option or setting, or all are shown."""
    ledger("migrate")
    with psycopg.connect(configured, autocommit=True) as connection:
        connection.execute("UPDATE ledgers SET slug = 'ours'")
        assert ledger("projections", "list")[0] == 0
        theirs = asyncio.run(begun(configured))
        connection.execute("UPDATE ledgers SET slug = 'theirs' WHERE ledger_id = %s", (theirs,))
    choice = "say --organisation or LEDGER_ORGANISATION, which may be ours, theirs.\n"
    for command in (("projections", "list"), ("projections", "errors"), ("audit", "prove", "--position", "1")):
        unclear = f"ledger: 2 organisations share this installation; {choice}"
        assert ledger(*command) == (2, "", unclear)
        assert ledger(*command, "--organisation", "nobody") == (2, "", f"ledger: There is no nobody; {choice}")
    monkeypatch.setenv("LEDGER_ORGANISATION", "theirs")
    create = ("user", "create", "--role", "viewer", "--json", "--email")
    for slug, options in (("theirs", ()), ("ours", ("--organisation", "ours"))):
        told = ledger(*create, f"{slug}@example.com", *options, stdin=f"{PASSWORD}\n")[1]
        assert (json.loads(told)["ledger_id"] == str(theirs)) == (slug == "theirs")


def test_a_weak_password_is_refused(ledger: Ledger, configured: str) -> None:
    """What the service would not take as a password is refused with the reason, and nobody is added."""
    ledger("migrate")
    status, _, error = ledger("user", "create", "--email", "ada@example.com", "--role", "admin", stdin="short\n")
    assert (status, error) == (2, "ledger: A password has 15 to 128 characters.\n")
    with psycopg.connect(configured) as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_projections_are_listed(ledger: Ledger, configured: str) -> None:
    """Each read model is shown with how far it has come, for people and for programs."""
    ledger("migrate")
    with psycopg.connect(configured, autocommit=True) as connection:
        connection.execute(
            """
            INSERT INTO checkpoints (ledger_id, projection, version, position, updated_at)
            SELECT ledger_id, 'budgets', 1, 0, now() FROM ledgers
            """
        )
    status, told, _ = ledger("projections", "list", "--json")
    row: dict[str, Any] = json.loads(told)[0]
    assert status == 0
    assert (row["name"], row["version"], row["position"], row["lag"], row["parked"]) == ("budgets", 1, 0, 0, 0)
    status, told, _ = ledger("projections", "list")
    assert status == 0
    assert re.search(r"^budgets +1 +0 +0 +0  \d{4}-", told, re.MULTILINE)


@pytest.mark.usefixtures("configured")
def test_a_database_without_a_ledger_is_named(ledger: Ledger) -> None:
    """Whoever asks before the database was migrated is told what to run."""
    told = (2, "", "ledger: The database holds no ledger yet; run `ledger migrate` first.\n")
    assert ledger("projections", "list") == told


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://127.0.0.1:1/ledger", "ledger: The database cannot be reached: "),
        ("nonsense", "ledger: LEDGER_DATABASE_URL does not name a database: "),
    ],
)
def test_a_database_that_is_not_there_is_said_in_a_sentence(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    """A database that cannot be reached, or a setting that names none, ends with 2 and without a traceback."""
    monkeypatch.setenv("LEDGER_DATABASE_URL", url)
    status, _, error = ledger("projections", "list")
    assert status == 2
    assert error.startswith(reason)
    assert error.count("\n") == 1


@pytest.mark.usefixtures("configured")
def test_a_folder_that_cannot_be_used_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A data folder that cannot be made ends with 2, and is named."""
    monkeypatch.delenv("LEDGER_DATABASE_URL")
    (tmp_path / "file").touch()
    status, _, error = ledger("migrate", "--data-dir", str(tmp_path / "file" / "data"))
    assert (status, error) == (2, f"ledger: {tmp_path / 'file' / 'data'} cannot be used: Not a directory.\n")


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("setting", ["LEDGER_SECRET_KEY", "LEDGER_SIGNING_KEY_FILE", "LEDGER_ENCRYPTION_KEY"])
def test_a_missing_secret_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    """With a database configured, a secret that is not set is named, with a way to make one."""
    monkeypatch.delenv(setting)
    status, _, error = ledger("migrate")
    assert status == 2
    assert error.startswith(f"ledger: {setting} is not set. This ")


def test_a_held_folder_is_said_in_a_sentence(cluster_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that another process serves from is left alone: the status is 2, and the sentence names both."""
    monkeypatch.delenv("LEDGER_DATABASE_URL", raising=False)
    folder = Path(parse_qs(urlsplit(cluster_url).query)["host"][0]).parent
    processes = [started(name, "--data-dir", str(folder), "--port", str(free_port())) for name in ("serve", "demo")]
    for process in processes:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 2
        assert error.splitlines()[-1] == (
            f"ledger: The data folder {folder} is already served by process {os.getpid()}: "
            "stop it first, or choose another folder."
        )


@pytest.mark.usefixtures("configured")
def test_the_demo_leaves_a_ledger_of_somebodys_own_alone(ledger: Ledger) -> None:
    """Where people work already, nothing is added: the log would keep it for ever."""
    ledger("migrate")
    ledger("user", "create", "--email", "ada@example.com", "--role", "admin", stdin=f"{PASSWORD}\n")
    process = started("demo", "--port", str(free_port()))
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.splitlines()[-1].startswith("ledger: This ledger is somebody's own")


def test_a_taken_port_is_said_in_a_sentence(data_dir: Path) -> None:
    """A port that something listens on ends with 2 before anything is started or made."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        process = started("serve", "--data-dir", str(data_dir), "--port", str(port))
        _, error = process.communicate(timeout=30)
    assert process.returncode == 2
    assert error.startswith(f"ledger: Nothing can listen on 127.0.0.1, port {port} (Address already in use)")
    assert not data_dir.exists()


def test_a_host_may_be_given_by_name() -> None:
    """A name is resolved, because the server takes addresses only; one that cannot be is refused."""
    assert address_of("localhost", free_port()) == "127.0.0.1"
    with pytest.raises(CannotListen, match=r"no-such-host\.invalid"):
        address_of("no-such-host.invalid", free_port())


def test_a_worker_ends_when_it_is_told_to(ledger: Ledger, configured: str) -> None:
    """A background worker works until a signal asks it to end, which is no failure."""
    ledger("migrate")
    process = started("work")
    # It works once it holds the lock of a job.
    locks = """
        SELECT pid FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE locktype = 'advisory' AND datname = current_database()
    """
    deadline = monotonic() + START_SECONDS_MAX
    try:
        with psycopg.connect(configured, autocommit=True) as connection:
            while not connection.execute(locks).fetchone():
                assert process.poll() is None
                assert monotonic() < deadline
                sleep(0.05)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
