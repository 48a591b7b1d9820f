"""Test oracles from npm, installed by name into the git-ignored folder ``.deps/npm``.

Nothing of theirs is committed: the first test that needs one installs all of them, in the
versions named here. Where npm does not exist these tests are skipped, with the reason shown;
never in continuous integration (``CI=true``), where that is a failure.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
from functools import cache
from pathlib import Path

from tests.support.tools import require_tool

PACKAGES = {
    "age-encryption": "0.3.1",
    "cctv-age": "0.2.0",
    "playwright-core": "1.65.1",
    "tus-js-client": "4.3.1",
}
FOLDER = Path(__file__).resolve().parent.parent.parent / ".deps" / "npm"
_INSTALL_LIMIT_S = 120


def require_packages() -> Path:
    """The folder in which Node finds every package of ``PACKAGES``."""
    return _install(require_tool("npm"))


def run_node(script: str, *arguments: str, stdin: bytes = b"", limit_s: int = 20) -> bytes:
    """What an ES module, given as text, writes to its standard output."""
    folder = require_packages()
    done = subprocess.run(
        [require_tool("node"), "--input-type=module", "--eval", script, *arguments],
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
