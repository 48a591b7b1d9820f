"""The container file: what a linter would find, and what only this project can know."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator

from click import Group
from click.testing import CliRunner

from bistro_relay.cli import main_group
from bistro_relay.settings import DEFAULT_PORT
from tests.architecture.sources import ROOT

TEXT = (ROOT / "deploy" / "container" / "Containerfile").read_text(encoding="utf-8")


def instructions() -> Iterator[tuple[str, str]]:
    """Keyword and rest of every instruction, continued lines joined."""
    for line in TEXT.replace("\\\n", " ").splitlines():
        if line and not line.startswith("#"):
            keyword, _, rest = line.partition(" ")
            yield keyword, rest.strip()


def last(keyword: str) -> str:
    return [rest for name, rest in instructions() if name == keyword][-1]


def test_every_instruction_is_one() -> None:
    """A misspelt one would be noticed at the first build only."""
    known = {
        *("FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "VOLUME", "EXPOSE"),
        *("HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
    }
    assert {keyword for keyword, _ in instructions()} <= known


def test_images_are_named_in_full_and_python_is_one_that_we_support() -> None:
    """A short name could be taken from anywhere, and `latest` could be anything."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    least = int(wanted.removeprefix(">=3."))
    for keyword, rest in instructions():
        if keyword == "FROM":
            match = re.fullmatch(r"docker\.io/library/python:3\.(\d+)-slim(?: AS \w+)?", rest)
            assert match is not None, rest
            assert int(match[1]) >= least


def test_the_relay_runs_without_privileges() -> None:
    """By number, so that a host can check it, and after everything that needs root."""
    order = [keyword for keyword, _ in instructions()]
    assert last("USER").isdigit()
    assert int(last("USER")) > 0
    assert "RUN" not in order[len(order) - order[::-1].index("USER") :]
    assert f"--uid {last('USER')} " in TEXT


def test_what_is_started_is_a_command_that_exists() -> None:
    """Exec form: signals reach the relay, and no shell is needed."""
    entry, command = json.loads(last("ENTRYPOINT")), json.loads(last("CMD"))
    health = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    assert entry == ["bistro-relay"]
    for words in (command, health[1:], *examples()):
        assert isinstance(main_group, Group)
        found = main_group.commands[words[0]]
        options = {name for one in found.params for name in one.opts}
        assert {word for word in words if word.startswith("--")} <= options
    assert last("EXPOSE") == str(DEFAULT_PORT)


def examples() -> Iterator[list[str]]:
    """The relay's commands in the comments, which people copy."""
    for line in TEXT.splitlines():
        if "run" in line and " bistro-relay init" in line:
            yield shlex.split(line.partition(" bistro-relay ")[2])


def test_the_examples_have_commands() -> None:
    """So that the test before has something to look at."""
    assert [words[0] for words in examples()] == ["init"]
    assert CliRunner().invoke(main_group, ["init", "--help"]).exit_code == 0
