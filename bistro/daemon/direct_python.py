"""What every connection is, for where ``direct_c`` was not compiled.

Source: docs/decisions/0030-connections-read-in-bulk.md.
"""

from __future__ import annotations

from typing import Any


class Line:
    """A connection as far as repeated requests need it.

    Attributes:
        bucket: What it may ask for now; ``None`` where that is not limited.
        fd: Its socket's file descriptor while a ``Poller`` reads it, else -1.
        gate: Where its last request gathered; ``None`` if it did not.
        head: The head of that request.
        is_held: Whether bytes wait here, or the peer does not read: nothing is gathered then,
            and an answer is sent in the ordinary way.
        since_s: When its request began to arrive, or its last answer went.
        waits: What its request waits in for an answer; ``None`` between two requests.
        whole_size: Of such a request, head and body; -1 where there is none to compare with.
    """

    __slots__ = ("bucket", "fd", "gate", "head", "is_held", "since_s", "waits", "whole_size")

    def __init__(self) -> None:
        self.bucket: Any = None
        self.fd = -1
        self.gate: Any = None
        self.head: bytes | None = None
        self.is_held = False
        self.since_s = 0.0
        self.waits: Any = None
        self.whole_size = -1
