"""Sockets that take no more bytes than are about to be sent.

By default a system takes megabytes of an upload at once and sends them whenever it can. On a
thin line that is minutes ahead, and nobody could tell an upload that moves from one that does
not. Throughput does not depend on it: what is under way already is not counted.
"""

from __future__ import annotations

import socket
import sys
from typing import Final

UNSENT_SIZE: Final = 131_072
_WINDOWS_BUFFER: Final = 524_288

AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


def open_socket(info: AddressInfo) -> socket.socket:
    """A socket for an address, as ``aiohttp.TCPConnector`` wants it."""
    family, kind, protocol, _, _ = info
    found = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_SIZE)
    elif sys.platform == "win32":
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _WINDOWS_BUFFER)
    return found
