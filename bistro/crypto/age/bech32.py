"""Bech32 text of age keys: a prefix, ``1``, five bits a character, a checksum of six.

One value has one text: recipients are lower case, identities upper case, and the caller's
prefix says which. Error messages never repeat the text, because it may be a secret key.

Source: BIP 173, without its limit on length.
"""

from __future__ import annotations

from bistro.errors import FormatError

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUE_OF = {character: value for value, character in enumerate(_CHARSET)}
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6
_BITS = 5


def encode(prefix: str, data: bytes) -> str:
    """The text of ``data`` in the case of ``prefix``."""
    digits = _digits_of(data)
    residue = _polymod([*_expand(prefix), *digits, *([0] * _CHECKSUM_LENGTH)]) ^ 1
    checksum = [residue >> _BITS * (_CHECKSUM_LENGTH - 1 - i) & 31 for i in range(_CHECKSUM_LENGTH)]
    text = "".join(_CHARSET[digit] for digit in (*digits, *checksum))
    return f"{prefix}1{text.upper() if prefix.isupper() else text}"


def decode(prefix: str, text: str) -> bytes:
    """The bytes behind ``text``.

    Raises:
        FormatError: Another prefix, the wrong case, a character outside the alphabet, a wrong
            checksum, or padding that is not zero bits, fewer than five.
    """
    if not text.startswith(f"{prefix}1"):
        raise FormatError(f"key: expected text that begins with {prefix}1")
    body = text[len(prefix) + 1 :]
    if body != (body.upper() if prefix.isupper() else body.lower()):
        case = "upper" if prefix.isupper() else "lower"
        raise FormatError(f"key {prefix}1…: expected {case} case throughout")
    try:
        digits = [_VALUE_OF[character] for character in body.lower()]
    except KeyError as exc:
        raise FormatError(f"key {prefix}1…: a character is outside the Bech32 alphabet") from exc
    if len(digits) < _CHECKSUM_LENGTH or _polymod([*_expand(prefix), *digits]) != 1:
        raise FormatError(
            f"key {prefix}1…: the checksum is wrong", hint="copy the whole key, without a change"
        )
    return _bytes_of(prefix, digits[:-_CHECKSUM_LENGTH])


def _digits_of(data: bytes) -> list[int]:
    count = -(-len(data) * 8 // _BITS)
    number = int.from_bytes(data, "big") << (count * _BITS - len(data) * 8)
    return [number >> _BITS * (count - 1 - i) & 31 for i in range(count)]


def _bytes_of(prefix: str, digits: list[int]) -> bytes:
    size, padding = divmod(len(digits) * _BITS, 8)
    number = 0
    for digit in digits:
        number = number << _BITS | digit
    if padding >= _BITS or number & ((1 << padding) - 1):
        raise FormatError(f"key {prefix}1…: the padding is not canonical")
    return (number >> padding).to_bytes(size, "big")


def _expand(prefix: str) -> list[int]:
    codes = prefix.lower().encode("ascii")
    return [*(code >> _BITS for code in codes), 0, *(code & 31 for code in codes)]


def _polymod(digits: list[int]) -> int:
    residue = 1
    for digit in digits:
        top = residue >> 25
        residue = (residue & 0x1FFFFFF) << _BITS ^ digit
        for i, generator in enumerate(_GENERATORS):
            if top >> i & 1:
                residue ^= generator
    return residue
