"""Which places on the internet may be written to: public ones, each looked up by us and checked before it is used."""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import SplitResult, urlsplit

URL_LENGTH_MAX = 2000
HTTPS_PORT = 443
LOW_PORTS_END = 1024
"""Below this only 443: the others belong to mail, shells and the like, which a message must not talk to."""

_NAME = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_NAME}(\.{_NAME})*\.?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_NOT_PUBLIC_4 = (
    IPv4Network("192.0.0.0/24"),  # Protocol assignments, also the few that count as global.
    IPv4Network("192.88.99.0/24"),  # 6to4 relays (RFC 7526).
)
_UNICAST_6 = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = (
    IPv6Network("2001::/23"),  # Teredo, and other assignments that may lead elsewhere.
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4: an IPv4 address in disguise.
    IPv6Network("3fff::/20"),
)

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""From host and port to addresses; raises OSError."""


class AddressNotPublic(Exception):
    """The host leads into a network that is not public."""


def url_fault(url: str, *, allow_private: bool) -> str | None:
    """Why nothing may ever be sent to this URL, as far as its text tells, in words that fit behind a field's name."""
    return next(_faults(url, allow_private=allow_private), None)


def is_public(address: str) -> bool:
    """Whether this IP address is one that anybody on the internet may be reached at."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return _is_public_6(ip) if isinstance(ip, IPv6Address) else _is_public_4(ip)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses that the machine's own resolver knows, in its order. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in found))


async def find_addresses(host: str, port: int, *, resolver: Resolve, allow_private: bool) -> list[str]:
    """The addresses to connect to. One that is not public taints them all: raises AddressNotPublic; OSError too."""
    addresses = await resolver(host, port)
    if not addresses:
        message = "the name has no address"
        raise OSError(message)
    if not allow_private and not all(is_public(address) for address in addresses):
        raise AddressNotPublic
    return addresses


def _faults(url: str, *, allow_private: bool) -> Iterator[str]:
    if len(url) > URL_LENGTH_MAX:
        yield f"must be at most {URL_LENGTH_MAX} characters long"
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        yield "must be written in visible ASCII characters, all others percent-encoded"
    parts = _split(url)
    if parts is None:
        yield "is not a URL that can be read"
        return
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        yield "must start with https://"
    if parts.username is not None or parts.password is not None:
        yield "must not hold a user name or a password"
    if "#" in url:
        yield "must not have a fragment, the part from # on"
    yield from _host_faults(parts.hostname or "", allow_private=allow_private)
    if parts.port == 0 or (not allow_private and not _is_usual(parts.port)):
        yield f"must use port 443, or one from {LOW_PORTS_END} on"


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        return None
    return parts


def _host_faults(host: str, *, allow_private: bool) -> Iterator[str]:
    """A number in the last place is an address however it is written: the usual form is the only one taken."""
    if _is_address(host):
        if not allow_private and not is_public(host):
            yield "must lead to a public address"
    elif not _HOST.fullmatch(host):
        yield "must name a host, in ASCII"
    elif _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        yield "must name a host, or write its address in the usual form"


def _is_usual(port: int | None) -> bool:
    return port is None or port == HTTPS_PORT or port >= LOW_PORTS_END


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_public_4(ip: IPv4Address) -> bool:
    special = ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_link_local or ip.is_unspecified
    return ip.is_global and not special and not any(ip in network for network in _NOT_PUBLIC_4)


def _is_public_6(ip: IPv6Address) -> bool:
    """Global unicast alone: addresses that carry an IPv4 one, mapped or translated, lie outside or are taken out."""
    if ip.scope_id is not None or ip not in _UNICAST_6:
        return False
    return ip.is_global and not any(ip in network for network in _NOT_PUBLIC_6)
