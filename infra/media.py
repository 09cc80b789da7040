"""Uploaded files, each kept under the hash of what is in it: on local disk, or in storage that speaks S3."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from infra.settings import Settings

FOLDER: Final = "media"

REQUEST_TIMEOUT: Final = timedelta(seconds=4)
TRY_AGAIN_FOR: Final = timedelta(seconds=5)
"""Together less than a request to us may take."""

log: Final[structlog.stdlib.BoundLogger] = structlog.get_logger(__name__)


class MediaUnavailable(Exception):
    """Uploaded files cannot be reached; try again in a moment."""


async def keep(found: Settings, name: str, content: bytes) -> None:
    """Keep a file where the settings say; when this returns, it is durable. Raise MediaUnavailable.

    How S3 is reached, and as whom, is read from the environment as the tools of AWS read it: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
    """
    with _reached():
        if found.media_url:
            await obstore.put_async(_bucket(found.media_url), name, content)
            return
        folder = _folder(found)
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        await obstore.put_async(LocalStore(folder), name, content)
        await asyncio.to_thread(_make_durable, folder, name)


async def read(found: Settings, name: str) -> bytes | None:
    """Return the content of a file, or None when there is none of that name. Raise MediaUnavailable."""
    if not found.media_url and not _folder(found).is_dir():  # until the first is kept
        return None
    with _reached():
        store = _bucket(found.media_url) if found.media_url else LocalStore(_folder(found))
        try:
            return bytes(await (await obstore.get_async(store, name)).bytes_async())
        except FileNotFoundError:
            return None


def _folder(found: Settings) -> Path:
    return found.data_dir.resolve() / FOLDER


@lru_cache(maxsize=1)
def _bucket(url: str) -> ObjectStore:
    """Return the store, which keeps its connections open."""
    return from_url(
        url,
        client_options={"timeout": REQUEST_TIMEOUT, "allow_http": True},  # where AWS_ENDPOINT_URL says so
        retry_config={"max_retries": 2, "retry_timeout": TRY_AGAIN_FOR},
    )


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("media_unavailable", error=str(error).partition("\n")[0])
        raise MediaUnavailable from error


def _make_durable(folder: Path, name: str) -> None:
    for path in (folder / name, folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
