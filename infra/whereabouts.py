"""From where somebody comes, as far as it is kept: part of an address, and which program it is."""

import re
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

IPV4_PREFIX_BITS: Final = 24
IPV6_PREFIX_BITS: Final = 48
AGENT_CHARACTERS_MAX: Final = 50

# The first that is found: browsers name those that they want to be taken for as well.
_FAMILIES: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
_PRODUCT: Final = re.compile(r"[A-Za-z][A-Za-z0-9 ._-]*")


class Whereabouts(NamedTuple):
    """The network that a request came from, and the family of the program that sent it; empty where unknown."""

    address: str = ""
    agent: str = ""


def whereabouts(address: str, user_agent: str) -> Whereabouts:
    """Return what is kept of an address and of a User-Agent: the rest could tell one person from another."""
    return Whereabouts(truncated(address), family(user_agent))


def truncated(address: str) -> str:
    """Return the network of an address: /24 of IPv4, /48 of IPv6; nothing for what is no address."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    bits = IPV6_PREFIX_BITS if isinstance(parsed, IPv6Address) else IPV4_PREFIX_BITS
    return str(ip_network(f"{parsed}/{bits}", strict=False))


def family(user_agent: str) -> str:
    """Return which browser it is, or the name of the first product of any other program (RFC 9110, 10.1.5)."""
    for token, name in _FAMILIES:
        if token in user_agent:
            return name
    product = _PRODUCT.match(user_agent)
    return product[0].strip()[:AGENT_CHARACTERS_MAX] if product else ""
