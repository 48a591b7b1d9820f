"""Opening what nobody should have sent: each has its reason, and harms nobody else."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.errors import FormatError, StorageError
from bistro.wire.manifest import File, Manifest
from tests.support.world import Filing, World, archive_of, world


async def test_a_replacement_that_cannot_be_unpacked_does_not_count(tmp_path: Path) -> None:
    """The submission before it stands again, and is unpacked."""
    async with world(tmp_path) as found:
        first = await found.submit()
        bad = await found.submit({"b.txt": b"x"}, nonce="2", archive=_cut_short(found, "2"))
        await found.collect_and_open()
        assert found.outcome(bad) == ("rejected", ["malformed"])
        assert found.outcome(first) == ("opened", [])
        assert (found.inbox / first.commitment.hex() / "files").is_dir()
        assert not (found.inbox / bad.commitment.hex()).exists()


def _cut_short(found: World, nonce: str) -> bytes:
    filing = found.seal({"b.txt": b"x"}, nonce=nonce)
    return archive_of(filing.signed, filing.manifest, {"b.txt": b"x"})[:-512]


def _other_bytes(found: World) -> Filing:
    filing = found.seal({"a.txt": b"right"})
    archive = archive_of(filing.signed, filing.manifest, {"a.txt": b"right"})
    return found.seal({"a.txt": b"right"}, archive=archive.replace(b"right", b"wrong"))


def _other_tar(found: World) -> Filing:
    """An archive with a link in it, after a genuine header and manifest."""
    filing = found.seal({"a.txt": b"x"})
    start = archive_of(filing.signed, filing.manifest, {"a.txt": b"x"})[: -1_024 - 1_024]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return found.seal({"a.txt": b"x"}, archive=start + buffer.getvalue())


BAD: dict[str, tuple[Callable[[World], Filing], tuple[str, list[str]]]] = {
    "another header": (
        lambda found: found.seal(header_leaf=hashlib.sha256(b"other").digest()),
        ("rejected", ["header-mismatch"]),
    ),
    "a forged signature": (
        lambda found: found.seal(signature=bytes(63) + b"\1"),
        ("rejected", ["signature"]),
    ),
    "terms of nowhere": (
        lambda found: found.seal(terms_hash=bytes(32)),
        ("rejected", ["unknown-terms"]),
    ),
    "another manifest": (
        lambda found: found.seal({"a": b"x"}, archive=_with_manifest_of(found, {"b": b"x"})),
        ("rejected", ["manifest-mismatch"]),
    ),
    "other bytes": (_other_bytes, ("rejected", ["manifest-mismatch"])),
    "a link": (_other_tar, ("rejected", ["malformed"])),
    "too many files": (
        lambda found: found.seal({f"{number}.txt": b"" for number in range(101)}),
        ("rejected", ["limit-exceeded"]),
    ),
    "no archive": (lambda found: found.seal(archive=bytes(2_000)), ("void", ["malformed"])),
    "no envelope": (
        lambda found: found.seal(envelope=b"just bytes" * 100),
        ("void", ["not-decryptable"]),
    ),
    "an altered envelope": (
        lambda found: found.seal(envelope=_altered(found.seal().envelope)),
        ("void", ["not-decryptable"]),
    ),
}


def _with_manifest_of(found: World, files: dict[str, bytes]) -> bytes:
    """An archive whose header names one manifest and that holds another."""
    signed = found.seal({"a": b"x"}).signed
    digest = hashlib.sha256(b"x").digest()
    manifest = Manifest((File("b", 1, "application/octet-stream", digest),))
    other = found.seal(files)
    archive = archive_of(other.signed, manifest, files)
    return archive.replace(other.signed.encode(), signed.encode())


def _altered(envelope: bytes) -> bytes:
    return envelope[:-40] + bytes([envelope[-40] ^ 1]) + envelope[-39:]


@pytest.mark.timeout(60)
async def test_whatever_is_wrong_has_its_outcome_and_harms_nobody(tmp_path: Path) -> None:
    """Hostile archives and envelopes end with a reason; a good filing beside them is opened."""
    async with world(tmp_path) as found:
        good = await found.submit()
        bad: dict[str, Filing] = {}
        for name, (make, _) in BAD.items():
            bad[name] = await found.staged(await found.ticket(make(found)), (0, 1))
        await found.collect_and_open()
        assert {name: found.outcome(filing) for name, filing in bad.items()} == {
            name: expected for name, (_, expected) in BAD.items()
        }
        assert found.outcome(good) == ("opened", [])
        assert not [path for path in found.inbox.iterdir() if path.name.startswith(".")]


async def test_names_stay_inside_the_folder(tmp_path: Path) -> None:
    """Every odd name that the manifest admits is a file below ``files``."""
    names = {"a/../b": b""}
    async with world(tmp_path) as found:
        with pytest.raises(FormatError, match="file path"):
            found.seal(names)
        odd = {"-rf": b"1", "~": b"2", "a b/.hidden": b"3", "x" * 255: b"4", "ü/%2e%2e/é": b"5"}
        filing = await found.submit(odd)
        await found.collect_and_open()
        place = found.inbox / filing.commitment.hex() / "files"
        assert {
            str(path.relative_to(place)): path.read_bytes()
            for path in place.rglob("*")
            if path.is_file()
        } == odd


async def test_an_envelope_that_changed_on_our_disk_is_not_held_against_its_filer(
    tmp_path: Path,
) -> None:
    """Opening stops and names the file; with the right bytes it goes on."""
    async with world(tmp_path) as found:
        filing = await found.submit()
        await found.collect()
        (path,) = found.site.call.folder.envelopes.glob("*/*.age")
        path.write_bytes(_altered(filing.envelope))
        found.pass_stage_by()
        with pytest.raises(StorageError, match="has changed on this disk"):
            await found.open()
        path.write_bytes(filing.envelope)
        assert (await found.open()).counts == {"opened": 1}
