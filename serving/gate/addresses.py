"""Where a reference may lead: names are resolved once, every address is judged, and that very address is connected to.

Checking a name and then letting a client resolve it again would leave a moment in which the answer may change (DNS
rebinding); here the client gets the address that was judged, while TLS still proves the name.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final

import httpx
from anyio import getaddrinfo

from serving.settings import ServiceSettings
from tocsin.errors import ForbiddenReferenceError, UsageError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[list[Address]]]

NAT64: Final = IPv6Network("64:ff9b::/96")
IPV4_COMPATIBLE: Final = IPv6Network("::/96")

HTTPS: Final = 443
CONNECT_S: Final = 10.0
SILENT_S: Final = 30.0
"""Seconds without a byte after which a server counts as away."""


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a name, in the order in which the system would try them.

    Raises
    ------
    UsageError
        It has none.
    """
    try:
        found = await getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"{host}, a host without an address", "a host that exists", "check the reference") from error
    return list(dict.fromkeys(ip_address(str(place[4][0]).partition("%")[0]) for place in found))


def check_addresses(host: str, addresses: Iterable[Address], settings: ServiceSettings) -> None:
    """Refuse a host of which any address is not public, unless it lies in a network of the settings.

    Parameters
    ----------
    host
        How it was named.
    addresses
        All that its name leads to.
    settings
        With `reference_networks`.

    Raises
    ------
    ForbiddenReferenceError
        Private, loopback, link-local (where clouds keep their secrets), multicast or reserved.
    """
    networks = allowed_networks(settings)
    for address in addresses:
        for each in (address, *_embedded(address)):
            if each.is_link_local or not (_is_public(each) or any(each in network for network in networks)):
                raise ForbiddenReferenceError(
                    f"{host}, which leads into a private network",
                    "a host on the public internet, or in a network that the operator allows",
                    "send the file itself, or ask who runs the service (TOCSIN_REFERENCE_NETWORKS)",
                )


def allowed_networks(settings: ServiceSettings) -> list[Network]:
    """Return the private networks that references may lead to.

    Raises
    ------
    UsageError
        A setting that is no network.
    """
    try:
        return [ip_network(text) for text in settings.reference_networks]
    except ValueError as error:
        raise UsageError(f"TOCSIN_REFERENCE_NETWORKS ({error})", "networks such as 10.1.0.0/16", "mend it") from error


def _is_public(address: Address) -> bool:
    return address.is_global and not address.is_multicast


def _embedded(address: Address) -> tuple[Address, ...]:
    """Return the IPv4 addresses that an IPv6 address carries: each is where a packet may end."""
    if isinstance(address, IPv4Address):
        return ()
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in NAT64 or (address in IPV4_COMPATIBLE and int(address) > 1):
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(each for each in found if each is not None)


class PinnedTransport(httpx.AsyncBaseTransport):
    """A transport that connects to addresses which it has judged itself, and to nothing else.

    Parameters
    ----------
    settings
        Networks and authorities that are trusted.
    resolver
        What gives the addresses of a name.
    """

    def __init__(self, settings: ServiceSettings, resolver: Resolve = resolve) -> None:
        self._settings = settings
        self._resolve = resolver
        # No connection is kept: one that was made for a host could serve another one on the same address.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.AsyncHTTPTransport(verify=_trusting(settings.reference_ca), trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address of its host that answers.

        Raises
        ------
        ForbiddenReferenceError
            Any address of the host is not public.
        """
        host = request.url.host
        addresses = await self._resolve(host, request.url.port or HTTPS)
        check_addresses(host, addresses, self._settings)
        send = partial(self._send_to, request, host)
        for address in addresses[:-1]:
            try:
                return await send(address)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await send(addresses[-1])

    async def _send_to(self, request: httpx.Request, host: str, address: Address) -> httpx.Response:
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=str(address)),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._inner.aclose()


@cache
def _trusting(authorities: Path | None) -> ssl.SSLContext:
    """Return what proves names: to read a hundred authorities takes long enough to be done once."""
    if authorities is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=authorities)
