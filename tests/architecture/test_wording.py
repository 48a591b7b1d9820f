"""What the client says to people stands in one catalogue, ready for a translator.

The catalogue is ``messages``, ``peer_messages``, ``notices`` and the table in ``wording``. The
manuals (``--help``) are where click wants them: docstrings, and the texts of options.
"""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from bistro_client.wording import SAYINGS
from tests.architecture.sources import ROOT, modules, shown, tree_of

CLIENT: Final = ROOT / "client" / "bistro_client"
CATALOGUE: Final = {CLIENT / f"{name}.py" for name in ("messages", "peer_messages", "notices")}
CATALOGUE.add(CLIENT / "wording.py")
OTHERS: Final = [path for path in modules(CLIENT) if path not in CATALOGUE]
NO_WORDS: Final = re.compile(r"bold |^dim |^bistro [a-z]+|[<{]")
"""Styles of a terminal, commands, HTML and CSS."""
SENTENCE: Final = re.compile(r"[a-z]{2,} [a-z]{2,}|[a-z]{2,}: ")
MANUALS: Final = frozenset({"argument", "command", "group", "option", "version_option"})
_MANUAL_NAMES: Final = frozenset({"_COMMANDS"})
_NAMES: Final = frozenset({"erasure code", "server key"})
"""Of doctor's checks: programs read them in ``--json``."""


def sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Texts with words that are neither docstrings nor manuals, with their lines."""
    for statement in tree.body:
        if not _is_manual(statement):
            yield from _in(statement)


def _is_manual(node: ast.AST) -> bool:
    match node:
        case ast.AnnAssign(target=ast.Name(id=name)) if name in _MANUAL_NAMES:
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="click"), attr=name)):
            return name in MANUALS
        case ast.Expr(value=ast.Constant()):
            return True
        case _:
            return False


def _in(node: ast.AST) -> Iterator[tuple[int, str]]:
    if _is_manual(node):
        return
    match node:
        case ast.JoinedStr(values=parts):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "_" for p in parts)
            yield from _if_words(node.lineno, text)
        case ast.Constant(value=str(text)):
            yield from _if_words(node.lineno, text)
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _in(child)


def _if_words(line: int, text: str) -> Iterator[tuple[int, str]]:
    if SENTENCE.search(text) and not NO_WORDS.search(text) and text not in _NAMES:
        yield line, text


@pytest.mark.parametrize("path", OTHERS, ids=shown)
def test_nothing_is_said_to_people_outside_of_the_catalogue(path: Path) -> None:
    """A sentence elsewhere would never be translated."""
    assert [f"{shown(path)}:{line}: {text}" for line, text in sentences(tree_of(path))] == []


def test_every_saying_is_used_with_just_its_places() -> None:
    """None is missing, none is left over, and each gets what stands between its braces."""
    used: dict[str, set[str]] = {}
    for path in OTHERS:
        for node in ast.walk(tree_of(path)):
            match node:
                case ast.Call(
                    func=ast.Name(id="say"), args=[ast.Constant(value=str(key))], keywords=given
                ):
                    places = {str(one.arg) for one in given}
                    assert used.setdefault(key, places) == places, key
                case _:
                    pass
    wanted = {
        key: {name for _, name, _, _ in string.Formatter().parse(text) if name}
        for key, text in SAYINGS.items()
    }
    assert used == wanted


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('raise SettingsError("no such file", hint="look again")', 2),
        ("x = f'{name}: is not there'", 1),
        ('"""A docstring of some words."""', 0),
        ('@click.option("--x", help="Some words of a manual.")\ndef f():\n    """Words too."""', 0),
        ('say("area.key", name=name)', 0),
        ('style = "bold green"', 0),
    ],
)
def test_the_lint_finds_what_it_is_for(text: str, count: int) -> None:
    """And leaves manuals and styles alone."""
    assert len(list(sentences(ast.parse(text)))) == count
