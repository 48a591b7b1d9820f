"""Finds programs and libraries that tests use as oracles, as listed in ``.ci/tools``.

On a developer's machine a missing tool skips its tests and says how to get it; in CI it fails.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from pathlib import Path

import pytest

_LIST = Path(__file__).resolve().parents[2] / ".ci" / "tools"


def _packages() -> dict[str, str]:
    lines = (line.split() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return {words[0]: words[1] for words in lines if words and words[0] != "#"}


def require_tool(name: str) -> str:
    """The path of program ``name``; the test is skipped, in CI failed, where there is none."""
    return shutil.which(name) or _give_up(name)


def require_library(name: str) -> ctypes.CDLL:
    """Shared library ``name``, such as ``libisal.so.2``; as ``require_tool`` otherwise."""
    try:
        return ctypes.CDLL(name)
    except OSError:
        _give_up(name)
        raise


def _give_up(name: str) -> str:
    message = f"{name} is missing: install the Debian package {_packages()[name]}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
