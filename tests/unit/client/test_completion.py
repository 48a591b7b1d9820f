"""Shells complete commands and submissions."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from bistro_client import cli
from bistro_client.cli.completion import SHELLS, VARIABLE
from bistro_client.home import Home
from tests.unit.client.commands import bistro

NAMES = ("2026-11-22-173000-spring-3f2a91", "2026-11-23-010000-spring-aaaaaa")


def completed(*words: str) -> list[str]:
    """What a shell would offer for the last word."""
    shell = ShellComplete(cli.bistro, {}, "bistro", VARIABLE)
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str) -> None:
    """It names the program and the variable by which it asks."""
    ran = bistro("completion", shell)
    assert ran.code == 0
    assert VARIABLE in ran.out
    assert "bistro" in ran.out


def test_another_shell_is_refused_in_two_lines() -> None:
    """With those that there are."""
    ran = bistro("completion", "tcsh")
    assert ran.code == 2
    ran.require_two_lines()
    assert "fish" in ran.err


def test_commands_and_submissions_are_offered(tmp_path: Path) -> None:
    """Ids come from the home that the line names."""
    home = Home(tmp_path)
    for name in NAMES:
        home.folder(name).path.mkdir(parents=True)
        home.folder(name).journal.write_bytes(b"{}")
    assert {"withdraw"} == set(completed("wi"))
    for command in ("status", "resume", "amend", "withdraw"):
        found = completed(command, "--home", str(tmp_path), "2026")
        assert found == [NAMES[1], NAMES[0]]
    assert completed("status", "--home", str(tmp_path), "2027") == []
