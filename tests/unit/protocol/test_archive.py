"""What a filing's archive may hold."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.errors import (
    BistroError,
    ConflictError,
    FormatError,
    LimitExceededError,
    VerificationError,
)
from bistro.protocol import tar
from bistro.protocol.archive import (
    ArchiveEvent,
    ArchiveReader,
    ArchiveWriter,
    FileData,
    FileEnd,
    FileStart,
    HeaderRead,
    ManifestRead,
    archive_size,
    padme_size,
)
from bistro.wire.header import SignedHeader
from bistro.wire.manifest import Manifest
from bistro.wire.terms import Padding
from tests.unit.protocol.builders import make_header, make_manifest, sign_header

CONTENTS = {"forms/a.pdf": b"a" * 700, "forms/b.txt": b"", "größe.csv": b"1;2\n" * 300}


def filing(
    contents: dict[str, bytes], *, kind: str = "submit", previous: bytes | None = None
) -> tuple[SignedHeader, Manifest]:
    manifest = make_manifest(contents)
    header = make_header(manifest_sha256=manifest.digest, kind=kind, previous=previous)
    return sign_header(header), manifest


def pack(
    contents: dict[str, bytes],
    *,
    padding: Padding = "none",
    piece_size: int = 100,
    manifest: Manifest | None = None,
    **header: Any,
) -> bytes:
    """An archive as the client writes it; ``manifest`` may say something else of its files."""
    signed, own = filing(contents, **header)
    draft = drafted(manifest or own)
    writer = ArchiveWriter(SignedHeader(signed.header, bytes(64)), draft, padding=padding)
    parts = []
    for file in draft.files:
        data = contents[file.path]
        parts.append(writer.begin_file())
        for at in range(0, len(data), piece_size):
            writer.write(data[at : at + piece_size])
            parts.append(data[at : at + piece_size])
        parts.append(writer.end_file())
    parts += writer.finish()
    assert writer.manifest() == own
    head = writer.head(signed)
    assert len(head) == writer.head_size
    whole = b"".join([head, *parts])
    assert len(whole) == writer.size == archive_size(signed, own, padding=padding)
    return whole


def drafted(manifest: Manifest) -> Manifest:
    """A manifest as it is before a file was read: without hashes."""
    return replace(
        manifest, files=tuple(replace(file, sha256=bytes(32)) for file in manifest.files)
    )


def read(
    data: bytes, *, chunk_size: int = 333, files_limit: int = 10, size_limit: int = 1_000_000
) -> list[ArchiveEvent]:
    reader = ArchiveReader(files_limit=files_limit, size_limit=size_limit)
    events = []
    for at in range(0, len(data), chunk_size):
        events += reader.feed(data[at : at + chunk_size])
    reader.finish()
    return events


def members(*entries: tuple[str, bytes]) -> bytes:
    """A tar of any members, in the strict form."""
    parts = []
    for name, data in entries:
        parts += [tar.encode_header(name, len(data)), data, bytes(tar.padding_size(len(data)))]
    return b"".join([*parts, tar.END])


def test_reading_gives_back_what_was_filed() -> None:
    """Header and manifest first, then every file with its bytes, in manifest order."""
    events = read(pack(CONTENTS))
    signed, manifest = filing(CONTENTS)
    assert events[:2] == [HeaderRead(signed), ManifestRead(manifest)]
    starts = [event.file.path for event in events if isinstance(event, FileStart)]
    assert starts == [file.path for file in manifest.files] == sorted(CONTENTS)
    assert [event.file for event in events if isinstance(event, FileEnd)] == list(manifest.files)
    data = b"".join(event.data for event in events if isinstance(event, FileData))
    assert data == b"".join(CONTENTS[path] for path in sorted(CONTENTS))


@pytest.mark.parametrize("padding", ["none", "padme"])
def test_pythons_tarfile_reads_a_filing(padding: Padding) -> None:
    """Whoever has opened an envelope with age needs nothing of ours."""
    with tarfile.open(fileobj=io.BytesIO(pack(CONTENTS, padding=padding))) as archive:
        names = archive.getnames()
    assert names == ["submission.bin", "manifest.json", *sorted(CONTENTS)]


@given(st.integers(0, 2**50))
def test_padme_sizes_cost_at_most_12_percent(size: int) -> None:
    """A size is padded once, and keeps tar's blocks where it had them."""
    padded = padme_size(size)
    assert size <= padded <= size + size * 0.12
    assert padme_size(padded) == padded
    if size % 512 == 0:
        assert padded % 512 == 0


