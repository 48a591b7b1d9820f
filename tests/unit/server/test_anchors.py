"""Anchors on disk, and whom they are taken from: nothing is kept that does not hold."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.errors import FormatError, SettingsError, StorageError, VerificationError
from bistro.instant import UnixMillis
from bistro.wire.anchor import Anchor, StampedEntry, Timestamp, stamped_digest
from bistro.wire.entry import TicketEntry
from bistro_server.services.authority import Authority
from bistro_server.services.notary import Notary, load_notary_certificates
from bistro_server.store.anchors import AnchorFiles
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.promises import MemoryLedger
from tests.support.strategies import note_key
from tests.support.timestamps import POLICY, authority, der_of, issued, stamp

DIGEST = sha256(b"checkpoint")
OWN = der_of(authority().chain)


def anchor(size: int) -> Anchor:
    """A stamp over a log of so many entries."""
    ledger = MemoryLedger(note_key("permits.example/spring"))
    for number in range(size):
        ledger.append(TicketEntry(origin=ledger.origin, time=NOON, digest=sha256(b"%d" % number)))
    note = ledger.checkpoint_note()
    return Anchor(note, Timestamp(stamp(authority(), stamped_digest(note)), OWN))


def test_an_anchor_is_read_as_it_was_written(tmp_path: Path) -> None:
    """By the same process and by the next; the earliest that covers an entry counts."""
    files = AnchorFiles(tmp_path / "anchors")
    assert files.newest() is None
    assert files.covering(0) is None
    for size in (9, 3, 5):
        files.write(anchor(size))
    for one in (files, AnchorFiles(tmp_path / "anchors")):
        assert one.sizes() == [3, 5, 9]
        assert one.newest() == anchor_of(files, 9)
        for index, size in ((0, 3), (2, 3), (3, 5), (4, 5), (5, 9), (8, 9)):
            assert one.covering(index) == anchor_of(files, size)
        assert one.covering(9) is None


def anchor_of(files: AnchorFiles, size: int) -> Anchor:
    found = files.covering(size - 1)
    assert found is not None
    assert found.checkpoint.size == size
    return found


def test_an_anchor_is_never_replaced(tmp_path: Path) -> None:
    """Whoever was given one is shown the same again."""
    files = AnchorFiles(tmp_path)
    first = anchor(3)
    files.write(first)
    files.write(anchor(3))
    assert files.newest() == first


def test_other_names_in_the_folder_are_passed_over(tmp_path: Path) -> None:
    """What was never finished, and what somebody put there."""
    for name in (".3.json.abc.tmp", "03.json", "x.json", "3.json.bak"):
        (tmp_path / name).write_bytes(b"")
    assert AnchorFiles(tmp_path).sizes() == []


@pytest.mark.parametrize("content", [b"", b"nonsense", anchor(4).encode()])
def test_a_damaged_anchor_is_named(tmp_path: Path, content: bytes) -> None:
    """Also one that lies under the name of another."""
    (tmp_path / "3.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"3\.json"):
        AnchorFiles(tmp_path).newest()


@pytest.mark.parametrize("how", ["not-stored", "stored", "kill"])
def test_an_anchor_whose_writing_failed_is_there_or_not(tmp_path: Path, how: How) -> None:
    """Whole in either case, and not shown by who could not write it; writing again works."""
    whole = FaultyDisk()
    AnchorFiles(tmp_path / "whole" / "anchors", disk=whole).write(anchor(3))
    assert len(whole.calls) > 4
    for at in range(len(whole.calls)):
        folder = tmp_path / f"{how}-{at}" / "anchors"
        failing = AnchorFiles(folder, disk=FaultyDisk(at=at, how=how))
        with pytest.raises((StorageError, KilledError)):
            failing.write(anchor(3))
        assert failing.sizes() == []
        again = AnchorFiles(folder)
        again.newest()
        again.write(anchor(3))
        assert again.sizes() == AnchorFiles(folder).sizes() == [3]


def test_documents_have_one_encoding() -> None:
    """Another one is malformed."""
    one = anchor(2)
    assert Anchor.decode(one.encode()) == one
    entry = StampedEntry("proof", (one.timestamp,))
    assert StampedEntry.decode(entry.encode()) == entry
    for decode, data in ((Anchor.decode, one.encode()), (StampedEntry.decode, entry.encode())):
        for wrong in (data + b"\n", data[:-1], data.replace(b'{"', b'{"a":1,"', 1), b"{}"):
            with pytest.raises(FormatError):
                decode(wrong)
    note = one.encode().replace(b"permits.example/spring", b"", 1)
    with pytest.raises(FormatError):
        Anchor.decode(note)


class Scripted:
    """An authority in memory that answers as a test says."""

    def __init__(self, answer: Callable[[bytes, bytes], bytes]) -> None:
        self._answer = answer

    async def ask(self, digest: bytes, *, nonce: bytes) -> bytes:
        return self._answer(digest, nonce)


def notary(
    answer: Callable[[bytes, bytes], bytes],
    *,
    trusted: tuple[bytes, ...] = OWN,
    policy: bytes | None = None,
) -> Notary:
    return Notary(
        asker=Scripted(answer),
        trusted=trusted,
        policy=policy,
        clock=ManualClock(),
        random_bytes=secrets.token_bytes,
    )


def honest(digest: bytes, nonce: bytes) -> bytes:
    return stamp(authority(), digest, nonce=nonce)


async def test_a_stamp_that_holds_is_taken_with_its_chain() -> None:
    """Up to the certificate that is trusted, which may be the issuer's."""
    found = await notary(lambda digest, nonce: stamp(authority(), digest, nonce=nonce)).stamp(
        DIGEST
    )
    assert found.certificates == OWN
    key = certificates.generate_key()
    chain = issued(key, now=NOON)
    maker = Authority(key, chain)
    own, root = der_of(chain)
    other = notary(lambda digest, nonce: stamp(maker, digest, nonce=nonce), trusted=(root,))
    assert (await other.try_out()).certificates == (own, root)
    named = notary(honest, policy=der.encode_object(POLICY))
    assert (await named.stamp(DIGEST)).certificates == OWN


