"""Whatever names a page of the documentation names one that is there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = sorted(
    path
    for folder in ("bistro", "client", "relay", "server", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
PAGE = re.compile(r"\bdocs/[A-Za-z0-9_./-]+\.[a-z]+\b")
LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"#{1,6} +(?P<title>.+?) *#*")


def prose(page: Path) -> Iterator[str]:
    """The lines of a page that are not inside a block of code."""
    is_code = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield line


@cache
def anchors(page: Path) -> frozenset[str]:
    """What links to parts of a page may say: its headings, as forges make anchors of them."""
    found: Counter[str] = Counter()
    names = set()
    for line in prose(page):
        if heading := HEADING.fullmatch(line):
            title = LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading["title"])
            name = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return frozenset(names)


def dead_links(page: Path) -> Iterator[str]:
    for line in prose(page):
        for link in LINK.finditer(re.sub(r"`[^`]*`", "", line)):
            place, _, anchor = link["target"].partition("#")
            if re.match(r"[a-z]+:", place):
                continue
            target = (page.parent / place).resolve() if place else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                yield link["target"]


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_page_that_code_names_is_there(path: Path) -> None:
    """``Source:`` lines lead to the rule that the code follows."""
    named = set(PAGE.findall(path.read_text(encoding="utf-8")))
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Files and headings; other people's pages are theirs to keep."""
    assert not list(dead_links(page))


def test_a_dead_link_would_be_found(tmp_path: Path) -> None:
    """The check itself: pages, anchors, anchors of this page, code left alone."""
    (tmp_path / "other.md").write_text("# One `word`, two\n\n# Twice\n\n# Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Here\n[a](other.md) [b](other.md#one-word-two) [c](#here) [d](https://x.example/)\n"
        "[e](other.md#twice-1) `[f](none.md)`\n```\n[g](none.md)\n```\n"
        "[h](none.md) [i](other.md#three) [j](#there) [k](other.md#twice-2)\n"
    )
    assert list(dead_links(page)) == ["none.md", "other.md#three", "#there", "other.md#twice-2"]
