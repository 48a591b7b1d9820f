"""Lists of filers: what is taken, and which line is named when one is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bistro.errors import SettingsError
from bistro_server.services.filer_import import checked

KEYS = tuple(bytes([number]) * 32 for number in range(2, 12))
ONE, TWO = KEYS[0].hex(), KEYS[1].hex()


def rows(path: Path, data: bytes) -> list[tuple[bytes, str]]:
    """What is read from a file of these bytes."""
    path.write_bytes(data)
    with checked(path) as found:
        listed = list(found)
        assert found.count == len(listed)
        return listed


@pytest.mark.parametrize(
    "data",
    [
        f'key,name\n{ONE},Town of Aldea\n{TWO},"Bairro, Sul"\n',
        f'name,key\r\nTown of Aldea,{ONE}\r\n"Bairro, Sul",{TWO}\r\n\r\n',
        f'\ufeffkey,name\n{ONE},Town of Aldea\n{TWO},"Bairro, Sul"',
        f'{{"key":"{ONE}","name":"Town of Aldea"}}\n{{"name": "Bairro, Sul", "key": "{TWO}"}}\n\n',
    ],
)
def test_both_forms_are_read_in_order(tmp_path: Path, data: str) -> None:
    """Columns in any order, quotes, other line ends, what a spreadsheet puts in front."""
    found = rows(tmp_path / "filers", data.encode())
    assert found == [(KEYS[0], "Town of Aldea"), (KEYS[1], "Bairro, Sul")]


@pytest.mark.parametrize(
    ("data", "line", "said"),
    [
        (f"key;name\n{ONE};A\n", 1, "expected the column names key and name"),
        (f"key,name,name\n{ONE},A,B\n", 1, "expected the column names"),
        (f"{ONE},A\n", 1, "expected the column names"),
        (f"key,name\n{ONE},A,B\n", 2, "expected 2 fields, found 3"),
        (f"key,name\n{ONE},A\n{TWO}\n", 3, "expected 2 fields, found 1"),
        (f"key,name\n{ONE},A\n{ONE},B\n", 3, f"found that of line 2 again: {ONE}"),
        (f"key,name\n{ONE[:63]},A\n", 2, "expected 64 hexadecimal digits"),
        (f"key,name\n {ONE},A\n", 2, "expected 64 hexadecimal digits"),
        (f"key,name\n{ONE[:30]}  {ONE[:32]},A\n", 2, "expected 64 hexadecimal digits"),
        (f"key,name\n{'00' * 32},A\n", 2, "one that binds its holder"),
        (f"key,name\n{ONE},\n", 2, "name: expected 1 to 200 characters"),
        (f"key,name\n{ONE},{'x' * 201}\n", 2, "name: expected 1 to 200 characters"),
        (f"key,name\n{ONE},a\tb\n", 2, "name: expected 1 to 200 characters"),
        (f"key,name\n{ONE},{'x' * 5_000}\n", 2, "expected at most 4096 bytes"),
        (f"key,name\n{ONE},A\n\n{TWO},B\n", 4, "found another filer"),
        (f'key,name\n{ONE},"A\nB"\n', 2, "expected a line of CSV"),
        (f'{{"key":"{ONE}"}}\n', 1, "an object with key and name"),
        (f'{{"key":"{ONE}","name":"A","x":1}}\n', 1, "an object with key and name"),
        (f'{{"key":"{ONE}","name":"A","name":"B"}}\n', 1, "expected a JSON object"),
        (f'{{"key":"{ONE}","name":1}}\n', 1, "name: expected text, found int"),
        (f'{{"key":"{ONE}","name":"A"}}\n[]\n', 2, "an object with key and name"),
        (f'{{"key":"{ONE}","name":"A"}}\n{"[" * 4_000}\n', 2, "expected a JSON object"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_read(
    tmp_path: Path, data: str, line: int, said: str
) -> None:
    """The message says which line, what was expected and what was found."""
    with pytest.raises(SettingsError) as raised:
        rows(tmp_path / "filers", data.encode())
    assert f"line {line}: " in raised.value.message
    assert said in raised.value.message
    assert "nothing was imported" in raised.value.hint


@pytest.mark.parametrize("data", [b"", b"\n\n", b"key,name\n"])
def test_a_list_of_nobody_is_an_error(tmp_path: Path, data: bytes) -> None:
    """Whoever imports an empty file has made a mistake."""
    with pytest.raises(SettingsError, match="expected filers, found none"):
        rows(tmp_path / "filers", data)


def test_other_bytes_and_missing_files_are_told(tmp_path: Path) -> None:
    """Latin-1 from an old spreadsheet; a name that is wrong; a folder."""
    with pytest.raises(SettingsError, match="line 2: expected UTF-8"):
        rows(tmp_path / "filers", f"key,name\n{ONE},".encode() + "Évora".encode("latin-1"))
    for path in (tmp_path / "none", tmp_path):
        with (
            pytest.raises(SettingsError) as raised,
            checked(path),
        ):
            pass
        assert str(path) in raised.value.message


NAMES = st.text(min_size=1, max_size=200).filter(lambda name: name.isprintable() and name.strip())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(KEYS), NAMES), min_size=1, unique_by=lambda row: row[0]))
def test_whatever_is_written_as_json_is_read(
    tmp_path: Path, listed: list[tuple[bytes, str]]
) -> None:
    """Names of any letters, escaped or not."""
    for is_ascii in (True, False):
        lines = [
            json.dumps({"key": key.hex(), "name": name}, ensure_ascii=is_ascii)
            for key, name in listed
        ]
        data = "\n".join(lines).encode()
        if max(len(line.encode()) for line in lines) <= 4_096:
            assert rows(tmp_path / "filers", data) == listed
