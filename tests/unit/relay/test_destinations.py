"""Files of allowed destinations, and settings."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError, SettingsError, StorageError
from bistro.instant import UnixMillis
from bistro_relay.settings import FILE_NAME, load_settings
from bistro_relay.store.destinations import FOLDER, Destination, DestinationFiles
from tests.support.strategies import BASE_URLS, HOST_NAMES, INSTANTS, corrupted, note_key

DESTINATIONS = st.builds(
    lambda name, url, quota, at: Destination(name, url, note_key(name).verifier, quota, at),
    HOST_NAMES,
    BASE_URLS,
    st.none() | st.integers(1, 2**50),
    INSTANTS,
)
ONE = Destination(
    "permits.example",
    "https://permits.example",
    note_key("permits.example").verifier,
    None,
    UnixMillis(1),
)


@given(DESTINATIONS)
def test_decoding_undoes_encoding(destination: Destination) -> None:
    """What is written is what is read."""
    assert Destination.decode(destination.encode()) == destination


@given(corrupted(DESTINATIONS.map(Destination.encode)))
def test_any_bytes_decode_or_are_malformed(data: bytes) -> None:
    """A damaged file is said, not misread."""
    try:
        found = Destination.decode(data)
    except FormatError:
        return
    assert found.encode() == data


def test_saving_replaces_and_is_seen(tmp_path: Path) -> None:
    """The stamp changes with every change, so a running relay notices."""
    files = DestinationFiles(tmp_path)
    assert files.stamp() == ()
    assert files.load_all() == {}
    assert files.load("permits.example") is None
    files.save(ONE)
    first = files.stamp()
    assert files.load_all() == {"permits.example": ONE}
    files.save(Destination(ONE.server, ONE.url, ONE.key, 5, ONE.allowed_at))
    assert files.stamp() != first
    assert files.load_all()["permits.example"].quota_bytes == 5


def test_a_file_that_is_none_stops_the_relay_with_its_name(tmp_path: Path) -> None:
    """The operator hears which file it is, and what to do."""
    files = DestinationFiles(tmp_path)
    files.save(ONE)
    path = tmp_path / FOLDER / "permits.example.json"
    path.write_bytes(b"{}")
    with pytest.raises(StorageError, match=r"permits\.example\.json"):
        files.load_all()
    path.rename(path.with_name("other.example.json"))
    (tmp_path / FOLDER / "other.example.json").write_bytes(ONE.encode())
    with pytest.raises(StorageError, match=r"expected other\.example"):
        files.load_all()


def test_relative_paths_are_those_of_the_folder(tmp_path: Path) -> None:
    """A relay may be started from anywhere."""
    (tmp_path / FILE_NAME).write_text(
        '[relay]\nname = "relay.example"\noperator = "x"\n'
        '[http]\nport = 1\nbase_url = "https://relay.example"\n'
    )
    settings = load_settings(tmp_path)
    assert settings.relay.key_path == tmp_path / "keys" / "relay.key"
    assert settings.relay.data_path == tmp_path


@pytest.mark.parametrize("url", ["https://Relay.example", "https://relay.example/", "relay"])
def test_a_base_url_is_one_that_terms_can_name(tmp_path: Path, url: str) -> None:
    """Collectors sign it, so it has one spelling."""
    (tmp_path / FILE_NAME).write_text(
        f'[relay]\nname = "relay.example"\noperator = "x"\n[http]\nport = 1\nbase_url = "{url}"\n'
    )
    with pytest.raises(SettingsError):
        load_settings(tmp_path)
