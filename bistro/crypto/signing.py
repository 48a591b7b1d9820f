"""What is signed: notes, messages with a domain prefix, and the interface of signers.

A note is text that people can read, an empty line, and signature lines. One note has one
encoding here: canonical base64, LF only, no control characters. Keys live in
``bistro.crypto.keys`` and can be imported from here.

Source: docs/spec/encodings.md; C2SP signed-note; RFC 8032.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bistro.crypto.keys import (
    KEY_ID_SIZE,
    SigningKey,
    VerifierKey,
    decode_base64,
    require_key_name,
    verify_signature,
)
from bistro.errors import FormatError, LimitExceededError, VerificationError

__all__ = [
    "MAX_NOTE_SIZE",
    "MAX_SIGNATURES",
    "LocalSigner",
    "Note",
    "Signature",
    "Signer",
    "SigningKey",
    "VerifierKey",
    "sign_message",
    "sign_note",
    "signature_line",
    "verify_message",
    "verify_note",
]

MAX_NOTE_SIZE = 1_000_000
MAX_SIGNATURES = 100

_DASH = "\N{EM DASH} "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_PREFIX = re.compile(rb"bistro/[a-z-]+/v[0-9]+\n")


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note, by a key that may be unknown here.

    Attributes:
        name: The key's name.
        key_id: The key's id, 4 bytes.
        value: The signature; its size depends on the algorithm.
    """

    name: str
    key_id: bytes
    value: bytes

    def __post_init__(self) -> None:
        """Refuse what no line could hold."""
        require_key_name(self.name)
        if len(self.key_id) != KEY_ID_SIZE or not self.value:
            raise FormatError(f"signature of {self.name}: expected {KEY_ID_SIZE} bytes and more")

    @classmethod
    def parse(cls, line: str) -> Signature:
        """Read ``— <name> <base64>``, without the line's end.

        Raises:
            FormatError: Not such a line.
        """
        name, space, encoded = line.removeprefix(_DASH).partition(" ")
        if not line.startswith(_DASH) or not space:
            raise FormatError("signature line: expected an em dash, a name and base64")
        data = decode_base64(f"signature of {name!r}", encoded)
        return cls(name, data[:KEY_ID_SIZE], data[KEY_ID_SIZE:])

    def format(self) -> str:
        """The line, without its end."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.value).decode()}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text with its signatures, none of them checked yet: see ``verify_note``.

    Attributes:
        text: What is signed; ends in LF.
        signatures: One to ``MAX_SIGNATURES``, no two equal.
    """

    text: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        """Refuse what no encoding could hold."""
        _require_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise FormatError(
                f"note: expected 1 to {MAX_SIGNATURES} signatures, found {len(self.signatures)}"
            )
        if len(set(self.signatures)) != len(self.signatures):
            raise FormatError("note: a signature is repeated")

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note; says nothing about who signed it.

        Raises:
            FormatError: Not the one encoding of a note.
            LimitExceededError: More than ``MAX_NOTE_SIZE`` bytes.
        """
        if len(data) > MAX_NOTE_SIZE:
            raise LimitExceededError(
                f"note: expected at most {MAX_NOTE_SIZE} bytes, found {len(data)}"
            )
        # The text may hold empty lines: the last one divides.
        text, divider, lines = data.rpartition(b"\n\n")
        if not divider or not lines.endswith(b"\n"):
            raise FormatError("note: expected text, an empty line and signature lines")
        try:
            decoded = lines.decode()
        except UnicodeDecodeError as exc:
            raise FormatError("note: not UTF-8") from exc
        signatures = tuple(Signature.parse(line) for line in decoded[:-1].split("\n"))
        return cls(text + b"\n", signatures)

    def encode(self) -> bytes:
        """The note's bytes."""
        lines = "".join(signature.format() + "\n" for signature in self.signatures)
        return self.text + b"\n" + lines.encode()


def _require_text(text: bytes) -> None:
    try:
        decoded = text.decode()
    except UnicodeDecodeError as exc:
        raise FormatError("note: not UTF-8") from exc
    if not decoded.endswith("\n"):
        raise FormatError("note: expected text that ends in a line feed")
    found = _CONTROL.search(decoded)
    if found:
        raise FormatError(f"note: control character {found.group()!r} at {found.start()}")


def signature_line(key: VerifierKey, signature: bytes) -> bytes:
    """The line that a note carries for a signature by ``key``, with its LF."""
    return (Signature(key.name, key.key_id, signature).format() + "\n").encode()


def sign_note(text: bytes, *keys: SigningKey) -> bytes:
    """The note of ``text``, signed by each of ``keys`` in order.

    Raises:
        FormatError: ``text`` does not end in LF, is not UTF-8 or holds control characters.
    """
    signatures = tuple(
        Signature(key.verifier.name, key.verifier.key_id, key.sign(text)) for key in keys
    )
    return Note(text, signatures).encode()


def verify_note(note: Note, *keys: VerifierKey) -> frozenset[VerifierKey]:
    """Which of ``keys`` signed ``note``: at least one.

    Signatures by other keys are ignored, also where only the name or the key id is known.

    Raises:
        VerificationError: None of ``keys`` signed it, or a signature by one of them does not
            hold, even beside a good one.
    """
    known = {(key.name, key.key_id): key for key in keys}
    if len(known) != len(set(keys)):
        raise VerificationError("two different keys share a name and a key id")
    verified: set[VerifierKey] = set()
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            key.verify(note.text, signature.value)
            verified.add(key)
    if not verified:
        expected = ", ".join(f"{key.name}+{key.key_id.hex()}" for key in keys)
        found = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in note.signatures)
        raise VerificationError(f"note: expected a signature by {expected}, found {found}")
    return frozenset(verified)


def sign_message(private: Ed25519PrivateKey, prefix: bytes, body: bytes) -> bytes:
    """The signature over ``prefix ‖ body``.

    Args:
        private: A filer's key.
        prefix: The message's domain, such as ``bistro/header/v1`` and LF; a signature of one
            domain can never be taken for one of another.
        body: Canonical MessagePack.
    """
    _require_prefix(prefix)
    return private.sign(prefix + body)


def verify_message(public: bytes, prefix: bytes, body: bytes, signature: bytes) -> None:
    """Check a signature made by ``sign_message``.

    Raises:
        VerificationError: It does not hold for this key, prefix and body.
    """
    _require_prefix(prefix)
    verify_signature(public, prefix + body, signature, who=f"key {public.hex()}")


def _require_prefix(prefix: bytes) -> None:
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix {prefix!r}: expected bistro/<kind>/v<number> and a line feed")


class Signer(Protocol):
    """Signs batches of texts: a key in a file, a security module, a service."""

    @property
    def verifier(self) -> VerifierKey:
        """The key that the signatures verify with."""
        ...

    async def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """One 64-byte signature for each of ``texts``, in order."""
        ...


class LocalSigner:
    """A ``Signer`` with the private key in memory.

    Args:
        key: The key to sign with.
    """

    def __init__(self, key: SigningKey) -> None:
        self._key = key

    @property
    def verifier(self) -> VerifierKey:
        """The key that the signatures verify with."""
        return self._key.verifier

    async def sign(self, texts: Sequence[bytes]) -> list[bytes]:
        """One 64-byte signature for each of ``texts``, in order."""
        return [self._key.sign(text) for text in texts]
