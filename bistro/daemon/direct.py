"""Connections whose sockets are polled, read, compared and answered in one call for all.

A request of a crowd costs the event loop several times what its bytes cost the kernel: an
event, a read, a call and an answer for each. ``direct_c`` does these for all lines at once. It
understands nothing: what is not the request before over again goes to Python as it came.
Where it was not compiled the event loop reads each connection by itself.

Source: docs/decisions/0030-connections-read-in-bulk.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["IS_COMPILED", "Line", "Poller", "new_poller"]

IS_COMPILED = True
"""Whether there are pollers."""

try:
    from bistro.daemon._direct import Line
except ImportError:
    from bistro.daemon.direct_python import Line  # type: ignore[assignment]

    IS_COMPILED = False


class Poller(Protocol):
    """Polls, reads and answers lines; for one thread; never blocks."""

    def add(self, line: Line, /) -> None:
        """Poll the socket ``line.fd`` for reading, and keep the line.

        Raises:
            OSError: The system refused.
        """

    def remove(self, line: Line, /) -> None:
        """Poll it no more; ``line.fd`` is -1 then, and whoever owns the socket closes it.

        Raises:
            ValueError: It is none of this poller's lines.
        """

    def watch(self, line: Line, reading: bool, writing: bool, /) -> None:  # noqa: FBT001
        """Change what it is polled for.

        Raises:
            ValueError: It is none of this poller's lines.
        """

    def receive(self, now_s: float, /) -> list[tuple[Any, bytes | int | None]]:
        """Read readable lines, some thousand at most; what joins no burst is returned.

        Of that no more than a megabyte is read; the rest waits in the kernel, and comes first
        the next time.

        Bytes join the burst of ``line.gate`` if they are ``line.whole_size`` many and begin
        with ``line.head``, nothing waits or is held, and ``line.bucket`` has a token. The line
        waits in that burst from ``now_s`` on.

        Returns:
            Lines with what there is to do: bytes, none where the peer has ended; an ``errno``;
            ``None`` where the socket takes bytes again.
        """
        ...

    def send_all(
        self, guests: Sequence[Any], answers: list[bytes], now_s: float, /
    ) -> list[tuple[Any, bytes]]:
        """Send each guest its answer; whoever got all of it waits no more.

        Args:
            guests: A list; ``None`` where nobody waits.
            answers: One for each.
            now_s: The time.

        Returns:
            Guests to whom something is still to be sent, and what: they are held, none of this
            poller's, or their sockets are full or broken.
        """
        ...

    def fileno(self) -> int:
        """Readable when ``receive`` has something to do."""
        ...

    def close(self) -> None:
        """Let go of all lines."""


def new_poller() -> Poller | None:
    """A poller, or ``None`` where none was compiled."""
    if not IS_COMPILED:
        return None
    from bistro.daemon import _direct  # noqa: PLC0415 - absent where it was not compiled

    return _direct.Poller()
