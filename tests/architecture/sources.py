"""The project's own source files, for tests that read code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    ROOT / "bistro",
    ROOT / "client" / "bistro_client",
    ROOT / "relay" / "bistro_relay",
    ROOT / "server" / "bistro_server",
)


def modules(*folders: Path) -> list[Path]:
    """Every module below ``folders``, by default of the four packages."""
    return sorted(path for folder in folders or PACKAGES for path in folder.rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def calls(path: Path) -> Iterator[ast.Call]:
    """Every call in a module."""
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call))


def shown(path: Path) -> str:
    """A path for messages, relative to the project."""
    return str(path.relative_to(ROOT))


def documented_names(page: str) -> set[str]:
    """What stands in backticks in the first column of the tables of ``docs/<page>``."""
    rows = (
        line.split("|")[1].strip()
        for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    )
    return {row.strip("`") for row in rows if row.startswith("`")}
