"""Puts computed tables into a page that people write, between two comments that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[2] / "docs" / "experiments"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def filled(page: str, tables: Mapping[str, str]) -> str:
    """``page`` with what stands between the comments of each table's name replaced.

    Raises:
        ValueError: The page has no such place, or a place that no table fills.
    """
    places = re.findall(r"<!-- table: ([a-z-]+) -->", page)
    if sorted(places) != sorted(tables):
        raise ValueError(f"expected places for {sorted(tables)}, found {sorted(places)}")
    for name, text in tables.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        page = re.sub(pattern, lambda match: f"{match[1]}{text}\n{match[2]}", page, flags=re.DOTALL)  # noqa: B023 - called at once
    return page
