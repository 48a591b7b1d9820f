"""Compiles the modules in C while the package is built, where there is a compiler.

Without one the package is complete, too, and slower: ``bistro-server doctor`` says so.

Source: docs/decisions/0024-a-few-functions-in-c.md, 0030-connections-read-in-bulk.md.
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

MODULES = {
    Path("bistro/crypto/bulk_c"): Path("bistro/crypto/_bulk.abi3.so"),
    Path("bistro/daemon/direct_c"): Path("bistro/daemon/_direct.abi3.so"),
}
"""Where each module is built from its source."""


class Compile(BuildHookInterface[Any]):
    """Adds compiled modules to a wheel, or lays them beside their source for an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, or leave it."""
        del version
        root = Path(self.root)
        for built in MODULES.values():
            (root / built).unlink(missing_ok=True)
        if self.target_name != "wheel" or not sys.platform.startswith("linux"):
            return
        for sources, built in MODULES.items():
            try:
                compile_module(root / sources, root / built)
            except (OSError, subprocess.CalledProcessError) as exc:
                reason = getattr(exc, "stderr", "") or str(exc)
                self.app.display_warning(f"{sources} was not compiled, tickets cost more: {reason}")
                continue
            build_data["artifacts"].append(str(built))
            build_data["pure_python"] = False
            build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_')}"


def compile_module(sources: Path, built: Path) -> None:
    """Compile all C files of a folder into one module.

    Raises:
        OSError: There is no compiler.
        CalledProcessError: It failed.
    """
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    flags = ["-O2", "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"]
    files = sorted(str(path) for path in sources.glob("*.c"))
    command = [*compiler, *flags, "-o", str(built), *files, "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
