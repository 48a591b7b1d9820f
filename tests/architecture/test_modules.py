"""Modules: short, named for their job, and in one direction of imports."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, modules, shown, tree_of

LONGEST = 400
VAGUE = {"common", "helpers", "misc", "models", "util", "utils"}

EVERY_MODULE = pytest.mark.parametrize("path", modules(), ids=shown)


@EVERY_MODULE
def test_a_module_is_at_most_400_lines_long(path: Path) -> None:
    """A longer one does two jobs and is split."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@EVERY_MODULE
def test_a_module_is_named_for_its_job(path: Path) -> None:
    """A drawer named utils collects everything."""
    assert not {path.stem, *path.parent.relative_to(ROOT).parts} & VAGUE


@EVERY_MODULE
def test_a_module_states_its_job_in_its_docstring(path: Path) -> None:
    """The first thing a reader sees is what this is for."""
    assert (ast.get_docstring(tree_of(path)) or "").strip()


@EVERY_MODULE
def test_nothing_swallows_every_exception(path: Path) -> None:
    """What is expected has a name; cleaning up on the way out raises again."""
    swallowed = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
        and not any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
    ]
    assert swallowed == []


@pytest.mark.timeout(120)
def test_imports_run_in_one_direction() -> None:
    """The contracts of pyproject.toml hold: layers, pure packages, programs apart."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--no-cache", "--no-logo"],
        cwd=ROOT,
        env={"PYTHONPATH": os.pathsep.join(str(package.parent) for package in PACKAGES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
