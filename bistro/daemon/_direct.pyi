# As in direct_python.py and direct.py, where everything is described.
from collections.abc import Sequence
from typing import Any

class Line:
    bucket: Any
    fd: int
    gate: Any
    head: bytes | None
    is_held: bool
    since_s: float
    waits: Any
    whole_size: int

class Poller:
    def add(self, line: Line, /) -> None: ...
    def close(self) -> None: ...
    def fileno(self) -> int: ...
    def receive(self, now_s: float, /) -> list[tuple[Any, bytes | int | None]]: ...
    def remove(self, line: Line, /) -> None: ...
    def send_all(
        self, guests: Sequence[Any], answers: list[bytes], now_s: float, /
    ) -> list[tuple[Any, bytes]]: ...
    def watch(self, line: Line, reading: bool, writing: bool, /) -> None: ...
