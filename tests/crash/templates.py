"""Services that have lived before: made once, copied for each run that wants one."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Generic, TypeVar

Known = TypeVar("Known")


class Templates(Generic[Known]):
    """The folders of such services, with what their clients know.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, Known] = {}

    async def copy(
        self, name: str, folder: Path, make: Callable[[Path], Awaitable[Known]]
    ) -> Known:
        """Copy one to ``folder``, made first if nobody wanted it before.

        Args:
            name: Of the template.
            folder: Of the copy; does not exist.
            make: Lets such a service live in a folder.

        Returns:
            What its clients know.
        """
        template = self._folder / name
        if name not in self._known:
            shutil.rmtree(template, ignore_errors=True)
            self._known[name] = await make(template)
        shutil.copytree(template, folder, ignore=shutil.ignore_patterns("*.sock"))
        return self._known[name]
