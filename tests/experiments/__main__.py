"""``make experiments``: computes the studies and writes their pages and pictures."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from tests.experiments import faults, placing
from tests.experiments.page import FOLDER, filled


def write(name: str, tables: Mapping[str, str], plots: Mapping[str, str]) -> None:
    """Put tables into a page, and pictures beside it."""
    page = FOLDER / f"{name}.md"
    page.write_text(filled(page.read_text(encoding="utf-8"), tables), encoding="utf-8")
    for file_name, svg in plots.items():
        (FOLDER / file_name).write_text(svg, encoding="utf-8")
    sys.stdout.write(f"{page.relative_to(FOLDER.parents[1])}, {', '.join(plots)}\n")


def main() -> None:
    """Every study."""
    write("fault-tolerance", faults.tables(), faults.plots())
    write("placement", placing.tables(), placing.plots())


if __name__ == "__main__":
    main()
