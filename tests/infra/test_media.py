"""Uploaded files: kept on local disk or in a bucket, and what happens when neither can be reached."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from infra import media, settings
from infra.media import MediaUnavailable
from infra.settings import Settings

NAME: Final = f"{'0' * 64}.png"
OTHER: Final = f"{'1' * 64}.png"
BUCKET: Final = "creatives"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    """A server that speaks S3, with a bucket that the settings name."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "LEDGER_MEDIA_URL": f"s3://{BUCKET}/of/ours",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"http://{host}:{port}/{BUCKET}").raise_for_status()
    monkeypatch.delenv("SSL_CERT_DIR")  # the client of buckets wants to trust somebody
    media._bucket.cache_clear()  # noqa: SLF001  another server than that of the test before
    yield server
    server.stop()


def kept_and_read(found: Settings) -> None:
    """Assert that what is kept comes back as it was, twice, and that what is not kept does not."""

    async def keep() -> tuple[bytes | None, ...]:
        before = await media.read(found, NAME)
        for _ in range(2):
            await media.keep(found, NAME, b"pixels")
        return before, await media.read(found, NAME), await media.read(found, OTHER)

    assert asyncio.run(keep()) == (None, b"pixels", None)


def test_files_are_kept_on_disk(tmp_path: Path) -> None:
    """Without a bucket, files are kept in a folder of the installation, and nothing of them half."""
    kept_and_read(settings.read(data_dir=tmp_path))
    (file,) = (tmp_path / media.FOLDER).iterdir()
    assert (file.name, file.read_bytes()) == (NAME, b"pixels")


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    """When a file cannot be kept, whoever uploads it is told so, and may come back."""
    (tmp_path / media.FOLDER).write_text("not a folder")
    with pytest.raises(MediaUnavailable):
        asyncio.run(media.keep(settings.read(data_dir=tmp_path), NAME, b"pixels"))


@pytest.mark.usefixtures("endpoint")
def test_files_are_kept_in_a_bucket() -> None:
    """With a bucket configured, files are kept there under what the setting says."""
    kept_and_read(settings.read())
    store = S3Store(BUCKET, client_options={"allow_http": True})
    assert obstore.get(store, f"of/ours/{NAME}").bytes() == b"pixels"


def test_a_bucket_that_is_gone_is_said_soon(endpoint: ThreadedMotoServer) -> None:
    """When the storage does not answer, or has no such bucket, that is said before the client has gone."""
    endpoint.stop()
    found = settings.read()

    async def within_a_request() -> None:
        async with asyncio.timeout(10):
            await media.read(found, NAME)

    with pytest.raises(MediaUnavailable):
        asyncio.run(within_a_request())
    with pytest.raises(MediaUnavailable):
        asyncio.run(media.keep(found, NAME, b"pixels"))


@pytest.mark.parametrize("said", ["/srv/media", "s3://", "https://bucket.example/"])
def test_a_store_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else the setting says, the service does not start."""
    monkeypatch.setenv("LEDGER_MEDIA_URL", said)
    with pytest.raises(settings.SettingUnfit):
        settings.read()