def stranger(digest: bytes, nonce: bytes) -> bytes:
    key = certificates.generate_key()
    own = certificates.make_certificate(key, name="other.example", now=NOON)
    return stamp(Authority(key, (own,)), digest, nonce=nonce)


def off(ms: int) -> Callable[[bytes, bytes], bytes]:
    time = UnixMillis(NOON + ms)
    return lambda digest, nonce: stamp(authority(), digest, nonce=nonce, time=time)


REFUSED: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "another hash": (
        lambda _, nonce: stamp(authority(), bytes(32), nonce=nonce),
        "another request",
    ),
    "an old answer": (lambda digest, _: stamp(authority(), digest), "another request"),
    "another nonce": (
        lambda digest, _: stamp(authority(), digest, nonce=b"\x02\x01\x05"),
        "another request",
    ),
    "a stranger": (stranger, "no certificate leads"),
    "a slow clock": (off(-60_001), "off ours"),
    "a fast clock": (off(60_001), "off ours"),
}


@pytest.mark.parametrize("fault", REFUSED)
async def test_a_stamp_that_does_not_hold_is_refused(fault: str) -> None:
    """Whatever it is that the authority answers."""
    answer, words = REFUSED[fault]
    with pytest.raises(VerificationError, match=words):
        await notary(answer).stamp(DIGEST)


async def test_a_stamp_under_another_policy_is_refused() -> None:
    """Where the settings ask for one."""
    wanted = notary(honest, policy=der.encode_object("1.2.3"))
    with pytest.raises(VerificationError, match="another policy"):
        await wanted.stamp(DIGEST)


@pytest.mark.parametrize("ms", [-60_000, 60_000])
async def test_clocks_may_differ_by_a_minute(ms: int) -> None:
    """More would make evidence that contradicts itself."""
    assert (await notary(off(ms)).stamp(DIGEST)).certificates == OWN


def test_a_file_without_certificates_is_an_error_of_the_settings(tmp_path: Path) -> None:
    """So is one that is not there."""
    with pytest.raises(SettingsError, match="found none"):
        load_notary_certificates(tmp_path / "gone.pem")
    path = tmp_path / "ca.pem"
    path.write_bytes(b"nonsense")
    with pytest.raises(SettingsError, match="certificates in PEM"):
        load_notary_certificates(path)
    path.write_bytes(certificates.encode_chain(authority().chain))
    assert load_notary_certificates(path) == OWN
