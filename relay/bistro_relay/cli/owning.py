"""Lets no command leave files in a relay's folder that its own user cannot read.

An operator types ``sudo`` often. What root writes into the folder belongs to root, and the
relay, which has no privilege, would stop at it: so a command that root runs becomes the user
whose the folder is, before it opens anything.

Source: docs/spec/commands.md, bistro-relay.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if sys.platform == "win32":

    def become_owner(directory: Path) -> None:
        """Nothing: a folder's rights are inherited there, whoever writes."""
        del directory

    def owner_name(number: int) -> str:
        """A user's name, from the number."""
        return str(number)

else:
    import pwd

    def owner_name(number: int) -> str:
        """A user's name, from the number; the number where it has none."""
        try:
            return pwd.getpwuid(number).pw_name
        except KeyError:
            return str(number)

    def become_owner(directory: Path) -> None:
        """Go on as the owner of a folder, for good, where root runs this and another owns it."""
        if os.geteuid() != 0 or not directory.is_dir():
            return
        found = directory.stat()
        if found.st_uid == 0:
            return
        name = owner_name(found.st_uid)
        if name.isdigit():
            # A number without a name, as in a container: no other groups then.
            os.setgroups([])
        else:
            os.initgroups(name, found.st_gid)
        os.setgid(found.st_gid)
        os.setuid(found.st_uid)