def test_padme_sizes_of_the_paper() -> None:
    """Known values: the mask has as many low bits as the exponent has beyond its own length."""
    assert [padme_size(n) for n in (0, 1, 2, 9, 100, 1_000_001)] == [0, 1, 2, 10, 104, 1_015_808]


def test_padding_hides_close_sizes_from_each_other() -> None:
    """Many filings share one size."""
    sizes = {len(pack({"a": bytes(n)}, padding="padme")) for n in range(60_000, 60_900, 100)}
    assert len(sizes) == 1
    assert read(pack({"a": bytes(60_000)}, padding="padme"))[-1] == FileEnd(
        make_manifest({"a": bytes(60_000)}).files[0]
    )


@pytest.mark.parametrize("found", [b"grown longer", b"shrun"])
def test_a_file_of_another_size_than_was_said_aborts_sealing(found: bytes) -> None:
    """The head's place was measured by it; nothing was promised, and the message names the file."""
    with pytest.raises(ConflictError, match=r"'f' changed while it was read.* 8 bytes") as caught:
        pack({"f": found}, manifest=make_manifest({"f": b"original"}))
    assert "nothing was promised" in caught.value.hint


def test_a_writer_refuses_another_manifest_than_the_headers() -> None:
    """The header binds the manifest."""
    signed, manifest = filing({})
    writer = ArchiveWriter(signed, manifest, padding="none")
    with pytest.raises(VerificationError, match="manifest"):
        writer.head(filing(CONTENTS)[0])


def test_a_writer_refuses_a_head_that_does_not_fit() -> None:
    """What lies behind it is written already."""
    signed, _ = filing({})
    many = make_manifest({f"file-{number}": b"" for number in range(9)})
    writer = ArchiveWriter(signed, many, padding="none")
    with pytest.raises(VerificationError, match="head: expected 3072 bytes, found 2048"):
        writer.head(signed)


def test_bytes_without_a_file_are_a_bug() -> None:
    """The driver's order is fixed."""
    signed, manifest = filing(CONTENTS)
    writer = ArchiveWriter(signed, manifest, padding="none")
    with pytest.raises(ValueError, match="no file"):
        writer.write(b"x")
    with pytest.raises(ValueError, match="no file"):
        writer.end_file()


def crafted(*entries: tuple[str, bytes], contents: dict[str, bytes] = CONTENTS) -> bytes:
    """A filing's archive with other members after a good header and manifest."""
    signed, manifest = filing(contents)
    return members(
        ("submission.bin", signed.encode()), ("manifest.json", manifest.encode()), *entries
    )


GOOD = sorted(CONTENTS.items())


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (crafted(), FormatError),
        (crafted(*GOOD[:2]), FormatError),
        (crafted(*GOOD, ("more", b"")), FormatError),
        (crafted(GOOD[0], GOOD[0], GOOD[1]), FormatError),
        (crafted(GOOD[1], GOOD[0], GOOD[2]), FormatError),
        (crafted(("../forms/a.pdf", b"a" * 700), *GOOD[1:]), FormatError),
        (crafted(("/forms/a.pdf", b"a" * 700), *GOOD[1:]), FormatError),
        (crafted((GOOD[0][0], b"a" * 701), *GOOD[1:]), VerificationError),
        (crafted((GOOD[0][0], b"b" * 700), *GOOD[1:]), VerificationError),
        (members(), FormatError),
        (members(("manifest.json", b"{}")), FormatError),
        (members(("submission.bin", b"")), FormatError),
        (members(("submission.bin", bytes(5_000))), FormatError),
        (members(("submission.bin", filing({})[0].encode())), FormatError),
        (members(("submission.bin", filing({})[0].encode()), ("x", b"")), FormatError),
        (
            members(
                ("submission.bin", filing({})[0].encode()),
                ("manifest.json", filing(CONTENTS)[1].encode()),
            ),
            VerificationError,
        ),
        (crafted(*GOOD)[:-1024], FormatError),
    ],
)
def test_whatever_is_not_in_the_manifest_is_refused(data: bytes, error: type[BistroError]) -> None:
    """Missing, extra, twice, out of order, elsewhere, of another size or content."""
    with pytest.raises(error):
        read(data)


