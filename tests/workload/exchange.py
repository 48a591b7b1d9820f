"""One HTTP request over a connection of its own: what a filer's client does, at little cost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, cast

HOST: Final = "127.0.0.1"
_HEAD_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Response:
    """An answer.

    Attributes:
        content_type: As it was sent; empty where it was not.
    """

    status: int
    content_type: str
    body: bytes


class Exchange(asyncio.Protocol):
    """Sends ``request`` as soon as it is connected; ``response`` is set once, or failed.

    Answers must have a length; nothing else is understood.
    """

    def __init__(self, request: bytes) -> None:
        self.response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._request = request
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send everything."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take the answer when it is complete."""
        self._buffer += data
        found = parse_response(bytes(self._buffer))
        if found is not None and not self.response.done():
            self.response.set_result(found)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail if the answer was not complete."""
        if not self.response.done():
            self.response.set_exception(exc or ConnectionResetError("closed without an answer"))


def parse_response(data: bytes) -> Response | None:
    """The answer in ``data``; None while it is incomplete."""
    head, end, body = data.partition(_HEAD_END)
    if not end:
        return None
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = {
        name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
    }
    if len(body) < int(fields.get("content-length", 0)):
        return None
    return Response(int(status.split(" ")[1]), fields.get("content-type", ""), body)


async def exchange(request: bytes, *, port: int, address: str, timeout_s: float) -> Response:
    """The answer to ``request``, sent from the loopback address ``address``.

    Raises:
        OSError: No connection, or it was lost.
        TimeoutError: No whole answer in ``timeout_s``.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        transport, protocol = await loop.create_connection(
            lambda: Exchange(request), HOST, port, local_addr=(address, 0)
        )
        try:
            return await protocol.response
        finally:
            transport.close()
