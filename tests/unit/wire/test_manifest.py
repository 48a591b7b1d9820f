"""Manifests: which files a filing holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bistro.errors import FormatError
from bistro.wire import manifest
from bistro.wire.manifest import File, Manifest

PLAIN = File("a.pdf", 3, "application/pdf", bytes(32))


def named(*paths: str) -> tuple[File, ...]:
    return tuple(dataclasses.replace(PLAIN, path=path) for path in paths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "/a"}, "file path"),
        ({"size": -1}, "file size: expected 0 to 9007199254740991, found -1"),
        ({"size": 2**53}, "file size"),
        ({"type": "pdf"}, "media type"),
        ({"type": "text/Plain"}, "media type"),
        ({"type": "text/" + "x" * 127}, "media type"),
    ],
)
def test_a_file_that_no_manifest_holds_is_not_made(changes: dict[str, Any], message: str) -> None:
    """Mistakes are found where they are made."""
    with pytest.raises(FormatError, match=message):
        dataclasses.replace(PLAIN, **changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"files": named("b", "a")}, "unique paths in the order of their bytes, found 'a'"),
        ({"files": named("a", "a")}, "unique paths"),
        (
            {"files": named("submission.bin/a")},
            "expected 'submission.bin' to be a file or a folder",
        ),
        ({"files": named("a", "a.b", "a/b/c")}, "expected 'a' to be a file or a folder"),
        ({"files": named("a/b", "a/b.c", "a/b/c")}, "expected 'a/b' to be a file or a folder"),
        ({"files": (), "form": ""}, "form: expected 1 to 128 characters, found 0"),
        ({"files": (), "form": "x" * 129}, "form: expected"),
        ({"files": (), "notes": "x" * 10_001}, "notes: expected 1 to 10000"),
        ({"files": (), "references": ("",)}, "reference: expected"),
        ({"files": (), "references": ("x",) * 101}, "at most 100 references, found 101"),
        ({"files": named("a") * 100_001}, "at most 100000 files, found 100001"),
    ],
)
def test_a_manifest_that_cannot_be_unpacked_is_not_made(
    fields: dict[str, Any], message: str
) -> None:
    """A filer learns of it before sealing."""
    with pytest.raises(FormatError, match=message):
        Manifest(**fields)


def test_a_manifest_too_long_for_its_readers_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nobody would decode is not encoded; the limit is lowered here to reach it."""
    monkeypatch.setattr(manifest, "MAX_MANIFEST_SIZE", 100)
    with pytest.raises(FormatError, match="manifest: expected at most 100 bytes"):
        Manifest(named("a")).encode()
