"""Loads a daemon's settings: a TOML file, then the environment, into one frozen model.

``BISTRO_RELAY_HTTP__PORT=8441`` overrides ``port`` in ``[http]`` for the prefix
``BISTRO_RELAY``. Unknown keys are errors in both places, and all problems are reported at
once, each with the file and key or the variable it stands in. A value in the environment
that begins with ``[`` or ``{`` is read as a TOML array or inline table, any other as text.

This is the only module that reads the environment. Settings hold paths to secrets, never
secrets. Relative paths (``LocalPath``) are relative to the folder of the settings file.

Source: docs/reference/settings.md.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo

from bistro.daemon.logs import Format, Level
from bistro.errors import SettingsError

_BASE_DIR = "base_dir"
_NESTING = "__"

Table = dict[str, Any]
Named = dict[tuple[str, ...], str]
"""Which variable of the environment brought what stands at a place of the table."""
M = TypeVar("M", bound="Section")


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get(_BASE_DIR, Path())
    return base / path


LocalPath = Annotated[Path, AfterValidator(_resolve)]
"""A path in the settings file, relative to the folder of that file."""


class Section(BaseModel):
    """One table of a settings file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class HttpSettings(Section):
    """``[http]``: where the daemon listens and what it takes from one connection."""

    host: str = Field(default="127.0.0.1", description="Address to listen on")
    port: int = Field(ge=0, le=65_535, description="TCP port to listen on; 0 takes a free one")
    base_url: str = Field(
        pattern=r"^https?://[^/\s]+(/[^\s]*[^/\s])?$",
        description="Own address as others reach it, without a slash at the end",
    )
    certificate_path: LocalPath | None = Field(
        default=None, description="PEM file with the TLS certificate chain; none means plain HTTP"
    )
    key_path: LocalPath | None = Field(
        default=None, description="PEM file with the TLS certificate's private key"
    )
    request_timeout_s: float = Field(
        default=30, gt=0, description="Seconds one request may take, streams excepted"
    )
    idle_timeout_s: float = Field(
        default=60, gt=0, description="Seconds without a byte after which a connection is closed"
    )
    grace_s: float = Field(
        default=10, gt=0, description="Seconds open requests may take when the daemon stops"
    )
    backlog_count: int = Field(
        default=1_024, gt=0, description="Connections the kernel holds before they are accepted"
    )
    connections_count: int = Field(
        default=10_000,
        ge=2,
        description="Connections at the same time; one network address may have half of them",
    )
    unfinished_bytes: int = Field(
        default=67_108_864,
        ge=1_048_576,
        description="Bytes that all requests may hold together that are not whole yet",
    )

    workers_count: int = Field(
        default=0, ge=0, le=256, description="Processes that end TLS for the daemon; 0: it does"
    )

    @model_validator(mode="after")
    def _require_both_or_none(self) -> HttpSettings:
        if (self.certificate_path is None) != (self.key_path is None):
            raise ValueError("certificate_path and key_path are given both or not at all")
        return self


class LogSettings(Section):
    """``[log]``: how much is written, and in which form."""

    output_format: Format = Field(
        default="auto", description="json, console, or auto: text on a terminal, JSON elsewhere"
    )
    level: Level = Field(
        default="info", description="Lowest level written: debug, info, warning or error"
    )


class ClockSettings(Section):
    """``[clock]``: what is assumed where the kernel does not know the clock's error."""

    assumed_error_ms: int | None = Field(
        default=None,
        ge=0,
        description="Clock error assumed where the kernel knows none; unset refuses to stamp then",
    )
    error_limit_ms: int = Field(
        default=100, gt=0, description="Stamping stops while the clock's error may be above this"
    )


