"""Uploaded files, each kept under the hash of what is in it: on local disk, or in storage that speaks S3."""

import asyncio
import os
from functools import lru_cache
from pathlib import Path
from typing import Final

import obstore
from obstore.store import LocalStore, ObjectStore, from_url

from infra.settings import Settings

FOLDER: Final = "media"


async def keep(found: Settings, name: str, content: bytes) -> None:
    """Keep a file where the settings say; when this returns, it is durable.

    How S3 is reached, and as whom, is read from the environment as the tools of AWS read it: AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL.
    """
    if found.media_url:
        await obstore.put_async(_bucket(found.media_url), name, content)
        return
    folder = found.data_dir.resolve() / FOLDER
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    await obstore.put_async(LocalStore(folder), name, content)
    await asyncio.to_thread(_make_durable, folder, name)


async def read(found: Settings, name: str) -> bytes | None:
    """Return the content of a file, or None when there is none of that name."""
    folder = found.data_dir.resolve() / FOLDER
    if not found.media_url and not folder.is_dir():  # until the first is kept
        return None
    try:
        kept = await obstore.get_async(_bucket(found.media_url) if found.media_url else LocalStore(folder), name)
        return bytes(await kept.bytes_async())
    except FileNotFoundError:
        return None


@lru_cache(maxsize=1)
def _bucket(url: str) -> ObjectStore:
    """Return the store, which keeps its connections open."""
    return from_url(url)


def _make_durable(folder: Path, name: str) -> None:
    for path in (folder / name, folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
