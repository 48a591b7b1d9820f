"""The manifest: which files a filing holds, and what the filer says about them.

Source: docs/spec/filing.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Final

from bistro.crypto.digest import HASH_SIZE, sha256
from bistro.errors import FormatError
from bistro.ids import MAX_PATH_SIZE, RESERVED_PATHS, require_file_path
from bistro.wire.document import MAX_INTEGER, Fields, Json, encode_json

MAX_MANIFEST_SIZE: Final = 16 * 1_024 * 1_024
_BASE_SIZE: Final = 512 * 1_024
_FILE_SIZE: Final = 8 * 1_024
MAX_FILES: Final = 100_000
MAX_FORM_LENGTH: Final = 128
MAX_REFERENCES: Final = 100
MAX_REFERENCE_LENGTH: Final = 1_024
MAX_NOTES_LENGTH: Final = 10_000
MAX_TYPE_LENGTH: Final = 127
_VERSION: Final = 1
_TOKEN = r"[a-z0-9][a-z0-9!#$&^_.+-]*"  # noqa: S105 - a token of RFC 6838, no password
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}")


def manifest_limit(files_limit: int) -> int:
    """Most bytes of a manifest under terms with this ``files_limit``."""
    return min(_BASE_SIZE + _FILE_SIZE * files_limit, MAX_MANIFEST_SIZE)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a filing.

    Attributes:
        path: Where it stands in the filing, relative.
        size: Its bytes.
        type: Its media type in lower case, without parameters.
        sha256: SHA-256 of its content.

    Raises:
        FormatError: A field is not what it must be.
    """

    path: str
    size: int
    type: str
    sha256: bytes

    def __post_init__(self) -> None:
        """Refuse fields that no file has."""
        require_file_path(self.path)
        if not 0 <= self.size <= MAX_INTEGER:
            raise FormatError(f"file size: expected 0 to {MAX_INTEGER}, found {self.size}")
        if len(self.type) > MAX_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(self.type):
            raise FormatError(
                "media type: expected one in lower case such as application/pdf, "
                f"found {self.type[:64]!a}"
            )

    @classmethod
    def read(cls, fields: Fields) -> File:
        """The file that an object of the manifest describes, or ``FormatError``."""
        file = cls(
            path=fields.text("path", MAX_PATH_SIZE),
            size=fields.uint("size"),
            type=fields.text("type", MAX_TYPE_LENGTH),
            sha256=fields.hex("sha256", HASH_SIZE),
        )
        fields.end()
        return file

    def document(self) -> dict[str, Json]:
        """The object that describes this file."""
        return {
            "path": self.path,
            "size": self.size,
            "type": self.type,
            "sha256": self.sha256.hex(),
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """``manifest.json``: the second file of a filing.

    Attributes:
        files: In the order of their paths' bytes, which is their order in the filing.
        form: What kind of filing it is, in the destination's words.
        references: Identifiers that the filer gives: case numbers, earlier filings.
        notes: Free text.

    Raises:
        FormatError: A text is empty or too long, a path stands twice, out of order, is both a
            file and the folder of another, or differs from another only in case.
    """

    files: tuple[File, ...]
    form: str | None = None
    references: tuple[str, ...] = ()
    notes: str | None = None

    def __post_init__(self) -> None:
        """Refuse files that could not be unpacked beside each other, and texts too long."""
        if len(self.files) > MAX_FILES:
            raise FormatError(
                f"manifest: expected at most {MAX_FILES} files, found {len(self.files)}"
            )
        if len(self.references) > MAX_REFERENCES:
            raise FormatError(
                f"manifest: expected at most {MAX_REFERENCES} references, "
                f"found {len(self.references)}"
            )
        _require_length("form", self.form, MAX_FORM_LENGTH)
        _require_length("notes", self.notes, MAX_NOTES_LENGTH)
        for reference in self.references:
            _require_length("reference", reference, MAX_REFERENCE_LENGTH)
        _require_paths([file.path for file in self.files])

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """The manifest that ``data`` encodes, or ``FormatError``."""
        fields = Fields("manifest", data, max_size=MAX_MANIFEST_SIZE)
        fields.constant("version", _VERSION)
        manifest = cls(
            form=fields.optional_text("form", MAX_FORM_LENGTH),
            files=tuple(File.read(file) for file in fields.objects("files", MAX_FILES)),
            references=fields.texts("references", MAX_REFERENCES, longest=MAX_REFERENCE_LENGTH),
            notes=fields.optional_text("notes", MAX_NOTES_LENGTH),
        )
        fields.end()
        return manifest

    def encode(self) -> bytes:
        """The one encoding of this manifest.

        Raises:
            FormatError: It would be longer than any reader takes.
        """
        data = encode_json(
            {
                "version": _VERSION,
                "form": self.form,
                "files": [file.document() for file in self.files],
                "references": self.references,
                "notes": self.notes,
            }
        )
        if len(data) > MAX_MANIFEST_SIZE:
            raise FormatError(
                f"manifest: expected at most {MAX_MANIFEST_SIZE} bytes, found {len(data)}"
            )
        return data

    @property
    def digest(self) -> bytes:
        """SHA-256 of the encoding, which the header names."""
        return sha256(self.encode())


def _require_length(what: str, text: str | None, longest: int) -> None:
    if text is not None and not 1 <= len(text) <= longest:
        raise FormatError(
            f"manifest, {what}: expected 1 to {longest} characters, found {len(text)}"
        )


def _require_paths(paths: list[str]) -> None:
    previous = b""
    for path in paths:
        encoded = path.encode()
        if encoded <= previous:
            raise FormatError(
                f"manifest: expected unique paths in the order of their bytes, found {path!a} "
                f"after {previous.decode()!a}"
            )
        previous = encoded
    clash = find_clash(paths)
    if clash is not None:
        raise FormatError(
            "manifest: expected paths that do not meet in one folder, also where case does not "
            f"count, found {clash[0]!a} beside {clash[1]!a}"
        )


def find_clash(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two paths that some system could not unpack into one folder, if there are any.

    One is the folder of the other, or they begin with names that differ in case only. What
    every filing begins with counts among them.
    """
    # Sorted by folded names, whatever lies in one folder stands together, behind a file of the
    # folder's name: neighbours are all that has to be compared, and nothing grows with depth.
    ordered = sorted((*RESERVED_PATHS, *paths), key=_place)
    return next((pair for pair in pairwise(ordered) if _is_clash(*pair)), None)


def _place(path: str) -> str:
    return path.casefold().replace("/", "\0")  # which no name holds


def _is_clash(first: str, second: str) -> bool:
    for one, other in zip_longest(first.split("/"), second.split("/"), fillvalue=""):
        if one != other:
            return not one or not other or one.casefold() == other.casefold()
    return True
