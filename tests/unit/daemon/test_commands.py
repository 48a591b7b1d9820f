"""How commands of the daemons' programs end: an exit code, and two lines if something is wrong."""

from __future__ import annotations

import errno
import subprocess
import sys

import click
import pytest

from bistro.daemon.commands import run_commands
from bistro.errors import (
    BistroError,
    FormatError,
    SettingsError,
    StorageError,
    UnavailableError,
    VerificationError,
)

BUG = """
import click
from bistro.daemon.commands import run_commands

@click.group()
def group(): pass

@group.command()
def go(): raise ValueError("unforeseen")

run_commands(group, program="bistro-test")
"""


def run(
    monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *arguments: str
) -> int | str | None:
    """The exit code of a program whose command ``go`` raises ``error``."""

    @click.group()
    def group() -> None: ...

    @group.command()
    @click.option("--json", "as_json", is_flag=True)
    def go(*, as_json: bool) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(sys, "argv", ["bistro-test", *arguments])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    with pytest.raises(SystemExit) as caught:
        run_commands(group, program="bistro-test")
    return caught.value.code


def test_a_command_that_is_done_exits_with_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says nothing of its own."""
    assert run(monkeypatch, None, "go") == 0


@pytest.mark.parametrize("kind", [FormatError, StorageError, SettingsError, UnavailableError])
def test_every_error_has_a_next_step(
    kind: type[BistroError],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its own hint, or what its exit code means; never a second line that is missing."""
    assert run(monkeypatch, kind("expected a, found b"), "go") == kind.exit_code
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: expected a, found b"
    assert len(second) > len("next: ")
    assert second.startswith("next: ")
    assert run(monkeypatch, kind("x", hint="do this"), "go") == kind.exit_code
    assert capsys.readouterr().err == "error: x\nnext: do this\n"


def test_several_failures_at_once_are_told_by_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parts of a daemon may fail together; a group of bugs stays what it is."""
    group = ExceptionGroup("parts", [ValueError("x"), StorageError("the disk failed")])
    assert run(monkeypatch, group, "go") == 1
    assert "error: the disk failed" in capsys.readouterr().err
    with pytest.raises(ExceptionGroup):
        run(monkeypatch, ExceptionGroup("parts", [ValueError("x")]), "go")


@pytest.mark.parametrize("is_alone", [True, False])
def test_a_machine_that_fails_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, is_alone: bool
) -> None:
    """Wherever an error of the disk was met: two lines, exit 1, and no file to report."""
    failure = OSError(errno.EIO, "Input/output error", "keys/terms.key")
    error = failure if is_alone else ExceptionGroup("parts", [ExceptionGroup("x", [failure])])
    assert run(monkeypatch, error, "go") == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: keys/terms.key: Input/output error"
    assert second == "next: check the disk and the memory"
    with pytest.raises(FileNotFoundError):
        run(monkeypatch, OSError(errno.ENOENT, "No such file", "x"), "go")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("frob",), "frob"), (("go", "--zzz"), "--zzz"), ((), "Usage")],
)
def test_wrong_usage_exits_with_2(
    arguments: tuple[str, ...],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the same two lines; without any command the help itself."""
    assert run(monkeypatch, None, *arguments) == 2
    shown = capsys.readouterr().err
    assert words in shown
    assert ("next: see `bistro-test" in shown) == bool(arguments)


def test_an_error_in_json_is_one_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For programs: on standard output, and nothing beside it."""
    assert run(monkeypatch, VerificationError("bad", hint="keep it"), "go", "--json") == 4
    out, err = capsys.readouterr()
    assert out == '{"error":{"code":"not-verified","hint":"keep it","message":"bad"}}\n'
    assert not err


def test_an_interruption_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is nobody's fault."""
    assert run(monkeypatch, KeyboardInterrupt(), "go") == 130
    assert capsys.readouterr().err.lstrip().startswith("error: interrupted\nnext: ")


def test_a_bug_is_two_lines_and_a_file() -> None:
    """No traceback for the person at the keyboard; the file has it."""
    ran = subprocess.run(
        [sys.executable, "-c", BUG, "go"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    first, second = ran.stderr.splitlines()
    assert first == "error: a bug in bistro-test: ValueError: unforeseen"
    assert "please report" in second
