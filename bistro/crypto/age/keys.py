"""Keys of either type: from text, to text, from and to the files that ``age`` itself uses.

Source: C2SP age specification, "Native recipient types".
"""

from __future__ import annotations

from typing import Literal, get_args

from bistro.crypto.age.hybrid import HybridIdentity, HybridRecipient
from bistro.crypto.age.passphrase import PassphraseIdentity
from bistro.crypto.age.x25519 import X25519Identity, X25519Recipient
from bistro.errors import FormatError

KeyKind = Literal["hybrid", "x25519"]
"""What a call may ask for: post-quantum hybrid keys (default), or X25519 keys."""

KEY_KINDS: tuple[KeyKind, ...] = get_args(KeyKind)

_TYPES: dict[KeyKind, type[HybridIdentity | X25519Identity]] = {
    "hybrid": HybridIdentity,
    "x25519": X25519Identity,
}

Recipient = HybridRecipient | X25519Recipient
KeyIdentity = HybridIdentity | X25519Identity
Identity = HybridIdentity | X25519Identity | PassphraseIdentity


def parse_recipient(text: str) -> Recipient:
    """Read a public key, ``age1pq1…`` or ``age1…``.

    Raises:
        FormatError: Neither of the two.
    """
    if text.startswith(f"{HybridRecipient.prefix}1"):
        return HybridRecipient.parse(text)
    if text.startswith(f"{X25519Recipient.prefix}1"):
        return X25519Recipient.parse(text)
    raise FormatError("recipient: expected a key that begins with age1pq1 or age1")


def parse_identity(text: str) -> KeyIdentity:
    """Read a secret key, ``AGE-SECRET-KEY-PQ-1…`` or ``AGE-SECRET-KEY-1…``.

    Raises:
        FormatError: Neither of the two; the message does not repeat the text.
    """
    if text.startswith(f"{HybridIdentity.prefix}1"):
        return HybridIdentity.parse(text)
    if text.startswith(f"{X25519Identity.prefix}1"):
        return X25519Identity.parse(text)
    raise FormatError(
        "identity: expected a key that begins with AGE-SECRET-KEY-PQ-1 or AGE-SECRET-KEY-1"
    )


def generate_identity(kind: KeyKind) -> KeyIdentity:
    """A new secret key from the operating system's randomness."""
    return _TYPES[kind].generate()


def decode_identity_file(data: bytes) -> tuple[KeyIdentity, ...]:
    """The secret keys of a file as ``age-keygen`` writes it: one a line, ``#`` comments.

    Raises:
        FormatError: Not ASCII, a line that is no key, or no key at all.
    """
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as exc:
        raise FormatError("identity file: expected ASCII text") from exc
    identities = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        try:
            identities.append(parse_identity(line))
        except FormatError as exc:
            raise FormatError(f"identity file, line {number}: {exc.message}") from exc
    if not identities:
        raise FormatError("identity file: expected at least one key, found none")
    return tuple(identities)


def encode_identity_file(identity: KeyIdentity) -> bytes:
    """What ``age -d -i`` reads: the public key as a comment, then the secret key."""
    return f"# public key: {identity.recipient.format()}\n{identity.format()}\n".encode()
