"""What filers run keeps to what every system has: Windows and macOS stay possible."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.sources import ROOT, modules, shown, tree_of

POSIX_MODULES: Final = frozenset(
    {"crypt", "fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
)
POSIX_CALLS: Final = {
    "os": frozenset(
        {
            *("chown", "fchmod", "fchown", "fdatasync", "fork", "fstatvfs", "getegid", "geteuid"),
            *("getgid", "getloadavg", "getpgid", "getuid", "killpg", "lchown", "mkfifo", "nice"),
            *("O_DSYNC", "O_DIRECT", "O_NOFOLLOW", "posix_fadvise", "posix_fallocate", "pread"),
            *("preadv", "pwrite", "pwritev", "register_at_fork", "sched_getaffinity", "sendfile"),
            *("setsid", "setuid", "statvfs", "sync", "uname", "wait", "waitpid", "writev"),
        }
    ),
    "signal": frozenset({"SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2"}),
    "socket": frozenset({"AF_UNIX", "SO_REUSEPORT", "TCP_NOTSENT_LOWAT", "socketpair"}),
}
FILERS: Final = [
    path
    for path in modules()
    if path.is_relative_to(ROOT / "client")
    or (path.is_relative_to(ROOT / "bistro") and "daemon" not in path.parts)
]


def found_in(path: Path) -> list[str]:
    """What a module uses that some system lacks, outside of branches that ask which it is."""
    return [f"{shown(path)}:{line}: {name}" for line, name in _used(tree_of(path))]


def _used(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.If | ast.IfExp) and _asks(node.test):
        return
    match node:
        case ast.Import(names=names):
            yield from ((node.lineno, n.name) for n in names if n.name in POSIX_MODULES)
        case ast.ImportFrom(module=str(module)) if module in POSIX_MODULES:
            yield node.lineno, module
        case ast.Attribute(value=ast.Name(id=base), attr=name) if name in POSIX_CALLS.get(base, ()):
            yield node.lineno, f"{base}.{name}"
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _used(child)


def _asks(test: ast.expr) -> bool:
    """Whether a condition is about the system: ``sys.platform``, ``hasattr``."""
    text = ast.unparse(test)
    return "sys.platform" in text or "hasattr(" in text


@pytest.mark.parametrize("path", FILERS, ids=shown)
def test_what_filers_run_uses_nothing_that_only_posix_has(path: Path) -> None:
    """But in a branch that asks which system it is, with another one beside it."""
    assert found_in(path) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("import fcntl", 1),
        ("from pwd import getpwnam", 1),
        ("import os\nos.fork()", 1),
        ("import sys\nif sys.platform == 'win32':\n    import msvcrt\nelse:\n    import fcntl", 0),
        ("import socket\nif hasattr(socket, 'AF_UNIX'):\n    x = socket.AF_UNIX", 0),
        ("import os\nos.kill(1, 15)", 0),
    ],
)
def test_the_lint_finds_what_it_is_for(text: str, count: int) -> None:
    """And leaves alone what has been thought about."""
    assert len(list(_used(ast.parse(text)))) == count
