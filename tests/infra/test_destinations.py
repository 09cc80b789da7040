"""Where the service may call: public addresses, by the address that was checked, and by the name on the certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from infra.destinations import DestinationRefused, Destinations, is_public

NAME: Final = "hooks.example"
ANSWER: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"

PRIVATE: Final = (
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.1", "192.0.2.1"),  # noqa: S104  nobody binds to it
    *("192.168.0.1", "198.18.0.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "64:ff9b::a00:1", "fec0::1"),
    *("2002:a00:1::1", "2001:0:a00:1::1"),
)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public(address: str) -> None:
    """Private, local, reserved and multicast addresses are not public, nor what tunnels to an unchecked one."""
    assert not is_public(ip_address(address))
    with pytest.raises(DestinationRefused):
        Destinations().check(f"https://{f'[{address}]' if ':' in address else address}/")


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111"])
def test_what_is_public(address: str) -> None:
    """Addresses of the Internet are, over HTTPS."""
    url = f"//{f'[{address}]' if ':' in address else address}/"
    Destinations().check(f"https:{url}")
    with pytest.raises(DestinationRefused, match="https"):
        Destinations().check(f"http:{url}")


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example/", "ftp://hooks.example/", "https://user:word@hooks.example/", "https:///", "hooks"),
        *("https://[::ffff:127.0.0.1]/", "https://[::ffff:10.0.0.1]/", "https://[fe80::1%25eth0]/"),
    ],
)
def test_urls_that_are_not_called(url: str) -> None:
    """A URL is https, without credentials, and not a private address in another spelling."""
    with pytest.raises(DestinationRefused):
        Destinations().check(url)


def test_what_the_operator_allows() -> None:
    """Networks that are allowed may be called over HTTP as well; a name may turn out to be in one."""
    allowed = Destinations("10.1.0.0/16, fd00::/8")
    for url in ("http://10.1.2.3/", "https://10.1.2.3:8443/", "http://[fd00::1]/", "http://intranet/"):
        allowed.check(url)
    for url in ("http://10.2.0.1/", "https://127.0.0.1/"):
        with pytest.raises(DestinationRefused):
            allowed.check(url)


Resolving = Callable[..., None]


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch, anyio_backend: str) -> Resolving:
    """What sets to what a name resolves, the first time, the second, and so on; more is not asked."""
    assert anyio_backend == "asyncio"

    def resolve(*answers: list[str]) -> None:
        left = iter(answers)
        real = asyncio.base_events.BaseEventLoop.getaddrinfo

        async def found(loop: Any, host: str, port: int, **options: Any) -> Any:
            if host != NAME:
                return await real(loop, host, port, **options)
            return [(None, None, None, "", (address, port)) for address in next(left)]

        # uvloop's or asyncio's: whichever loop runs this test.
        monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", found)

    return resolve


async def refused(url: str) -> str:
    """Return why a URL is not called."""
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(DestinationRefused) as caught:
            await Destinations().post(client, url, b"{}", {})
    return str(caught.value)


async def test_a_name_that_leads_inside(resolving: Resolving) -> None:
    """A name of a private address is refused when it is called, whatever it was when it was entered."""
    resolving(["127.0.0.1", "10.0.0.1"])
    assert "10.0.0.1 is not a public address" in await refused(f"https://{NAME}/")


async def test_a_name_that_leads_nowhere(resolving: Resolving) -> None:
    """A name without an address is refused."""
    resolving([])
    assert "it has no address" in await refused(f"https://{NAME}/")


async def test_a_name_that_is_none(resolving: Resolving) -> None:
    """A name that nobody could look up is refused before anybody tries."""
    resolving()
    assert "it has no address" in await refused(f"https://{'a' * 64}.example/")


async def test_this_machine_by_its_name() -> None:
    """The name of this machine leads to this machine, and is refused."""
    assert "is not a public address" in await refused("https://localhost/")


@asynccontextmanager
async def serving(certificate: tuple[Path, Path] | None) -> AsyncIterator[tuple[int, list[str]]]:
    """A server on this machine; yields its port, and the heads of the requests that it gets."""
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


async def test_the_address_that_was_checked_is_called(resolving: Resolving) -> None:
    """A name is resolved once: a second answer, to lead the connection elsewhere, is never asked for."""
    async with serving(None) as (port, heads), httpx.AsyncClient(trust_env=False) as client:
        resolving(["192.0.2.1", "127.0.0.1"])  # and no second answer: to ask for one would fail
        status = await Destinations("127.0.0.1").post(client, f"http://{NAME}:{port}/a?b=c", b"{}", {"X-A": "b"})
    (head,) = heads
    assert status == 204
    assert head.startswith("POST /a?b=c HTTP/1.1\r\n")
    assert f"host: {NAME}:{port}\r\n" in head.lower()


def certified(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a name, which vouches for itself, and its key."""
    key, now = Ed25519PrivateKey.generate(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None)
    )
    certificate, secret = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate, secret


@pytest.mark.parametrize("shown", [NAME, "other.example"])
async def test_the_certificate_is_that_of_the_name(resolving: Resolving, tmp_path: Path, shown: str) -> None:
    """The connection goes to an address, and its certificate has to be that of the name all the same."""
    certificate = certified(tmp_path, shown)
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    async with serving(certificate) as (port, heads), httpx.AsyncClient(trust_env=False, verify=trust) as client:
        resolving(["127.0.0.1"])
        calling = Destinations("127.0.0.1").post(client, f"https://{NAME}:{port}/", b"{}", {})
        if shown == NAME:
            assert await calling == 204
        else:
            with pytest.raises(httpx.ConnectError, match="certificate is not valid"):
                await calling
    assert len(heads) == (shown == NAME)
