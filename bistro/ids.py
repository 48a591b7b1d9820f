"""Identifiers: names of servers, relays and calls, origins, URLs, slots, commitments, file paths.

Each ``require_*`` accepts the one spelling of an identifier and raises ``FormatError`` on any
other. Whatever has passed is safe inside a URL, a signed note or a file name of ours.

Source: docs/spec/encodings.md; RFC 1123 for host names.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from bistro.errors import FormatError

COMMITMENT_SIZE: Final = 32
DEFAULT_SLOT: Final = "main"
MAX_HOST_NAME_LENGTH: Final = 253
MAX_CALL_ID_LENGTH: Final = 63
MAX_ORIGIN_LENGTH: Final = MAX_HOST_NAME_LENGTH + 1 + MAX_CALL_ID_LENGTH
MAX_SLOT_LENGTH: Final = 64
MAX_URL_LENGTH: Final = 512
MAX_PORT: Final = 65_535
MAX_PATH_SIZE: Final = 1_024
MAX_SEGMENT_SIZE: Final = 255
RESERVED_PATHS: Final = frozenset({"manifest.json", "submission.bin"})
"""What every filing begins with; no file of a filer may take these places."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_CALL_ID = re.compile(_LABEL)
_RESERVED_CALL_IDS = frozenset({"collect", "custody", "postmarks", "refusals", "status"})
_SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_BASE_URL = re.compile(
    rf"https?://(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:.]{{2,45}}\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*"
)
_COMMITMENT = re.compile(r"[0-9a-f]{64}")
_UNSAFE_IN_PATHS = re.compile(
    # Control characters and what Windows reserves; lone surrogates, which have no UTF-8.
    r'[\x00-\x1f\x7f-\x9f<>:"|?*\\\ud800-\udfff]'
)
_UNSEEN_IN_PATHS = re.compile(
    # Line ends and format characters, which make one name look like another. Listed by code
    # point: what a name is must not depend on the Unicode version of its reader.
    r"[\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    r"\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    r"\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    r"\U000e0001\U000e0020-\U000e007f]"
)
_DEVICE = re.compile(
    r"(?:con|prn|aux|nul|(?:com|lpt)[0-9\u00b9\u00b2\u00b3]) *(?:\..*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_MOST_SHOWN = 80


def _shown(text: str) -> str:
    """``text`` for a message: quoted, control characters escaped, cut if it is long."""
    return ascii(text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…")


def require_host_name(name: str, *, what: str = "server name") -> None:
    """Accept the name of a server or relay: a lower-case host name with a dot.

    Raises:
        FormatError: It is anything else, or longer than 253 characters.
    """
    if len(name) > MAX_HOST_NAME_LENGTH or not _HOST_NAME.fullmatch(name):
        raise FormatError(
            f"{what}: expected a lower-case host name with a dot such as files.example.org, "
            f"found {_shown(name)}"
        )


def require_call_id(call: str) -> None:
    """Accept a call id: 1 to 63 lower-case letters, digits and inner hyphens.

    Raises:
        FormatError: It is anything else, or would make an origin that reads as the name of
            another ledger or key, such as ``<relay>/postmarks``.
    """
    if not _CALL_ID.fullmatch(call):
        raise FormatError(
            "call id: expected 1 to 63 lower-case letters, digits and inner hyphens, "
            f"found {_shown(call)}"
        )
    if call in _RESERVED_CALL_IDS:
        raise FormatError(f"call id: expected one that is not reserved, found {_shown(call)}")


def require_base_url(url: str) -> None:
    """Accept the URL below which a server or relay answers, without a slash at the end.

    Whether plain HTTP may be used is for the caller to decide: loopback hosts only, unless
    the person at the keyboard said otherwise.

    Raises:
        FormatError: It is anything else, such as one with a user, a query or capital letters.
    """
    match = _BASE_URL.fullmatch(url) if len(url) <= MAX_URL_LENGTH else None
    if match is None or int(match["port"] or 0) > MAX_PORT:
        raise FormatError(
            "base URL: expected http or https, a lower-case host, perhaps a port and a path "
            f"without a slash at the end, found {_shown(url)}"
        )


def require_slot(slot: str) -> None:
    """Accept a slot: 1 to 64 of ``A-Z a-z 0-9 . _ -``, beginning with a letter or digit.

    Raises:
        FormatError: It is anything else.
    """
    if not _SLOT.fullmatch(slot):
        raise FormatError(
            f"slot: expected 1 to {MAX_SLOT_LENGTH} letters a-z, digits, dots, hyphens and "
            f"underscores, beginning with a letter or digit, found {_shown(slot)}"
        )


def parse_commitment(text: str) -> bytes:
    """The 32 bytes that 64 lower-case hexadecimal digits stand for.

    Raises:
        FormatError: ``text`` is anything else.
    """
    if not _COMMITMENT.fullmatch(text):
        raise FormatError(
            f"commitment: expected 64 lower-case hexadecimal digits, found {_shown(text)}"
        )
    return bytes.fromhex(text)


def format_commitment(commitment: bytes) -> str:
    """A commitment as 64 lower-case hexadecimal digits."""
    if len(commitment) != COMMITMENT_SIZE:
        raise FormatError(f"commitment: expected 32 bytes, found {len(commitment)}")
    return commitment.hex()


def require_file_path(path: str) -> None:
    """Accept the path of a file within a filing, one that every system can unpack.

    Raises:
        FormatError: It is absolute, leads elsewhere, is not in Unicode form NFC, is too long,
            reserved, a name that some system refuses, or holds a character that cannot be seen.
    """
    problem = _path_problem(path)
    if problem is not None:
        raise FormatError(f"file path: {problem} in {_shown(path)}")


def _path_problem(path: str) -> str | None:
    if _UNSAFE_IN_PATHS.search(path):
        return r'expected no control characters and none of <>:"|?*\, found one'
    if found := _UNSEEN_IN_PATHS.search(path):
        return f"expected no invisible characters, found U+{ord(found[0]):04X}"
    if not unicodedata.is_normalized("NFC", path):
        return "expected Unicode form NFC, found another form"
    if len(path.encode()) > MAX_PATH_SIZE:
        return f"expected at most {MAX_PATH_SIZE} bytes, found {len(path.encode())}"
    if path.casefold() in RESERVED_PATHS:
        return "expected a name that is not reserved, found one that is"
    return next(filter(None, map(_segment_problem, path.split("/"))), None)


def _segment_problem(segment: str) -> str | None:
    if segment in {"", ".", ".."}:
        return f"expected a relative path of names, found the part {segment!r}"
    if len(segment.encode()) > MAX_SEGMENT_SIZE:
        return f"expected names of at most {MAX_SEGMENT_SIZE} bytes, found a longer one"
    if segment[-1] in ". ":
        return f"expected names that do not end in a dot or a space, found {_shown(segment)}"
    if _DEVICE.fullmatch(segment):
        return f"expected no name that is a device on some systems, found {_shown(segment)}"
    return None


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """A call's place in the world: ``<server name>/<call id>``.

    It names the call's ledger and begins every note about the call.

    Raises:
        FormatError: Either part is not what it must be.
    """

    server: str
    call: str

    def __post_init__(self) -> None:
        """Refuse parts that are not what they must be."""
        require_host_name(self.server)
        require_call_id(self.call)

    @classmethod
    def parse(cls, text: str) -> Origin:
        """The origin that ``text`` spells, or ``FormatError``."""
        server, slash, call = text.partition("/")
        if not slash:
            raise FormatError(f"origin: expected <server name>/<call id>, found {_shown(text)}")
        return cls(server, call)

    def __str__(self) -> str:
        """The text that stands in notes, entries and claims."""
        return f"{self.server}/{self.call}"

    @property
    def refusals(self) -> str:
        """The origin of the call's second ledger, and the name its key signs it as."""
        return f"{self}/refusals"

    @property
    def status(self) -> str:
        """The name of the key that signs status and minutes."""
        return f"{self}/status"

    @property
    def collect(self) -> str:
        """The name of the key that signs a collector's requests."""
        return f"{self}/collect"

    def custody(self, relay: str) -> str:
        """The origin of the ledger in which ``relay`` promises to hold fragments of this call."""
        require_host_name(relay, what="relay name")
        return f"{relay}/custody/{self}"


def postmarks_origin(relay: str) -> str:
    """The origin of the ledger in which ``relay`` stamps commitments for others."""
    require_host_name(relay, what="relay name")
    return f"{relay}/postmarks"
