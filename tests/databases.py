"""Databases of tests: each made from a template, and dropped afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from typing import Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg

ROOM_BYTES_MIN: Final = 6 * 2**30


def _with_room(folder: Path) -> str | None:
    free = min(disk_usage(folder).free, psutil.virtual_memory().available) if folder.is_dir() else 0
    return str(folder) if free >= ROOM_BYTES_MIN else None


IN_MEMORY: Final = _with_room(Path("/dev/shm"))  # noqa: S108  what is made in it has a name that nobody guesses
"""Where a PostgreSQL of tests is best kept, if there is room (else None): a database is copied there in a tenth.

PostgreSQL syncs there as everywhere.
"""

TIMEOUT: Final = "-c statement_timeout=2s"


def with_database(url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def fresh_database(url: str, template: str) -> Iterator[str]:
    """A copy of a template that nobody is connected to, on the server of `url`."""
    name = f"fresh_{uuid4().hex}"
    with psycopg.connect(with_database(url, "postgres"), autocommit=True, options=TIMEOUT) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())
        yield with_database(url, name)
        # PostgreSQL 18 has waited for twenty minutes here, until a listening backend that had missed a signal got one.
        # What is left goes with its cluster.
        with suppress(psycopg.errors.QueryCanceled):
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
