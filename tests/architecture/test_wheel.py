"""The distribution: four import packages and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, modules


@pytest.mark.timeout(120)
def test_the_wheel_holds_every_module_of_the_four_packages(tmp_path: Path) -> None:
    """A folder such as ``server`` is a container and never reaches site-packages."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("bistro-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    expected = {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in modules(package)
    }
    assert {name for name in names if name.endswith(".py")} == expected
    assert {name.split("/")[0] for name in names} == {package.name for package in PACKAGES}
