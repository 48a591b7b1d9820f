"""POSIX pax tar, deterministic and strict: one archive has one encoding.

A member is a regular file with mode 0644, owner 0 and time 0. Its header is a ustar block; a
name that is not ASCII or longer than 100 bytes, and a size of 8 GiB or more, stand in a pax
record block before it. The reader parses name and size, encodes them again and compares: links,
devices, other modes, GNU extensions and every other form are refused without a list of them.
GNU tar and Python's tarfile read what is written here.

Why not ``tarfile``: it seeks or blocks on a file object, accepts many forms of one archive and
repairs damage silently.

Source: docs/spec/filing.md; POSIX.1-2017, pax Interchange Format.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from bistro.errors import FormatError

BLOCK_SIZE = 512
END = bytes(2 * BLOCK_SIZE)
"""What closes an archive; only zeros may follow."""

MAX_PAX_SIZE = 4_096
"""The most a pax record block may hold; a name has at most 1,024 bytes."""

_NAME_SIZE = 100
_USTAR_SIZE_LIMIT = 8**11
_PAX_NAME = b"././@PaxHeader"
_FILE, _PAX = b"0", b"x"
_ZERO_BLOCK = bytes(BLOCK_SIZE)
_REFUSED_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "a folder",
    b"6": "a pipe",
}


def padding_size(size: int) -> int:
    """Zeros between ``size`` bytes of content and the next block."""
    return -size % BLOCK_SIZE


def zeros(size: int) -> Iterator[bytes]:
    """``size`` zero bytes in chunks, for padding that may be large."""
    chunk = bytes(65_536)
    for _ in range(size // len(chunk)):
        yield chunk
    if rest := size % len(chunk):
        yield bytes(rest)


def encode_header(name: str, size: int) -> bytes:
    """Everything that stands before a member's content."""
    raw = name.encode()
    records = b""
    if len(raw) > _NAME_SIZE or not name.isascii():
        records += _record(b"path", raw)
        raw = name.encode("ascii", "replace")[:_NAME_SIZE]  # for readers without pax
    if size >= _USTAR_SIZE_LIMIT:
        records += _record(b"size", b"%d" % size)
    block = _block(raw, 0 if size >= _USTAR_SIZE_LIMIT else size, _FILE)
    if not records:
        return block
    padded = records + bytes(padding_size(len(records)))
    return _block(_PAX_NAME, len(records), _PAX) + padded + block


def member_size(name: str, size: int) -> int:
    """Bytes that a member takes in an archive: header, content and padding."""
    return len(encode_header(name, size)) + size + padding_size(size)


def _record(key: bytes, value: bytes) -> bytes:
    """A pax record; its length counts the digits of the length itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    head = name.ljust(_NAME_SIZE, b"\0") + b"0000644\0" + b"0000000\0" * 2
    head += b"%011o\0" % size + b"00000000000\0"
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167)
    checksum = sum(head) + sum(tail) + 8 * ord(" ")
    return head + b"%06o\0 " % checksum + tail


@dataclass(frozen=True, slots=True)
class MemberStart:
    """A member begins; ``size`` bytes of content follow."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class MemberData:
    """The next bytes of the current member."""

    data: bytes


@dataclass(frozen=True, slots=True)
class MemberEnd:
    """The current member is complete."""


@dataclass(frozen=True, slots=True)
class ArchiveEnd:
    """Both end blocks were read; only zeros may follow."""


Event: TypeAlias = "MemberStart | MemberData | MemberEnd | ArchiveEnd"


