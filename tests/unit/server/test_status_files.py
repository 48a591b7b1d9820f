"""Notes are read from memory where it has them, and never half."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

from bistro.errors import UnknownObjectError
from bistro_server.store.status_files import StatusFiles

COMMITMENT = bytes(range(32))
NAME = COMMITMENT.hex()


def test_what_was_written_last_is_found_in_memory(tmp_path: Path) -> None:
    """And is what reading the disk finds."""
    files = StatusFiles(tmp_path)
    for note in (b"first", b"second, which is longer"):
        files.write_all("spring", {COMMITMENT: note})
        assert files.peek_status("spring", NAME) in {note, None}  # some file systems cannot tell
        assert files.read_status("spring", COMMITMENT) == note


def test_what_is_not_there_needs_no_disk_to_be_missed(tmp_path: Path) -> None:
    """Of most submissions there is no status until a fragment is known."""
    files = StatusFiles(tmp_path)
    with pytest.raises(UnknownObjectError, match="no status"):
        files.peek_status("spring", NAME)
    with pytest.raises(UnknownObjectError, match="no status"):
        files.read_status("spring", COMMITMENT)


def test_what_the_disk_would_have_to_be_asked_for_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop waits for no disk."""

    def refuse(*_: object) -> NoReturn:
        raise BlockingIOError

    files = StatusFiles(tmp_path)
    files.write_all("spring", {COMMITMENT: b"note"})
    monkeypatch.setattr(os, "preadv", refuse)
    assert files.peek_status("spring", NAME) is None
    assert files.read_status("spring", COMMITMENT) == b"note"


@pytest.mark.parametrize("size", [0, 4_096, 5_000])
def test_a_note_of_an_unusual_size_is_left_to_others(tmp_path: Path, size: int) -> None:
    """What fills the buffer may be longer than it."""
    files = StatusFiles(tmp_path)
    files.write_all("spring", {COMMITMENT: b"x" * size})
    assert files.peek_status("spring", NAME) is None
