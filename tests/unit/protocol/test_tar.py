"""The strict pax archive, and the tools that others read it with."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import FormatError
from bistro.protocol import tar

LONG = "folder/" + "ä" * 120 + "/" + "x" * 90 + ".txt"
MEMBERS = {
    "a.txt": b"hello",
    "empty": b"",
    "n" * 100: b"exactly a name field",
    "n" * 101: b"one more",
    "grüße/日本語.pdf": b"x" * 511,
    LONG: b"y" * 512,
    "deep/" * 40 + "z.bin": bytes(range(256)) * 5,
    "p" * 85 + "é": b"pax record with a length that counts its own digits",
}


def pack(members: dict[str, bytes], padding: int = 0) -> bytes:
    parts = []
    for name, data in members.items():
        parts += [tar.encode_header(name, len(data)), data, bytes(tar.padding_size(len(data)))]
    return b"".join([*parts, tar.END, *tar.zeros(padding)])


def unpack(data: bytes, chunk_size: int = 1 << 20) -> dict[str, bytes]:
    reader, found, name = tar.TarReader(), {}, ""
    ended = True
    for at in range(0, len(data), chunk_size):
        for event in reader.feed(data[at : at + chunk_size]):
            match event:
                case tar.MemberStart():
                    assert ended
                    name, ended = event.name, False
                    found[name] = b""
                case tar.MemberData():
                    found[name] += event.data
                case tar.MemberEnd():
                    ended = True
                case tar.ArchiveEnd():
                    assert ended
    reader.finish()
    return found


@pytest.mark.parametrize("chunk_size", [1, 511, 512, 513, 1_000, 1 << 20])
def test_reading_undoes_writing_in_chunks_of_any_size(chunk_size: int) -> None:
    """Where a chunk ends says nothing."""
    assert unpack(pack(MEMBERS, padding=70_000), chunk_size) == MEMBERS


def test_pythons_tarfile_reads_it() -> None:
    """Names, contents, order and types as another reader sees them."""
    with tarfile.open(fileobj=io.BytesIO(pack(MEMBERS))) as archive:
        found = archive.getmembers()
        assert [member.name for member in found] == list(MEMBERS)
        assert all(member.isreg() and member.mode == 0o644 for member in found)
        contents = [archive.extractfile(member) for member in found]
        assert [content.read() for content in contents if content] == list(MEMBERS.values())


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
def test_gnu_tar_reads_it(tmp_path: Path) -> None:
    """Also with zeros after its end, and without a warning."""
    (tmp_path / "a.tar").write_bytes(pack(MEMBERS, padding=3 * 512))
    done = subprocess.run(
        ["tar", "-xf", "a.tar", "-C", str(tmp_path)],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=20,
    )
    assert done.stderr == b""
    assert {name: (tmp_path / name).read_bytes() for name in MEMBERS} == MEMBERS


def test_a_size_of_8_gib_stands_in_a_pax_record() -> None:
    """Eleven octal digits end below it."""
    assert len(tar.encode_header("big", 8**11 - 1)) == 512
    header = tar.encode_header("big", 8**11)
    events = tar.TarReader().feed(header)
    assert events == [tar.MemberStart("big", 8**11)]
    with tarfile.open(fileobj=io.BytesIO(header + tar.END), mode="r:") as archive:
        member = archive.next()
        assert member is not None
        assert member.size == 8**11


def test_member_sizes_are_known_beforehand() -> None:
    """The archive's size is promised before a file is read."""
    total = sum(tar.member_size(name, len(data)) for name, data in MEMBERS.items())
    assert total + len(tar.END) == len(pack(MEMBERS))


def foreign(
    configure: Callable[[tarfile.TarInfo], None],
    *,
    format_: int = tarfile.PAX_FORMAT,
    data: bytes = b"data",
) -> bytes:
    """An archive of one member as Python's tarfile writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as archive:
        info = tarfile.TarInfo("file.txt")
        info.size = len(data)
        configure(info)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.DIRTYPE, "folder"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.CONTTYPE, "type b'7'"),
        (tarfile.GNUTYPE_SPARSE, "type b'S'"),
    ],
)
def test_only_regular_files_are_taken(kind: bytes, words: str) -> None:
    """Links and devices lead elsewhere; folders are made from names."""

    def configure(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, "/etc/passwd", 0

    with pytest.raises(FormatError, match=words):
        unpack(foreign(configure, data=b""))


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", 0o755), ("mtime", 1), ("uid", 1), ("gid", 1), ("uname", "root"), ("mtime", 0.5)],
)
def test_another_form_of_the_same_file_is_malformed(field: str, value: object) -> None:
    """One archive has one encoding."""
    with pytest.raises(FormatError, match="one encoding"):
        unpack(foreign(lambda info: setattr(info, field, value)))


def test_gnu_long_names_are_malformed() -> None:
    """Only pax records extend a header."""
    with pytest.raises(FormatError, match="type b'L'"):
        unpack(foreign(lambda i: setattr(i, "name", "n" * 150), format_=tarfile.GNU_FORMAT))


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def with_records(records: bytes) -> bytes:
    """A member whose pax header holds ``records``."""
    block = tar._block(b"././@PaxHeader", len(records), b"x")
    padded = records + bytes(tar.padding_size(len(records)))
    return block + padded + tar.encode_header("a", 0) + tar.END


@pytest.mark.parametrize(
    "data",
    [
        b"",
        tar.END[:512],
        pack({"a": b"x"})[:-512],
        pack({"a": b"x"})[:-1],
        tar.encode_header("a", 5) + b"abc",
        pack({"a": b"x"}) + b"\1",
        changed(pack({"a": b"x"}), 512 + 1, b"\1"),
        changed(pack({"a": b"x"}), 1024 + 512, b"\1"),
        changed(pack({"a": b"x"}), 148, b"9"),
        changed(pack({"a": b"x"}), 124, b"8"),
        changed(pack({"a": b"x"}), 0, b"\xff"),
        changed(pack({LONG: b"x"}), 124, b"77777777777"),
        with_records(b""),
        with_records(b"10 path=a\n"),
        with_records(b"17 path=" + b"long\xff" + b"abc\n"),
        with_records(b"9 size=x\n"),
        with_records(b"28 size=1234567890123456789\n"),
        with_records(b"x"),
        with_records(b"0 a=b\n"),
        with_records(b"6 a=bc"),
        with_records(b"99999 path=a\n"),
    ],
)
def test_damaged_archives_are_malformed(data: bytes) -> None:
    """Cut short, changed, or followed by something."""
    with pytest.raises(FormatError):
        unpack(data)


@given(st.binary(max_size=2_000))
def test_any_bytes_decode_or_raise(data: bytes) -> None:
    """No input makes anything else happen."""
    with contextlib.suppress(FormatError):
        unpack(data, 700)


@given(st.integers(0, 2_047), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_is_content(at: int, difference: int) -> None:
    """Nothing in an archive is without meaning."""
    members = {"grüße": b"abc", "b": b""}
    data = pack(members)
    at %= len(data)
    spoilt = changed(data, at, bytes([data[at] ^ difference]))
    try:
        found = unpack(spoilt)
    except FormatError:
        return
    assert found != members
    assert pack(found) == spoilt


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)


@given(st.dictionaries(NAMES, st.binary(max_size=1_100), max_size=4), st.integers(1, 3_000))
def test_any_members_survive(members: dict[str, bytes], chunk_size: int) -> None:
    """Decoding undoes encoding for every name that can be encoded."""
    assert unpack(pack(members), chunk_size) == members
