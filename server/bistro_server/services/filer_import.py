"""Reads lists of filers, CSV or JSON lines, of any length: checked as a whole before one counts.

What was read waits in a private database on disk that vanishes with the process, so that memory
does not grow with the list and a key that comes twice is found wherever it stands.

Source: docs/spec/admission.md, import.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from bistro.crypto.keys import KEY_SIZE, is_of_small_order
from bistro.errors import FormatError, SettingsError, StorageError

MAX_LINE_SIZE: Final = 4_096
MAX_NAME_LENGTH: Final = 200
COLUMNS: Final = frozenset({"key", "name"})
_BOM: Final = b"\xef\xbb\xbf"
_SHOWN: Final = 40

Row = tuple[bytes, str]
"""A key and a name."""


def parse_key(text: str) -> bytes:
    """The public key that 64 hexadecimal digits stand for, as ``bistro keys show`` prints them.

    Raises:
        FormatError: It is something else, or a key that anybody could sign for.
    """
    try:
        key = bytes.fromhex(text) if text.strip() == text else b""
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE or len(text) != 2 * KEY_SIZE:
        raise FormatError(
            f"key: expected {2 * KEY_SIZE} hexadecimal digits as bistro keys show prints them, "
            f"found {text[:_SHOWN]!a}"
        )
    if is_of_small_order(key):
        raise FormatError(f"key: expected one that binds its holder, found {text[:_SHOWN]!a}")
    return key


def require_name(name: str) -> str:
    """A name for people, as it is.

    Raises:
        FormatError: It is empty, too long or not one line of printable text.
    """
    if not 1 <= len(name) <= MAX_NAME_LENGTH or not name.isprintable() or not name.strip():
        raise FormatError(
            f"name: expected 1 to {MAX_NAME_LENGTH} characters on one line, found {name[:_SHOWN]!a}"
        )
    return name


class Checked:
    """The filers of a file that was read to its end without a fault.

    Attributes:
        count: How many there are.
    """

    def __init__(self, shelf: sqlite3.Connection, count: int) -> None:
        self.count = count
        self._shelf = shelf

    def __iter__(self) -> Iterator[Row]:
        """Each key with its name, in the order of the file."""
        for key, name in self._shelf.execute("SELECT key, name FROM filer ORDER BY line"):
            yield bytes(key), str(name)


@contextmanager
def checked(path: Path) -> Iterator[Checked]:
    """Read and check a whole file, and hold what it says while the block runs; blocks.

    Raises:
        SettingsError: The file cannot be read, or a line is wrong; the message names it.
        StorageError: There is no room for what was read.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise SettingsError(
            f"{path}: {exc.strerror or type(exc).__name__}", hint="name a file that can be read"
        ) from exc
    # No name: a database on disk that its process alone knows, gone when it is closed.
    with file, closing(sqlite3.connect("", isolation_level=None)) as shelf:
        try:
            yield Checked(shelf, _shelve(path, file, shelf))
        except sqlite3.Error as exc:
            raise StorageError(
                f"{path}: no room to sort it ({exc})", hint="free some space for temporary files"
            ) from exc


def _shelve(path: Path, file: BinaryIO, shelf: sqlite3.Connection) -> int:
    shelf.execute("CREATE TABLE filer (key BLOB PRIMARY KEY, name TEXT, line INTEGER)")
    shelf.execute("BEGIN")
    source, count = _Source(file), 0
    try:
        for key, name in _rows(source):
            _put(shelf, parse_key(key), require_name(name), source.number)
            count += 1
    except FormatError as exc:
        raise SettingsError(
            f"{path}, line {source.number}: {exc.message}",
            hint="correct the file and import it again; nothing was imported",
        ) from exc
    except OSError as exc:
        raise SettingsError(
            f"{path}: {exc.strerror or type(exc).__name__}", hint="name a file that can be read"
        ) from exc
    if not count:
        raise SettingsError(f"{path}: expected filers, found none", hint="nothing was imported")
    return count


def _put(shelf: sqlite3.Connection, key: bytes, name: str, number: int) -> None:
    try:
        shelf.execute("INSERT INTO filer VALUES (?, ?, ?)", (key, name, number))
    except sqlite3.IntegrityError as exc:
        before = shelf.execute("SELECT line FROM filer WHERE key = ?", (key,)).fetchone()[0]
        raise FormatError(
            f"key: expected each once, found that of line {before} again: {key.hex()}"
        ) from exc


class _Source:
    """The lines of a file, none longer than the limit.

    Attributes:
        number: Of the line that was read last, from 1.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.number = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        """Each line without its end; what comes behind the first empty one must be empty."""
        is_over = False
        while raw := self._file.readline(MAX_LINE_SIZE + 3):
            self.number += 1
            if self.number == 1:
                raw = raw.removeprefix(_BOM)
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if len(line) > MAX_LINE_SIZE:
                raise FormatError(f"expected at most {MAX_LINE_SIZE} bytes, found more")
            try:
                text = line.decode()
            except UnicodeDecodeError as exc:
                raise FormatError("expected UTF-8, found other bytes") from exc
            if text and is_over:
                raise FormatError("expected nothing behind an empty line, found another filer")
            is_over = not text
            if text:
                yield text


def _rows(source: _Source) -> Iterator[tuple[str, str]]:
    """Key and name of each line, as they stand there."""
    read: Callable[[str], tuple[str, str]] | None = None
    for line in source:
        if read is not None:
            yield read(line)
        elif line.startswith("{"):
            read = _read_json
            yield read(line)
        else:
            read = _csv_reader(_fields_of(line))


def _csv_reader(columns: list[str]) -> Callable[[str], tuple[str, str]]:
    if sorted(columns) != sorted(COLUMNS):
        raise FormatError(
            f"expected the column names key and name, or a JSON object, found {columns!a:.80}"
        )
    key, name = columns.index("key"), columns.index("name")

    def read(line: str) -> tuple[str, str]:
        fields = _fields_of(line)
        if len(fields) != len(columns):
            raise FormatError(f"expected {len(columns)} fields, found {len(fields)}")
        return fields[key], fields[name]

    return read


def _fields_of(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as exc:
        raise FormatError(f"expected a line of CSV, found another ({exc})") from exc


def _read_json(line: str) -> tuple[str, str]:
    try:
        found = json.loads(line, object_pairs_hook=_only_once)
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"expected a JSON object, found {line[:_SHOWN]!a}") from exc
    if not isinstance(found, dict) or set(found) != COLUMNS:
        raise FormatError(f"expected an object with key and name, found {line[:_SHOWN]!a}")
    for member, value in found.items():
        if not isinstance(value, str):
            raise FormatError(f"{member}: expected text, found {type(value).__name__}")
    return found["key"], found["name"]


def _only_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member comes twice")
    return found
