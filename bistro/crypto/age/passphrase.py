"""Opening what was sealed with a passphrase; Bistro itself never seals that way.

Source: C2SP age specification, "The scrypt recipient type"; RFC 7914.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bistro.crypto.age.stanza import Stanza
from bistro.errors import FormatError

MAX_WORK_FACTOR = 20
"""As a power of two: 1 GiB of memory. age itself writes 18."""

_STANZA_KIND = "scrypt"
_SALT_PREFIX = b"age-encryption.org/v1/scrypt"
_SALT_SIZE = 16
_ZERO_NONCE = bytes(12)
_DECIMAL = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class PassphraseIdentity:
    """A passphrase, which opens scrypt stanzas."""

    passphrase: str = field(repr=False)

    def file_keys(self, stanzas: Sequence[Stanza]) -> Iterator[bytes]:
        """What scrypt stanzas for this passphrase hold; the header's MAC tells which is the key.

        Raises:
            FormatError: The scrypt stanza is malformed, or its work factor is above
                ``MAX_WORK_FACTOR``: the sender chooses how much we would have to compute.
        """
        for stanza in stanzas:
            if stanza.kind != _STANZA_KIND:
                continue
            stanza.require_shape(argument_count=2)
            salt = stanza.fixed_argument(0, size=_SALT_SIZE)
            factor = _work_factor(stanza.arguments[1])
            kdf = Scrypt(salt=_SALT_PREFIX + salt, length=32, n=1 << factor, r=8, p=1)
            wrap_key = kdf.derive(self.passphrase.encode())
            try:
                file_key = ChaCha20Poly1305(wrap_key).decrypt(_ZERO_NONCE, stanza.body, None)
            except InvalidTag:
                continue
            yield file_key


def _work_factor(text: str) -> int:
    if _DECIMAL.fullmatch(text) is None:
        raise FormatError("age header: the work factor of a scrypt stanza is no decimal number")
    factor = int(text)
    if factor > MAX_WORK_FACTOR:
        raise FormatError(
            f"age header: the work factor of a scrypt stanza is at most {MAX_WORK_FACTOR}, "
            f"found {factor}"
        )
    return factor