class TarReader:
    """Reads an archive that arrives in chunks of any size.

    It holds at most one header (under 6 KiB) besides the chunk it was fed.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0  # content bytes of the current member still to come
        self._padding = 0  # zeros still to come after it
        self._is_in_member = False
        self._is_ended = False

    def feed(self, chunk: bytes) -> list[Event]:
        """What the next bytes say, in order.

        Raises:
            FormatError: They are not the one encoding of an archive; the reader is then of no
                further use.
        """
        events: list[Event] = []
        data = memoryview(self._pending + chunk)
        self._pending = b""
        while data:
            used = self._step(data, events)
            if not used:
                self._pending = bytes(data)
                break
            data = data[used:]
        return events

    def finish(self) -> None:
        """Check that nothing is missing.

        Raises:
            FormatError: The archive ended early.
        """
        if not self._is_ended:
            raise FormatError("archive: expected two end blocks, found the end of the data")

    def _step(self, data: memoryview, events: list[Event]) -> int:
        """Bytes used of ``data``; 0 if more are needed."""
        if self._is_ended:
            _require_zeros(data, "after the archive's end")
            return len(data)
        if self._left:
            piece = bytes(data[: self._left])
            self._left -= len(piece)
            events.append(MemberData(piece))
            self._end_member(events)
            return len(piece)
        if self._padding:
            piece = bytes(data[: self._padding])
            _require_zeros(data[: self._padding], "after a member's content")
            self._padding -= len(piece)
            return len(piece)
        return self._read_header(data, events)

    def _end_member(self, events: list[Event]) -> None:
        if self._is_in_member and not self._left:
            self._is_in_member = False
            events.append(MemberEnd())

    def _read_header(self, data: memoryview, events: list[Event]) -> int:
        if len(data) < BLOCK_SIZE:
            return 0
        if data[:BLOCK_SIZE] == _ZERO_BLOCK:
            if len(data) < len(END):
                return 0
            _require_zeros(data[: len(END)], "in the archive's end blocks")
            self._is_ended = True
            events.append(ArchiveEnd())
            return len(END)
        parsed = _parse_header(data)
        if parsed is None:
            return 0
        start, used = parsed
        self._left, self._padding = start.size, padding_size(start.size)
        self._is_in_member = True
        events.append(start)
        self._end_member(events)
        return used


def _require_zeros(data: memoryview, where: str) -> None:
    if any(data):
        raise FormatError(f"archive: expected zeros {where}, found other bytes")


def _parse_header(data: memoryview) -> tuple[MemberStart, int] | None:
    """The member that ``data`` begins with and its header's length; None if more is needed."""
    first = bytes(data[:BLOCK_SIZE])
    used = BLOCK_SIZE
    records: dict[bytes, bytes] = {}
    if first[156:157] == _PAX:
        records_size = _octal(first[124:135])
        if records_size > MAX_PAX_SIZE:
            raise FormatError(
                f"archive: expected a pax header of at most {MAX_PAX_SIZE} bytes, "
                f"found {records_size}"
            )
        used += records_size + padding_size(records_size) + BLOCK_SIZE
        if len(data) < used:
            return None
        records = _parse_records(bytes(data[BLOCK_SIZE : BLOCK_SIZE + records_size]))
        first = bytes(data[used - BLOCK_SIZE : used])
    kind = first[156:157]
    if kind != _FILE:
        what = _REFUSED_TYPES.get(kind, f"type {kind!r}")
        raise FormatError(f"archive: expected a regular file, found {what}")
    start = _member(first, records)
    if encode_header(start.name, start.size) != data[:used]:
        raise FormatError(f"archive: header of {start.name!r} is not in its one encoding")
    return start, used


def _member(block: bytes, records: dict[bytes, bytes]) -> MemberStart:
    raw = records.get(b"path", block[:_NAME_SIZE].rstrip(b"\0"))
    try:
        name = raw.decode()
    except UnicodeDecodeError as exc:
        raise FormatError("archive: expected a name in UTF-8") from exc
    if b"size" not in records:
        return MemberStart(name, _octal(block[124:135]))
    digits = records[b"size"]
    if not digits.isdigit() or len(digits) > 18:  # noqa: PLR2004  # below 2^63, as every size
        raise FormatError("archive: expected a size of at most 18 digits")
    return MemberStart(name, int(digits))


def _octal(field: bytes) -> int:
    if not all(48 <= digit <= 55 for digit in field):  # noqa: PLR2004  # the digits 0 to 7
        raise FormatError("archive: expected a size in octal digits")
    return int(field, 8)


def _parse_records(data: bytes) -> dict[bytes, bytes]:
    """Pax records; duplicates and unknown keys fail the comparison of the whole header."""
    records: dict[bytes, bytes] = {}
    while data:
        digits, space, _ = data[:5].partition(b" ")
        length = int(digits) if space and digits.isdigit() else 0
        record, data = data[:length], data[length:]
        key, equals, value = record[len(digits) + 1 :].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise FormatError("archive: expected pax records, found other bytes")
        records[key] = value[:-1]
    return records
