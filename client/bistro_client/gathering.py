"""Which files a filing will hold: walks what the filer named, and reads no content.

A folder is taken with everything in it, under its own name. What cannot be filed truthfully is
refused here, before anything is asked of anybody: links, devices, names that some system could
not unpack, two files under one name.

Source: docs/spec/filing.md, paths.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bistro.errors import FormatError
from bistro.ids import require_file_path
from bistro.wire.header import Kind
from bistro.wire.manifest import MAX_FILES, find_clash
from bistro.wire.terms import Terms
from bistro_client import messages


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be filed.

    Attributes:
        path: Where it will stand in the filing.
        disk: Where it lies.
        size: Its bytes when it was looked at; the manifest has what was read.
        is_found: Whether it was found in a folder, where no link is followed.
    """

    path: str
    disk: Path
    size: int
    is_found: bool = False


def sources_of(kind: Kind, paths: Sequence[Path]) -> tuple[Source, ...]:
    """The files of a submission of this kind: a withdrawal has none.

    Raises:
        SettingsError: As ``gather``.
    """
    return () if kind == "withdraw" else gather(paths)


def gather(paths: Sequence[Path]) -> tuple[Source, ...]:
    """The files that ``paths`` name, in the order of a manifest.

    Args:
        paths: Files and folders. A link that is named here is followed; links inside folders
            are refused, since what they lead to was not named.

    Raises:
        SettingsError: Something cannot be filed; the message names it.
    """
    found: dict[str, Source] = {}
    for path in paths:
        count_before = len(found)
        for source in _sources(path):
            other = found.setdefault(source.path, source)
            if other is not source:
                raise messages.duplicate_name(source.path, other.disk, source.disk)
            if len(found) > MAX_FILES:
                raise messages.too_many_files(len(found), MAX_FILES)
        if len(found) == count_before:
            raise messages.empty_folder(path)
    if not found:
        raise messages.nothing_named()
    _require_no_clash(found)
    return tuple(found[name] for name in sorted(found, key=str.encode))


def require_fits(sources: Sequence[Source], terms: Terms) -> None:
    """Check against the terms before anything is read.

    Raises:
        LimitExceededError: More or larger files than the terms allow.
    """
    if len(sources) > terms.files_limit:
        raise messages.too_many_files(len(sources), terms.files_limit)
    total = sum(source.size for source in sources)
    if total > terms.envelope_limit:
        raise messages.too_large(total, terms.envelope_limit)


def _sources(path: Path) -> Iterator[Source]:
    """The files that one named path stands for."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - a link keeps its own name
    try:
        status = absolute.stat()
    except FileNotFoundError as exc:
        raise messages.missing_path(path) from exc
    except OSError as exc:
        raise messages.unreadable(path, exc) from exc
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(absolute, absolute.name)
    elif stat.S_ISREG(status.st_mode):
        yield _source(absolute, absolute.name, status.st_size)
    else:
        raise messages.not_a_file(path)


def _walk(folder: Path, name: str) -> Iterator[Source]:
    """All files below ``folder``; depth is bounded by the length of paths, not by the stack."""
    waiting = [(folder, name)]
    while waiting:
        folder, name = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as exc:
            raise messages.unreadable(folder, exc) from exc
        for entry in listed:
            path = Path(entry.path)
            inside = f"{name}/{entry.name}" if name else entry.name
            if entry.is_symlink():
                raise messages.link_in_folder(path)
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, inside))
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
                yield replace(_source(path, inside, size), is_found=True)
            else:
                raise messages.not_a_file(path)


def _source(path: Path, name: str, size: int) -> Source:
    # Some systems keep names in another Unicode form than they were typed in; a filing has one.
    name = unicodedata.normalize("NFC", name)
    try:
        require_file_path(name)
    except FormatError as exc:
        raise messages.name_not_allowed(path, exc) from exc
    return Source(name, path, size)


def _require_no_clash(found: dict[str, Source]) -> None:
    clash = find_clash(found)
    if clash is not None:
        # One of them may be reserved: the other is then a folder of that name.
        named = [found[name].disk for name in clash if name in found]
        raise messages.clashing_names(clash, named)