def test_a_refused_member_gives_out_no_byte() -> None:
    """Its name and size are judged before anything could be written."""
    reader = ArchiveReader(files_limit=10, size_limit=1_000_000)
    data = crafted(("../../etc/passwd", b"x" * 700))
    with pytest.raises(FormatError):
        reader.feed(data)
    events = ArchiveReader(files_limit=10, size_limit=10**6).feed(data[: 4 * 512])
    assert not any(isinstance(event, FileStart | FileData) for event in events)


def test_the_header_is_known_even_if_what_follows_is_broken() -> None:
    """A filing with a good header and a bad manifest is rejected, not void."""
    signed, _ = filing(CONTENTS)
    reader = ArchiveReader(files_limit=10, size_limit=10**6)
    assert reader.signed is None
    with pytest.raises(VerificationError):
        reader.feed(members(("submission.bin", signed.encode()), ("manifest.json", b"{}")))
    assert reader.signed == signed


def test_an_unreadable_manifest_is_malformed() -> None:
    """Its hash may be right and its form wrong."""
    junk = b'{"files":[]}'
    signed = sign_header(make_header(manifest_sha256=sha256(junk)))
    with pytest.raises(FormatError, match="manifest"):
        read(members(("submission.bin", signed.encode()), ("manifest.json", junk)))


def test_limits_of_the_terms_hold() -> None:
    """Numbers and bytes of files, judged by the manifest before the first of them."""
    with pytest.raises(LimitExceededError, match="at most 2 files, found 3"):
        read(pack(CONTENTS), files_limit=2)
    with pytest.raises(LimitExceededError, match="at most 1899 bytes, found 1900"):
        read(pack(CONTENTS), size_limit=1_899)
    read(pack(CONTENTS), files_limit=3, size_limit=1_900)


def test_a_manifest_longer_than_its_files_need_is_refused_before_it_is_read() -> None:
    """Terms for one file leave no room for a manifest of megabytes."""
    data = members(("submission.bin", filing({})[0].encode()), ("manifest.json", bytes(532_481)))
    with pytest.raises(LimitExceededError, match="at most 532480 bytes for 1 files, found 532481"):
        read(data[: 3 * 512], files_limit=1)
    with pytest.raises(VerificationError):
        read(data, files_limit=2)


def test_a_withdrawal_has_no_files() -> None:
    """It takes something back and hands nothing in."""
    read(pack({}, kind="withdraw", previous=bytes(32)))
    with pytest.raises(FormatError, match="withdrawal"):
        read(pack(CONTENTS, kind="withdraw", previous=bytes(32)))


@given(st.integers(0, 10_000), st.integers(1, 255), st.integers(1, 2_000))
def test_a_changed_archive_never_passes(at: int, difference: int, chunk_size: int) -> None:
    """Every byte is bound: by the form, the header's hash or the manifest's hashes."""
    data = pack({"a": b"some content", "ä": b"more"})
    at %= len(data)
    spoilt = data[:at] + bytes([data[at] ^ difference]) + data[at + 1 :]
    try:
        events = read(spoilt, chunk_size=chunk_size)
    except BistroError:
        return
    # What is left is submission.bin, which commitment and signature bind: see judge_header.
    original = read(data)
    assert events[0] != original[0]
    assert [e for e in events if isinstance(e, FileEnd)] == [
        e for e in original if isinstance(e, FileEnd)
    ]
