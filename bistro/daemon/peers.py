"""Whose request it is, for fairness: the network address, also behind a proxy, and its bucket.

Nothing else rests on it: an address proves nothing, and is not logged because of this.

Source: docs/spec/ticketing.md, fairness.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

from bistro.daemon.buckets import WIDER, Bucket, Buckets, Rate
from bistro.errors import OverloadedError

IpAddress: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
IpNetwork: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"

FORWARDED: Final = "X-Forwarded-For"
_NETWORK_BITS: Final = 64
_SITE_BITS: Final = 48
_MAX_HOPS: Final = 16
_CHANCE: Final = secrets.SystemRandom()


class Who(NamedTuple):
    """Those who count as one.

    Attributes:
        name: Their address or network; empty where nobody knows.
        bucket: What they may ask for; ``None`` where that is not limited.
    """

    name: str
    bucket: Bucket | None


UNKNOWN: Final = Who("", None)


class Peers:
    """The buckets of network addresses.

    Args:
        trusted: Proxies whose word about addresses counts.
        rate: Of each address; ``None``: nobody is limited.
        report: Told how many requests were refused since their bucket was empty.
    """

    def __init__(
        self,
        trusted: Sequence[IpNetwork] = (),
        rate: Rate | None = None,
        *,
        report: Callable[[int], None] | None = None,
    ) -> None:
        self._report = report
        self._trusted = tuple(trusted)
        self._buckets: Buckets[str] | None = None
        if rate is not None:
            self._buckets = Buckets(rate)
            self._sites: Buckets[str] = Buckets(rate.times(WIDER))

    def who(self, peer: str, forwarded: str = "") -> Who:
        """Whoever asks.

        Args:
            peer: The connection's address; empty for a Unix socket.
            forwarded: What ``X-Forwarded-For`` says; empty where there is no such field.
        """
        if self._buckets is None:
            return UNKNOWN
        name, site = self.name(peer, forwarded)
        if not name:
            return UNKNOWN
        return Who(name, self._buckets.of(name, self._sites.of(site) if site else None))

    def require_tokens(self, bucket: Bucket | None, count: int) -> None:
        """Accept so many requests of one address, if its bucket has as many tokens.

        Raises:
            OverloadedError: It has not; nothing was taken.
        """
        if bucket is not None:
            wait_s = bucket.take(count, asyncio.get_running_loop().time())
            if wait_s:
                raise self.too_many(count, wait_s=wait_s)

    def too_many(self, count: int, *, wait_s: float = 1.0) -> OverloadedError:
        """What requests are told whose bucket is empty; not all come back in the same moment.

        Args:
            count: How many of them there are.
            wait_s: When the earliest may come back.
        """
        if self._report is not None:
            self._report(count)
        return OverloadedError(
            "too many requests from your address",
            hint="send the same request again, later",
            retry_after_s=wait_s + _CHANCE.random(),
        )

    def name(self, peer: str, forwarded: str = "") -> tuple[str, str]:
        """Who counts as one, and the larger site that it is a part of; empty where nobody does.

        A proxy that is trusted and names nobody is not one of the clients: to count it would
        be to count all of them as one. But where it names somebody unreadably it is the one who
        counts: otherwise a client that makes it do so would not be limited at all.
        """
        address = self._client(peer, forwarded)
        if address is None:
            return "", ""
        if isinstance(address, ipaddress.IPv4Address):
            return str(address), ""
        return _network(address, _NETWORK_BITS), _network(address, _SITE_BITS)

    def _client(self, peer: str, forwarded: str) -> IpAddress | None:
        hops = forwarded.split(",")[-_MAX_HOPS:] if forwarded else []
        address = _parse(peer)
        while address is not None and any(address in one for one in self._trusted):
            if not hops:
                return None
            named = _parse(hops.pop())
            if named is None:
                return address
            address = named
        return address


def _parse(text: str) -> IpAddress | None:
    """The address; that of an IPv4 peer even where an IPv6 socket took it.

    Some proxies put the port behind it, and IPv6 in brackets then.
    """
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(address: ipaddress.IPv6Address, bits: int) -> str:
    return str(ipaddress.ip_network((int(address), bits), strict=False))
