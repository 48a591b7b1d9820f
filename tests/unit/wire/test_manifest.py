"""Manifests: which files a filing holds."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.wire import manifest
from bistro.wire.manifest import File, Manifest, find_clash, manifest_limit
from tests.support import strategies

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
            "found 'submission.bin' beside 'submission.bin/a'",
        ),
        ({"files": named("Manifest.json/a")}, "'Manifest.json/a'"),
        ({"files": named("a", "a.b", "a/b/c")}, "found 'a' beside 'a/b/c'"),
        ({"files": named("a/b", "a/b.c", "a/b/c")}, "found 'a/b' beside 'a/b/c'"),
        ({"files": named("A", "a")}, "found 'A' beside 'a'"),
        ({"files": named("A/b", "a/c")}, "found 'A/b' beside 'a/c'"),
        ({"files": named("A", "a/c")}, "found 'A' beside 'a/c'"),
        ({"files": named("a/B/x", "a/b.c", "a/b/y")}, "found 'a/B/x' beside 'a/b/y'"),
        ({"files": named("strasse", "straße")}, "also where case does not count"),
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


def test_names_that_differ_in_more_than_case_lie_beside_each_other() -> None:
    """Folders are compared name by name, not path by path."""
    Manifest(named("A/b", "A/c.x", "A/c/x", "b"))


@given(st.lists(strategies.FILE_PATHS, max_size=6, unique=True))
def test_a_clash_is_found_wherever_two_paths_meet(paths: list[str]) -> None:
    """Comparing neighbours finds what comparing all with all finds."""
    names = [*paths, *(path.swapcase() for path in paths[:2]), "submission.bin", "manifest.json"]
    found = find_clash(name for name in names[:-2])
    assert (found is not None) == any(is_clash(one, other) for one, other in combinations(names, 2))


def is_clash(one: str, other: str) -> bool:
    """The rule as it is written, not as it is computed."""
    parts, others = one.split("/"), other.split("/")
    shared = [
        a == b
        for at, (a, b) in enumerate(zip(parts, others, strict=False), 1)
        if [x.casefold() for x in parts[:at]] == [x.casefold() for x in others[:at]]
    ]
    return not all(shared) or len(shared) in {len(parts), len(others)}


@pytest.mark.parametrize(
    ("files_limit", "limit"), [(1, 532_480), (1_000, 8_716_288), (100_000, 16_777_216)]
)
def test_a_manifest_has_as_much_room_as_its_files_need(files_limit: int, limit: int) -> None:
    """Terms for few files admit no manifest of many megabytes."""
    assert manifest_limit(files_limit) == limit


def test_a_manifest_too_long_for_its_readers_is_not_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nobody would decode is not encoded; the limit is lowered here to reach it."""
    monkeypatch.setattr(manifest, "MAX_MANIFEST_SIZE", 100)
    with pytest.raises(FormatError, match="manifest: expected at most 100 bytes"):
        Manifest(named("a")).encode()
