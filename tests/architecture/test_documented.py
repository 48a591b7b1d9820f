"""Whatever a reader may meet by name stands in the documentation, and nothing else does."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from bistro.api import routes
from bistro.daemon import logs
from bistro.daemon.settings import Key, Section, keys_of
from bistro.errors import BistroError, catalogue
from tests.architecture.sources import ROOT, calls, documented_names, modules, shown

DAEMONS = ("bistro_relay", "bistro_server")
UNITS = ("_bytes", "_count", "_ms", "_permille", "_s")
UNITLESS = {"plain_port", "port"}
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "log"}
METRIC_KINDS = {"Counter", "Gauge", "Histogram", "HistogramMetricFamily", "Summary"}
IRREGULAR = ("begun", "cut", "found", "kept", "left", "lost", "met", "sent", "shut", "written")


def settings_model(module: ModuleType) -> type[Section]:
    """The one model that no other model of the module contains."""
    models = [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Section) and found.__module__ == module.__name__
    ]
    used = {field.annotation for model in models for field in model.model_fields.values()}
    (outermost,) = [model for model in models if model not in used]
    return outermost


def settings_keys(daemon: str) -> list[Key]:
    return list(keys_of(settings_model(importlib.import_module(f"{daemon}.settings"))))


def log_calls() -> Iterator[tuple[Path, ast.Call]]:
    """Every call of a method of ``log``, ``_log`` or an attribute of that name."""
    for path in modules():
        for call in calls(path):
            match call.func:
                case ast.Attribute(value=ast.Name(id="log" | "_log"), attr=method) if (
                    method in LOG_METHODS
                ):
                    yield path, call
                case ast.Attribute(value=ast.Attribute(attr="log" | "_log"), attr=method) if (
                    method in LOG_METHODS
                ):
                    yield path, call


def events() -> dict[str, str]:
    """Every event name with a place where it is written."""
    found = {"library_warned": "bistro/daemon/logs.py"}
    for path, call in log_calls():
        place = f"{shown(path)}:{call.lineno}"
        is_log = isinstance(call.func, ast.Attribute) and call.func.attr == "log"
        positional = call.args[1:] if is_log else call.args  # log() takes the level first
        match positional:
            case [ast.Constant(value=str(name))]:
                found[name] = place
            case _:
                pytest.fail(f"{place}: expected a constant event name, and facts as fields")
    return found


def metric_names() -> dict[str, str]:
    """Every metric as it is scraped, with the place of its declaration."""
    found = {}
    for path in modules():
        for call in calls(path):
            kind = call.func.id if isinstance(call.func, ast.Name) else ""
            if kind in METRIC_KINDS and call.args and isinstance(call.args[0], ast.Constant):
                name = str(call.args[0].value)
                is_bare = kind == "Counter" and not name.endswith("_total")
                found[f"{name}_total" if is_bare else name] = f"{shown(path)}:{call.lineno}"
    return found


@pytest.mark.parametrize("daemon", DAEMONS)
def test_every_setting_is_documented_with_its_unit(daemon: str) -> None:
    """A key says what it means, and a number what it counts."""
    documented = documented_names("reference/settings.md")
    for key in settings_keys(daemon):
        assert key.name in documented, f"{daemon}: {key.name} is not in settings.md"
        assert key.description, f"{daemon}: {key.name} has no description"
        is_number = re.search(r"\b(int|float)\b", str(key.field.annotation)) is not None
        leaf = key.name.rpartition(".")[2]
        if is_number and leaf not in UNITLESS:
            assert leaf.endswith(UNITS), f"{daemon}: {key.name} names no unit"


def test_every_documented_setting_exists() -> None:
    """A page that promises more misleads an operator."""
    known = {key.name for daemon in DAEMONS for key in settings_keys(daemon)}
    assert documented_names("reference/settings.md") <= known


def test_every_error_code_is_documented() -> None:
    """Codes are protocol; ``internal`` is what a bug looks like from outside."""
    for module in modules():
        if "class " in (text := module.read_text(encoding="utf-8")) and "Error)" in text:
            importlib.import_module(".".join(_import_path(module)))
    codes = {*catalogue(), BistroError.code}
    assert codes <= documented_names("spec/errors.md")


def test_every_error_class_stands_in_the_catalogue_of_errors() -> None:
    """Codes that cross the wire are known whatever was imported."""
    homes = {cls.__module__ for cls in catalogue().values()}
    assert homes == {"bistro.errors"}


@pytest.mark.parametrize(
    "route", [*routes.DAEMON_ROUTES, *routes.SERVER_ROUTES, *routes.RELAY_ROUTES]
)
def test_every_route_is_documented(route: routes.Route) -> None:
    """With its method and path as one reads them."""
    page = (ROOT / "docs/spec/api.md").read_text(encoding="utf-8")
    template = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.template)
    assert re.search(rf"`{route.method} {re.escape(template)}[`?]", page)


def test_every_log_field_is_documented() -> None:
    """What may stand in a log is a promise to filers."""
    assert set(logs.FIELDS) <= documented_names("reference/events.md")


def test_every_event_is_documented_and_says_what_happened() -> None:
    """Names are constant and in the past tense: operators search for them."""
    documented = documented_names("reference/events.md")
    for event, place in events().items():
        assert event in documented, f"{place}: {event} is not in events.md"
        last = event.rpartition("_")[2]
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", event), f"{place}: {event}"
        assert last.endswith("ed") or last in IRREGULAR, f"{place}: {event} is not in the past"


def test_every_field_of_a_log_call_is_in_the_catalogue() -> None:
    """A field that is not would be missing from the line."""
    for path, call in log_calls():
        for keyword in call.keywords:
            if keyword.arg not in {None, "exc_info"}:
                place = f"{shown(path)}:{call.lineno}"
                assert keyword.arg in logs.FIELDS, f"{place}: {keyword.arg} is not in FIELDS"


def test_every_documented_event_or_field_exists() -> None:
    """An operator does not search in vain."""
    assert documented_names("reference/events.md") <= {*logs.FIELDS, *events()}


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    """Alerts are written from the page."""
    assert documented_names("reference/metrics.md") == set(metric_names())


def _import_path(module: Path) -> tuple[str, ...]:
    parts = module.relative_to(ROOT).with_suffix("").parts
    inside = parts[1:] if parts[0] in {"client", "relay", "server"} else parts
    return inside[:-1] if inside[-1] == "__init__" else inside
