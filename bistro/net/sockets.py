"""Sockets that take no more bytes than are about to be sent, and that can be let go of.

By default a system takes megabytes of an upload at once and sends them whenever it can. On a
thin line that is minutes ahead, and nobody could tell an upload that moves from one that does
not. Throughput does not depend on it: what is under way already is not counted.

A connection whose address is gone, because the machine is in another network now, does not
notice for minutes: whoever looks sees it at once.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import weakref
from typing import Final

UNSENT_SIZE: Final = 131_072
_WINDOWS_BUFFER: Final = 524_288

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class Sockets:
    """Makes the sockets of a session, and remembers those that are open."""

    def __init__(self) -> None:
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def make(self, info: AddressInfo) -> socket.socket:
        """A socket for an address, as ``aiohttp.TCPConnector`` wants it."""
        family, kind, protocol, _, _ = info
        made = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_SIZE)
        elif sys.platform == "win32":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WINDOWS_BUFFER)
        self._open.add(made)
        return made

    def let_go(self, *, only_lost: bool) -> int:
        """End connections, and say how many: all, or those whose own address is gone."""
        count = 0
        for one in list(self._open):
            # One that is closed, or not connected yet, has nothing to be ended.
            with contextlib.suppress(OSError):
                if one.fileno() >= 0 and not (only_lost and _is_here(one)):
                    one.shutdown(socket.SHUT_RDWR)
                    count += 1
        return count


def _is_here(one: socket.socket) -> bool:
    """Whether this machine still has the address that a connected socket speaks from."""
    one.getpeername()
    address = one.getsockname()
    with socket.socket(one.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0, *address[2:]))
        except OSError:
            return False
    return True
