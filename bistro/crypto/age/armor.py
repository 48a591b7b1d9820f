"""Strict ASCII armor: age files that were sent as text.

Envelopes on the wire are always binary; armor is for files that people hand over by mail.
Whitespace is allowed before and after the armor and nowhere else; line ends are LF or CRLF.

Source: C2SP age specification, "ASCII armor"; RFC 7468, section 3, figure 3.
"""

from __future__ import annotations

import base64
import binascii

from bistro.errors import FormatError

_BEGIN = b"-----BEGIN AGE ENCRYPTED FILE-----"
_END = b"-----END AGE ENCRYPTED FILE-----"
_COLUMNS = 64
_MAX_LINE = 128
"""More than any line may have: what is held in memory while a line is incomplete."""

_MAX_MARGIN = 1_024
"""Whitespace before and after the armor, in bytes, each."""

_WHITESPACE = b" \t\r\n"


class ArmorReader:
    """Turns armored text, in pieces of any size, into the bytes it stands for."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._begun = False
        self._short_line_seen = False
        self._ended = False
        self._margin_size = 0
        self._broken = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the complete lines so far.

        Raises:
            FormatError: A line that strict armor does not allow.
        """
        self._require_sound()
        self._broken = True  # unless all of this piece is read without a fault
        out = bytearray()
        position = 0
        if not self._begun and not self._line:
            position = self._skip_margin(data)
        while not self._ended and position < len(data):
            end = data.find(b"\n", position) + 1 or len(data)
            self._line += data[position : min(end, position + _MAX_LINE)]
            position = end
            if self._line.endswith(b"\n"):
                out += self._read_line(bytes(self._line[:-1]).removesuffix(b"\r"))
                self._line.clear()
            elif len(self._line) >= _MAX_LINE:
                raise FormatError(f"age armor: a line has at most {_COLUMNS} columns")
        if self._ended:
            self._require_margin(data[position:])
        self._broken = False
        return bytes(out)

    def finish(self) -> bytes:
        """What an end line without a line feed leaves to return: nothing, but it is checked.

        Raises:
            FormatError: The armor does not end with its end line.
        """
        self._require_sound()
        if not self._ended and self._begun and self._line:
            self._read_line(bytes(self._line))
        if not self._ended:
            raise FormatError(f"age armor: expected {_END.decode()} at the end, found none")
        return b""

    def _skip_margin(self, data: bytes) -> int:
        size = len(data) - len(data.lstrip(_WHITESPACE))
        self._grow_margin(size)
        return size

    def _require_margin(self, data: bytes) -> None:
        if data.strip(_WHITESPACE):
            raise FormatError("age armor: only whitespace may follow the end line")
        self._grow_margin(len(data))

    def _grow_margin(self, size: int) -> None:
        self._margin_size += size
        if self._margin_size > _MAX_MARGIN:
            raise FormatError(f"age armor: more than {_MAX_MARGIN} bytes of whitespace outside it")

    def _read_line(self, line: bytes) -> bytes:
        if not self._begun:
            if line != _BEGIN:
                raise FormatError(f"age armor: expected {_BEGIN.decode()} at the start")
            self._begun = True
            self._margin_size = 0
            return b""
        if line == _END:
            self._ended = True
            return b""
        return self._decode_line(line)

    def _decode_line(self, line: bytes) -> bytes:
        if self._short_line_seen or not line or len(line) > _COLUMNS:
            raise FormatError(
                f"age armor: every line but the last has {_COLUMNS} columns, none is empty"
            )
        try:
            decoded = base64.b64decode(line, validate=True)
        except binascii.Error as exc:
            raise FormatError("age armor: a line is not base64") from exc
        if base64.b64encode(decoded) != line:
            raise FormatError("age armor: a line is not canonical base64")
        self._short_line_seen = len(line) < _COLUMNS or line.endswith(b"=")
        return decoded

    def _require_sound(self) -> None:
        if self._broken:
            raise FormatError("age armor: reading stopped at an earlier fault")