def load(model: type[M], file: Path, *, prefix: str, environ: Mapping[str, str] | None = None) -> M:
    """Settings of ``file`` with the environment's overrides.

    Args:
        model: The daemon's settings model.
        file: TOML file.
        prefix: Begins the names of variables, such as ``BISTRO_RELAY``.
        environ: Variables; those of the process by default.

    Raises:
        SettingsError: With every problem of file and environment, one a line.
    """
    table = _read_table(file)
    variables = _overrides(prefix, os.environ if environ is None else environ)
    named: Named = {}
    problems = [problem for item in variables if (problem := _put(table, item, named))]
    try:
        settings = model.model_validate(table, context={_BASE_DIR: file.parent})
    except ValidationError as exc:
        problems += [_explain(error, file, named) for error in exc.errors(include_url=False)]
        raise _settings_error(file, problems) from exc
    if problems:
        raise _settings_error(file, problems)
    return settings


def service_variable(name: str) -> str | None:
    """A variable by which a service manager speaks to the process that it starts: no setting."""
    return os.environ.get(name)


@dataclass(frozen=True)
class Key:
    """One key of a settings model, for documentation: dotted name, default and meaning."""

    name: str
    field: FieldInfo

    @property
    def description(self) -> str:
        """What the key means, with its unit."""
        return self.field.description or ""


def keys_of(model: type[BaseModel], parent: str = "") -> Iterator[Key]:
    """Every key of ``model`` and of its sections, in the order of the file."""
    for name, field in model.model_fields.items():
        dotted = f"{parent}.{name}" if parent else name
        sections = [
            kind
            for kind in (field.annotation, *get_args(field.annotation))
            if isinstance(kind, type) and issubclass(kind, BaseModel)
        ]
        if sections:
            yield from keys_of(sections[0], dotted)
        else:
            yield Key(dotted, field)


@dataclass(frozen=True)
class _Variable:
    name: str
    path: tuple[str, ...]
    text: str


def _read_table(file: Path) -> Table:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise SettingsError(
            f"settings file {file} does not exist", hint="make it with the command init"
        ) from exc
    except OSError as exc:
        raise SettingsError(f"settings file {file}: {exc.strerror}") from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise SettingsError(f"settings file {file}: {exc}") from exc


def _overrides(prefix: str, environ: Mapping[str, str]) -> list[_Variable]:
    start = f"{prefix}_"
    return [
        _Variable(name, tuple(name.removeprefix(start).lower().split(_NESTING)), environ[name])
        for name in sorted(environ)
        if name.startswith(start)
    ]


def _put(table: Table, variable: _Variable, named: Named) -> str | None:
    """Write a variable into the table; what stands in the way is returned as a problem.

    ``named`` learns which places of the table the variable made.
    """
    *parents, last = variable.path
    for depth, parent in enumerate(parents, start=1):
        if parent not in table:
            named[variable.path[:depth]] = variable.name
        inner = table.setdefault(parent, {})
        if not isinstance(inner, dict):
            return f"{variable.name}: {parent} is not a table"
        table = inner
    named[variable.path] = variable.name
    try:
        table[last] = _parse_value(variable.text)
    except ValueError as exc:
        return f"{variable.name}: {exc}"
    return None


def _parse_value(text: str) -> object:
    if not text.startswith(("[", "{")):
        return text
    parsed = tomllib.loads(f"value = {text}")
    if len(parsed) != 1:
        raise ValueError("expected one TOML value")
    return parsed["value"]


def _explain(error: Any, file: Path, named: Named) -> str:  # noqa: ANN401
    location = tuple(str(part) for part in error["loc"])
    # The variable that made this place, or one that this place lies in, brought the value.
    sources = (named.get(location[:length]) for length in range(len(location), 0, -1))
    source = next((name for name in sources if name), None)
    place = source or f"{file}: {'.'.join(location) or 'settings'}"
    match error["type"]:
        case "extra_forbidden":
            return f"{place}: no such key"
        case "missing":
            return f"{place}: missing"
        case _:
            found = "" if isinstance(error["input"], dict) else f", found {error['input']!r}"
            return f"{place}: {error['msg'][:1].lower()}{error['msg'][1:]}{found}"


def _settings_error(file: Path, problems: list[str]) -> SettingsError:
    return SettingsError("\n".join(problems), hint=f"correct {file} or the environment")
