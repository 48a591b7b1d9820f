# As in bulk_python.py, where each function is described.
from collections.abc import Callable

def add_prints(buckets: list[bytes], digests: bytes, width: int, bits: int, /) -> None: ...
def known_prints(buckets: list[bytes], digests: bytes, width: int, bits: int, /) -> list[int]: ...
def leaf_hashes(entries: list[bytes], /) -> list[bytes]: ...
def parent_hashes(nodes: list[bytes], /) -> list[bytes]: ...
def proof_texts(
    levels: list[tuple[int, list[bytes]]],
    entries: list[bytes],
    start: int,
    begin: int,
    end: int,
    magic: bytes,
    tail: bytes,
    before: Callable[[int], bytes],
    numbered: bytes | None,
    /,
) -> list[bytes]: ...
def sorted_rows(rows: bytes, width: int, /) -> bytes: ...
