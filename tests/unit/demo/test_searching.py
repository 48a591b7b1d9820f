"""The search for readable things: finds them in names and bytes, and nothing in sealed data."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.e2e.demo.filings import FILERS, NAME_MARK, TEXT_MARK
from tests.e2e.demo.searching import needles_for, search, size_of

KEY = bytes(range(32))


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 5_000 + TEXT_MARK,
        f"a name with {NAME_MARK}".encode(),
        FILERS[0].encode(),
        KEY,
        KEY.hex().encode(),
        base64.b64encode(KEY + b"more"),
    ],
)
def test_what_could_be_read_is_found(tmp_path: Path, data: bytes) -> None:
    """Wherever in a file it stands, in whichever form."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "segment").write_bytes(b"\0" * 100_000 + data)
    assert search(tmp_path, needles_for([KEY]))


def test_names_of_files_are_searched_too(tmp_path: Path) -> None:
    """An empty file may tell as much as a full one."""
    (tmp_path / f"{NAME_MARK}.tmp").touch()
    assert search(tmp_path, needles_for([]))


def test_sealed_data_is_left_alone(tmp_path: Path) -> None:
    """No false alarm; a single file, such as a log, may be searched as well."""
    (tmp_path / "segment").write_bytes(bytes(range(256)) * 1_000)
    assert search(tmp_path, needles_for([KEY[::-1]])) == []
    assert search(tmp_path / "segment", needles_for([KEY[::-1]])) == []
    assert size_of(tmp_path) == 256_000
