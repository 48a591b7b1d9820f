"""What may be filed is settled before anything is asked of anybody."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bistro.errors import SettingsError
from bistro_client.gathering import gather


def make(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode("utf-8", "surrogateescape"))
    return folder


@contextlib.contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that anybody may enter, and a user to whom permissions apply."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o777)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65_534)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)


def test_folders_are_taken_with_all_their_files_under_their_own_name(tmp_path: Path) -> None:
    """In the order of the manifest, by the bytes of their paths."""
    make(tmp_path / "annexes", "b.pdf", "a/x.csv", "a.pdf", ".hidden")
    make(tmp_path, "report.pdf")
    found = gather([tmp_path / "report.pdf", tmp_path / "annexes"])
    assert [source.path for source in found] == [
        "annexes/.hidden",
        "annexes/a.pdf",
        "annexes/a/x.csv",
        "annexes/b.pdf",
        "report.pdf",
    ]
    assert [source.size for source in found] == [7, 5, 7, 5, 10]


def test_the_current_folder_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``bistro submit .`` files it under the folder's own name."""
    make(tmp_path / "bid", "a.pdf")
    monkeypatch.chdir(tmp_path / "bid")
    assert [source.path for source in gather([Path()])] == ["bid/a.pdf"]


def test_a_name_in_another_unicode_form_is_filed_in_the_one_form(tmp_path: Path) -> None:
    """A decomposed letter on disk stands composed in the filing."""
    make(tmp_path / "f", "re\u0301sume\u0301.pdf")
    (source,) = gather([tmp_path / "f"])
    assert source.path == "f/r\u00e9sum\u00e9.pdf"
    assert source.disk.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a:b.pdf", "rename it"),
        ("a\nb.pdf", "rename it"),
        ("what?.pdf", "rename it"),
        ("back\\slash.pdf", "rename it"),
        ("x\udcff.pdf", "rename it"),
        ("n" * 100 + "/" + "m" * 200 + "\u202e.pdf", "rename it"),
    ],
)
def test_names_that_some_system_could_not_unpack_are_refused(
    tmp_path: Path, name: str, words: str
) -> None:
    """Exit 2; the message shows the name without letting it act on a terminal."""
    make(tmp_path / "f", name)
    with pytest.raises(SettingsError, match="cannot be filed") as caught:
        gather([tmp_path / "f"])
    assert words in caught.value.hint
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", ["submission.bin", "manifest.json"])
def test_reserved_names_are_refused(tmp_path: Path, name: str) -> None:
    """They are the filing's own."""
    make(tmp_path, name)
    with pytest.raises(SettingsError, match="reserved"):
        gather([tmp_path / name])


def test_two_files_under_one_name_are_refused(tmp_path: Path) -> None:
    """Both are named, so that the filer can choose."""
    make(tmp_path, "a/report.pdf", "b/report.pdf")
    with pytest.raises(SettingsError, match=r"two files would be 'report\.pdf'"):
        gather([tmp_path / "a" / "report.pdf", tmp_path / "b" / "report.pdf"])


def test_the_same_path_named_twice_is_refused(tmp_path: Path) -> None:
    """Once is enough, twice is a mistake to look at."""
    make(tmp_path, "report.pdf")
    with pytest.raises(SettingsError, match="two files"):
        gather([tmp_path / "report.pdf", tmp_path / "report.pdf"])


def test_a_file_may_not_be_another_ones_folder(tmp_path: Path) -> None:
    """``x`` and ``x/y`` cannot be unpacked beside each other."""
    make(tmp_path, "a/x", "b/x/y")
    with pytest.raises(SettingsError, match="can hold 'x' beside 'x/y'"):
        gather([tmp_path / "a" / "x", tmp_path / "b" / "x"])


def test_names_that_some_system_takes_for_one_are_named_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    """A filing unpacks everywhere; its filer learns both names and what to do."""
    make(tmp_path, "a/Report.pdf", "b/report.PDF")
    with pytest.raises(
        SettingsError, match=r"can hold .Report\.pdf. beside .report\.PDF."
    ) as raised:
        gather([tmp_path / "a" / "Report.pdf", tmp_path / "b" / "report.PDF"])
    assert str(tmp_path / "a" / "Report.pdf") in raised.value.message
    assert "rename one of them" in raised.value.hint


@pytest.mark.parametrize("name", ["aux.txt", "notes.", "a\u200bb.txt"])
def test_a_name_that_some_system_refuses_is_named(tmp_path: Path, name: str) -> None:
    """Deep in a folder, too."""
    make(tmp_path, f"filing/deep/{name}")
    with pytest.raises(SettingsError, match="this name cannot be filed") as raised:
        gather([tmp_path / "filing"])
    assert ascii(name)[1:-1] in raised.value.message
    assert "rename it" in raised.value.hint


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    """Exit 2, before anything else happens."""
    with pytest.raises(SettingsError, match="there is no such file or folder"):
        gather([tmp_path / "nowhere"])


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    """Also if it has empty folders inside, and if others are named beside it."""
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    make(tmp_path, "report.pdf")
    with pytest.raises(SettingsError, match="has no files"):
        gather([tmp_path / "report.pdf", tmp_path / "empty"])
    with pytest.raises(SettingsError, match="no files were named"):
        gather([])


def test_links_inside_a_folder_are_refused(tmp_path: Path) -> None:
    """What they lead to was not named: a link out of the folder must not file a secret."""
    make(tmp_path, "secret", "f/a.pdf")
    (tmp_path / "f" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(SettingsError, match="symbolic links are not followed"):
        gather([tmp_path / "f"])
    (tmp_path / "f" / "link").unlink()
    (tmp_path / "f" / "loop").symlink_to(tmp_path / "f", target_is_directory=True)
    with pytest.raises(SettingsError, match="symbolic links are not followed"):
        gather([tmp_path / "f"])


def test_a_link_that_is_named_itself_is_followed(tmp_path: Path) -> None:
    """The filer named it, under its own name."""
    make(tmp_path, "secret")
    (tmp_path / "link.pdf").symlink_to(tmp_path / "secret")
    (source,) = gather([tmp_path / "link.pdf"])
    assert (source.path, source.size) == ("link.pdf", 6)


@pytest.mark.skipif(sys.platform == "win32", reason="no such files there")
def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe would keep the client waiting for ever."""
    (tmp_path / "f").mkdir()
    os.mkfifo(tmp_path / "f" / "pipe")
    for path in (tmp_path / "f", tmp_path / "f" / "pipe"):
        with pytest.raises(SettingsError, match="expected a file or a folder"):
            gather([path])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        with pytest.raises(SettingsError, match="expected a file or a folder"):
            gather([tmp_path / "s"])


@pytest.mark.skipif(sys.platform == "win32", reason="other permissions there")
def test_an_unreadable_folder_is_named() -> None:
    """Exit 2: part of a filing is no filing."""
    with as_nobody() as folder:
        make(folder / "f", "a.pdf", "locked/b.pdf")
        (folder / "f" / "locked").chmod(0)
        try:
            with pytest.raises(SettingsError, match=r"locked: cannot be read: Permission denied"):
                gather([folder / "f"])
        finally:
            (folder / "f" / "locked").chmod(0o700)
