"""Compiles ``bistro/crypto/bulk_c`` while the package is built, where there is a compiler.

Without one the package is complete, too, and slower: ``bistro-server doctor`` says so.

Source: docs/decisions/0024-a-few-functions-in-c.md.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("bistro/crypto/bulk_c")
BUILT = Path("bistro/crypto/_bulk.abi3.so")


class Compile(BuildHookInterface[Any]):
    """Adds the compiled module to a wheel, or lays it beside its source for an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or leave it."""
        del version
        root = Path(self.root)
        (root / BUILT).unlink(missing_ok=True)
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
        if shutil.which(compiler[0]) is None:
            compiler = ["cc"]
        flags = ["-O2", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
        sources = sorted(str(path) for path in (root / SOURCES).glob("*.c"))
        command = [*compiler, *flags, "-o", str(root / BUILT), *sources, "-ldl"]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as exc:
            reason = getattr(exc, "stderr", "") or str(exc)
            self.app.display_warning(f"{SOURCES} was not compiled, tickets cost more: {reason}")
            return
        build_data["artifacts"].append(str(BUILT))
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_')}"
