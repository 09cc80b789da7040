"""Where the service may be told to call: public addresses, and those private networks that the operator allows.

A name is resolved, what it resolves to is checked, and that address is connected to: what the name resolves to a moment
later is not asked (DNS rebinding). The certificate and the Host header go by the name.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import httpx

ANSWER_BYTES_MAX: Final = 65_536
PORTS: Final = {"https": 443, "http": 80}

_UNICAST: Final = IPv6Network("2000::/3")
_TUNNELS: Final = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))
"""Teredo and 6to4: what they lead to is an IPv4 address that nobody has checked."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class DestinationRefused(Exception):
    """{host} is not called: {reason}."""

    def __init__(self, host: str, reason: str) -> None:
        """Say which, and why."""
        super().__init__(str(self.__doc__).format(host=host, reason=reason))


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to the public Internet, and to one host in it."""
    if isinstance(address, IPv4Address):
        return address.is_global and not address.is_multicast
    return address in _UNICAST and address.is_global and not any(address in network for network in _TUNNELS)


class Destinations:
    """Which addresses may be called."""

    def __init__(self, networks: str = "") -> None:
        """Allow public addresses over HTTPS, and these networks, separated by commas, over HTTP as well."""
        self._networks: Sequence[Network] = [ip_network(part.strip()) for part in networks.split(",") if part.strip()]

    def check(self, url: str) -> None:
        """Raise DestinationRefused for a URL that could not be called, whatever its host resolves to."""
        parsed = _parsed(url)
        try:
            literal = ip_address(parsed.host)
        except ValueError:
            if parsed.scheme != "https" and not self._networks:
                raise DestinationRefused(parsed.host, "it has to be https") from None
            return
        self._check(parsed, literal)

    async def post(self, client: httpx.AsyncClient, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a body and return the status of the answer; raise DestinationRefused, OSError or httpx.HTTPError.

        Redirects are not followed, and of the answer no more is read than its beginning.
        """
        parsed = _parsed(url)
        host = parsed.raw_host.decode()
        request = client.build_request(
            "POST",
            parsed.copy_with(host=await self._resolved(parsed)),
            content=body,
            headers={**headers, "Host": parsed.netloc.decode()},
            extensions={"sni_hostname": host},
        )
        answer = await client.send(request, stream=True, follow_redirects=False)
        try:
            read = 0
            async for chunk in answer.aiter_raw():  # to its end if that is near, so that the connection can be kept
                read += len(chunk)
                if read > ANSWER_BYTES_MAX:
                    break
        finally:
            await answer.aclose()
        return answer.status_code

    async def _resolved(self, url: httpx.URL) -> str:
        """Return the first address of a host that may be called."""
        loop, port = asyncio.get_running_loop(), url.port or PORTS[url.scheme]
        try:
            found = await loop.getaddrinfo(url.raw_host.decode(), port, type=socket.SOCK_STREAM)
        except UnicodeError as error:
            raise DestinationRefused(url.host, "it has no address") from error
        reason: DestinationRefused | None = None
        for *_, place in found:
            address = ip_address(str(place[0]).partition("%")[0])
            try:
                self._check(url, address)
            except DestinationRefused as refused:
                reason = refused
            else:
                return str(address)
        raise reason or DestinationRefused(url.host, "it has no address")

    def _check(self, url: httpx.URL, address: Address) -> None:
        inner = address.ipv4_mapped if isinstance(address, IPv6Address) and address.ipv4_mapped else address
        if any(inner in network for network in self._networks):
            return
        if not is_public(inner):
            raise DestinationRefused(url.host, f"{inner} is not a public address")
        if url.scheme != "https":
            raise DestinationRefused(url.host, "it has to be https")


def _parsed(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise DestinationRefused(url[:200], "this is no URL") from error
    if parsed.scheme not in PORTS or not parsed.host or parsed.userinfo:
        raise DestinationRefused(parsed.host, "it has to be https, without credentials")
    return parsed
