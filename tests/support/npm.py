"""Test oracles from npm, installed by name into the git-ignored folder ``.deps/npm``.

Nothing of theirs is committed: the first test that needs one installs all of them, in the
versions named here. Where npm does not exist these tests are skipped, with the reason shown;
never in continuous integration (``CI=true``), where that is a failure.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

PACKAGES = {"age-encryption": "0.3.1", "cctv-age": "0.2.0"}
FOLDER = Path(__file__).resolve().parent.parent.parent / ".deps" / "npm"
_INSTALL_LIMIT_S = 120


def require_program(name: str, *, install: str) -> str:
    """The path of a program that is a test oracle, or the end of this test.

    Args:
        name: The program's name on ``PATH``.
        install: What to tell a person who does not have it.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"{name} is not installed, so an independent check was NOT made: {install}"
    if os.environ.get("CI") == "true":  # noqa: TID251 - what a test run may skip, not a setting
        pytest.fail(reason)
    pytest.skip(reason)


def require_packages() -> Path:
    """The folder in which Node finds every package of ``PACKAGES``."""
    require_program("node", install="install Node.js 20 or newer")
    return _install(require_program("npm", install="install Node.js with npm"))


def run_node(script: str, *arguments: str, stdin: bytes = b"", limit_s: int = 20) -> bytes:
    """What an ES module, given as text, writes to its standard output."""
    folder = require_packages()
    node = require_program("node", install="install Node.js 20 or newer")
    done = subprocess.run(
        [node, "--input-type=module", "--eval", script, *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=limit_s,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@cache
def _install(npm: str) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Parallel test processes wait here for the one that installs.
    with (FOLDER.parent / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _installed_versions() == PACKAGES:
            return FOLDER
        # All at once: npm removes what an install command does not name.
        wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
        options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(
            [npm, "install", "--prefix", str(FOLDER), *options, *wanted],
            capture_output=True,
            check=False,
            text=True,
            timeout=_INSTALL_LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
    assert _installed_versions() == PACKAGES
    return FOLDER


def _installed_versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        description = FOLDER / "node_modules" / name / "package.json"
        if description.exists():
            found[name] = json.loads(description.read_text())["version"]
    return found
