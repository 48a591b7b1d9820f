"""The header of an age file: who can open it, and a MAC that shows it was not touched.

``HeaderReader`` takes bytes as they come and stops at the first line that is wrong:

| expected | line | next |
|---|---|---|
| version | ``age-encryption.org/v1`` | stanza |
| stanza | ``-> kind argument…`` | body |
| body | 64 columns of base64 | body |
| body | fewer than 64 columns | stanza or end |
| stanza or end | ``--- <43 characters>`` | nonce: 16 bytes, then the payload |

Source: C2SP age specification, "Header" and "Payload".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bistro.crypto.age.stanza import (
    COLUMNS,
    Stanza,
    decode_base64,
    encode_base64,
    parse_arguments,
    quoted,
)
from bistro.errors import FormatError, VerificationError

NONCE_SIZE = 16
"""The random bytes between header and payload."""

MAX_HEADER_SIZE = 131_072
"""Ours, not age's: room for 75 hybrid recipients, and a bound on what is held in memory."""

_VERSION_LINE = b"age-encryption.org/v1"
_END = b"---"
_MAC_SIZE = 32


@dataclass(frozen=True)
class Header:
    """A header that is well formed; ``verify`` says whether it is also genuine."""

    stanzas: tuple[Stanza, ...]
    covered: bytes
    mac: bytes
    nonce: bytes

    def verify(self, file_key: bytes) -> None:
        """Check the MAC under ``file_key``.

        Raises:
            VerificationError: The header was altered, or this is another envelope's key.
        """
        code = _mac(file_key, self.covered)
        try:
            code.verify(self.mac)
        except InvalidSignature as exc:
            raise VerificationError(
                "age header: the MAC does not match the file key: the header was altered, "
                "or the key is another envelope's"
            ) from exc


def encode_header(stanzas: Sequence[Stanza], file_key: bytes) -> bytes:
    """The header without the nonce, its MAC made with ``file_key``."""
    covered = _VERSION_LINE + b"\n" + b"".join(stanza.encode() for stanza in stanzas) + _END
    mac = encode_base64(_mac(file_key, covered).finalize())
    return covered + f" {mac}\n".encode()


def derive_key(file_key: bytes, *, salt: bytes, info: bytes) -> bytes:
    """32 bytes of HKDF-SHA-256; an empty salt stands for 32 zero bytes."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(file_key)


def _mac(file_key: bytes, covered: bytes) -> HMAC:
    code = HMAC(derive_key(file_key, salt=b"", info=b"header"), SHA256())
    code.update(covered)
    return code


class HeaderReader:
    """Takes the bytes of an envelope until its header and nonce are complete."""

    def __init__(self) -> None:
        self._seen = bytearray()
        self._line_at = 0
        self._scanned = 0
        self._expected = self._read_version
        self._words: tuple[str, ...] = ()
        self._body: list[str] = []
        self._stanzas: list[Stanza] = []
        self._mac: bytes | None = None
        self._covered_size = 0
        self.header: Header | None = None

    @property
    def seen_size(self) -> int:
        """How many bytes have been taken so far."""
        return len(self._seen)

    def feed(self, data: memoryview) -> memoryview:
        """Take what belongs to the header; the rest, the payload, is returned.

        Raises:
            FormatError: A line is not what the table above asks for, or the header is larger
                than ``MAX_HEADER_SIZE``.
        """
        before = len(self._seen)
        self._seen += data[: MAX_HEADER_SIZE + NONCE_SIZE - before]
        while self._mac is None and (line := self._next_line()) is not None:
            self._expected(line)
        if self._mac is None:
            if len(self._seen) >= MAX_HEADER_SIZE:
                raise FormatError(f"age header: larger than {MAX_HEADER_SIZE} bytes")
            return data[len(data) :]
        end = self._line_at + NONCE_SIZE
        if len(self._seen) < end:
            return data[len(data) :]
        self.header = Header(
            stanzas=tuple(self._stanzas),
            covered=bytes(self._seen[: self._covered_size]),
            mac=self._mac,
            nonce=bytes(self._seen[self._line_at : end]),
        )
        return data[end - before :]

    def _next_line(self) -> bytes | None:
        end = self._seen.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._seen)
            return None
        line = bytes(self._seen[self._line_at : end])
        self._line_at = self._scanned = end + 1
        return line

    def _read_version(self, line: bytes) -> None:
        if line != _VERSION_LINE:
            raise FormatError(
                f"age header: expected {_VERSION_LINE.decode()}, found {quoted(line)}",
                hint="this is not an age v1 file; an armored one must be dearmored first",
            )
        self._expected = self._read_stanza

    def _read_stanza(self, line: bytes) -> None:
        self._words = parse_arguments(line)
        self._body = []
        self._expected = self._read_body

    def _read_body(self, line: bytes) -> None:
        if len(line) > COLUMNS:
            raise FormatError(f"age header: a body line has at most 64 columns, found {len(line)}")
        # Latin-1 maps every byte to a character: the base64 check names the foreign ones.
        self._body.append(line.decode("latin-1"))
        if len(line) == COLUMNS:
            return
        kind, *arguments = self._words
        body = decode_base64("".join(self._body), what=f"the body of {quoted(kind.encode())}")
        self._stanzas.append(Stanza(kind, tuple(arguments), body))
        self._expected = self._read_stanza_or_end

    def _read_stanza_or_end(self, line: bytes) -> None:
        if not line.startswith(_END):
            self._read_stanza(line)
            return
        if not line.startswith(_END + b" "):
            raise FormatError(f"age header: expected '--- ' and a MAC, found {quoted(line)}")
        mac = decode_base64(line[len(_END) + 1 :].decode("latin-1"), what="the MAC")
        if len(mac) != _MAC_SIZE:
            raise FormatError(f"age header: the MAC has {_MAC_SIZE} bytes, found {len(mac)}")
        if len(self._stanzas) > 1 and any(stanza.kind == "scrypt" for stanza in self._stanzas):
            raise FormatError("age header: a scrypt stanza must be the only stanza")
        self._covered_size = self._line_at - len(line) - 1 + len(_END)
        self._mac = mac
