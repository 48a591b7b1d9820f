"""The page that lists what tus demands names tests that exist, and misses none."""

from __future__ import annotations

import ast
import re

from tests.architecture.sources import ROOT

PAGE = ROOT / "docs" / "spec" / "tus.md"
TESTS = ROOT / "tests" / "integration" / "tus"
REASONS = ("not applicable: ", "all of `core`")
BEYOND = {"test_parts_of_uploads_are_refused"}
"""What is tested there although no MUST demands it."""


def written() -> set[str]:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in TESTS.glob("test_*.py"))
    return {
        node.name
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def rows() -> list[tuple[str, str]]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ")][1:]
    return [(must.strip(), test.strip()) for _, must, test in cells]


def test_every_must_has_its_test_or_the_reason_why_not() -> None:
    """A test of that name, or a sentence."""
    known = written()
    for must, test in rows():
        named = re.fullmatch(r"`(test_\w+)`", test)
        if named is None:
            assert test.startswith(REASONS), must
        else:
            assert named[1] in known, must


def test_every_test_stands_in_the_page() -> None:
    """Whoever adds one says which MUST it is of."""
    named = {test.strip("`") for _, test in rows()}
    assert written() - BEYOND <= named
