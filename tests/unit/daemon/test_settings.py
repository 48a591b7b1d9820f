"""Settings: strict, complete about problems, and overridden by the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from bistro.daemon.settings import (
    ClockSettings,
    HttpSettings,
    LocalPath,
    LogSettings,
    Section,
    keys_of,
    load,
)
from bistro.errors import SettingsError


class Model(Section):
    """A daemon's settings in small."""

    name: str = Field(description="Own name")
    data_path: LocalPath = Field(default=Path("data"), description="Folder")
    destinations: tuple[str, ...] = Field(default=(), description="Names")
    http: HttpSettings = Field(description="HTTP")
    log: LogSettings = Field(default=LogSettings(), description="Logs")
    clock: ClockSettings = Field(default=ClockSettings(), description="Clock")


GOOD = """
name = "relay.example.org"
[http]
port = 8441
base_url = "http://127.0.0.1:8441"
"""


def load_text(folder: Path, text: str, **environ: str) -> Model:
    file = folder / "bistro.toml"
    file.write_text(text, encoding="utf-8")
    return load(Model, file, prefix="BISTRO_TEST", environ=environ)


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_text(folder, text, **environ)
    return caught.value.message.splitlines()


def test_a_file_becomes_a_frozen_model(tmp_path: Path) -> None:
    """Nothing can change settings after they were loaded."""
    settings = load_text(tmp_path, GOOD)
    assert (settings.name, settings.http.port) == ("relay.example.org", 8441)
    with pytest.raises(ValueError, match="frozen"):
        settings.name = "other.example.org"


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    """Two underscores lead into a table; arrays are written as in TOML."""
    settings = load_text(
        tmp_path,
        GOOD,
        BISTRO_TEST_HTTP__PORT="9000",
        BISTRO_TEST_DESTINATIONS='["a.example", "b.example"]',
        BISTRO_TEST_LOG__LEVEL="debug",
        BISTRO_OTHER_NAME="ignored.example",
    )
    assert settings.http.port == 9000
    assert settings.destinations == ("a.example", "b.example")
    assert settings.log.level == "debug"


def test_paths_are_relative_to_the_settings_file(tmp_path: Path) -> None:
    """A daemon means the same files from wherever it is started, defaults included."""
    text = GOOD + 'certificate_path = "tls/cert.pem"\nkey_path = "/etc/key.pem"\n'
    settings = load_text(tmp_path, text)
    assert settings.data_path == tmp_path / "data"
    assert settings.http.certificate_path == tmp_path / "tls/cert.pem"
    assert settings.http.key_path == Path("/etc/key.pem")


def test_unknown_keys_are_errors_in_file_and_environment(tmp_path: Path) -> None:
    """A misspelled key never passes for a default."""
    found = problems(tmp_path, GOOD + "prot = 1\n", BISTRO_TEST_HTPP__PORT="1")
    assert found == [
        f"{tmp_path / 'bistro.toml'}: http.prot: no such key",
        "BISTRO_TEST_HTPP__PORT: no such key",
    ]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    """Each with the file and key, or with the variable that brought it."""
    found = problems(
        tmp_path,
        '[http]\nport = 70000\nbase_url = "ftp://x"\n',
        BISTRO_TEST_CLOCK__ERROR_LIMIT_MS="soon",
    )
    file = tmp_path / "bistro.toml"
    assert found[0] == f"{file}: name: missing"
    assert found[1].startswith(f"{file}: http.port: input should be less than or equal to 65535")
    assert found[2].startswith(f"{file}: http.base_url: ")
    assert found[3].startswith("BISTRO_TEST_CLOCK__ERROR_LIMIT_MS: input should be a valid integer")
    assert found[3].endswith("found 'soon'")
    assert len(found) == 4


@pytest.mark.parametrize("text", ["[1,", "[1]\nname = 2", "{a = }"])
def test_a_broken_array_in_the_environment_names_its_variable(tmp_path: Path, text: str) -> None:
    """The variable is to be corrected, not the file."""
    assert problems(tmp_path, GOOD, BISTRO_TEST_DESTINATIONS=text)[0].startswith(
        "BISTRO_TEST_DESTINATIONS: "
    )


def test_a_variable_below_a_plain_value_is_an_error(tmp_path: Path) -> None:
    """Name is no table, so nothing lies within it."""
    assert problems(tmp_path, GOOD, BISTRO_TEST_NAME__X="1") == [
        "BISTRO_TEST_NAME__X: name is not a table"
    ]


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    """TLS half configured must not become plain HTTP."""
    (found,) = problems(tmp_path, GOOD + 'key_path = "key.pem"\n')
    assert "certificate_path and key_path are given both or not at all" in found


@pytest.mark.parametrize("content", [b"name = ", b"\xff", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    """Also where it is not even text."""
    file = tmp_path / "bistro.toml"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"bistro\.toml"):
        load(Model, file, prefix="BISTRO_TEST", environ={})


def test_a_missing_file_leads_to_init(tmp_path: Path) -> None:
    """Whoever forgot the first step is told about it."""
    with pytest.raises(SettingsError, match="does not exist") as caught:
        load(Model, tmp_path / "none.toml", prefix="BISTRO_TEST", environ={})
    assert "init" in caught.value.hint


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    """What the system says is passed on."""
    with pytest.raises(SettingsError, match="directory"):
        load(Model, tmp_path, prefix="BISTRO_TEST", environ={})


def test_keys_are_listed_for_documentation() -> None:
    """Every key of every section, dotted, with its description."""
    keys = {key.name: key.description for key in keys_of(Model)}
    assert "TCP port" in keys["http.port"]
    assert keys["name"] == "Own name"
    assert "clock.assumed_error_ms" in keys
    assert all(keys.values())
