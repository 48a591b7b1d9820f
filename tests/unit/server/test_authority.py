"""The files of the time-stamping authority: whatever fails, a key and its certificate are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID

from bistro.crypto.timestamp import certificate as certificates
from bistro.errors import FormatError, SettingsError, StorageError, VerificationError
from bistro.instant import UnixMillis
from bistro_server.services.authority import (
    Authority,
    AuthorityFiles,
    import_authority,
    make_authority,
    renew_authority,
)
from bistro_server.services.checkup import Advice, describe_authority
from bistro_server.services.folder import ServerFolder
from tests.support.clocks import NOON, ManualClock
from tests.support.disks import FaultyDisk, How, KilledError
from tests.support.timestamps import NAME, authority, issued

DAY_MS = 86_400_000


def load(folder: ServerFolder) -> Authority:
    """What a server that starts now finds."""
    found = AuthorityFiles.of(folder, None, None).load()
    assert found is not None
    certificates.require_pair(found.key, found.own)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    """One with key and certificate."""
    made = ServerFolder(tmp_path)
    made.keys.mkdir()
    make_authority(made, name=NAME, now=NOON)
    return made


def test_what_init_makes_is_loaded(folder: ServerFolder) -> None:
    """The key is for its owner only."""
    load(folder)
    assert folder.tsa_key.stat().st_mode & 0o777 == 0o600
    assert b"BEGIN PRIVATE KEY" in folder.tsa_key.read_bytes()


def test_files_that_do_not_fit_are_refused(folder: ServerFolder, tmp_path: Path) -> None:
    """A key without certificate, a certificate of another key, a missing file of the settings."""
    other = tmp_path / "other.crt"
    other.write_bytes(certificates.encode_chain(authority().chain))
    with pytest.raises(SettingsError, match="not that of the time-stamp key"):
        AuthorityFiles.of(folder, folder.tsa_key, other).load()
    with pytest.raises(SettingsError, match="found none"):
        AuthorityFiles.of(folder, tmp_path / "gone", other).load()
    with pytest.raises(SettingsError, match="expected certificates in PEM"):
        AuthorityFiles.of(folder, folder.tsa_key, folder.tsa_key).load()
    folder.tsa_certificate.unlink()
    with pytest.raises(SettingsError, match="time-stamp certificate"):
        AuthorityFiles.of(folder, None, None).load()


def test_doctor_is_told_until_when_the_certificate_is_valid() -> None:
    """30 days before its end it is time to act; after it nothing is stamped."""
    assert "valid until 2036-11-21" in str(describe_authority(authority(), ManualClock()))
    for days in (certificates.VALIDITY_DAYS - 29, certificates.VALIDITY_DAYS - 1):
        soon = describe_authority(authority(), ManualClock(UnixMillis(NOON + days * DAY_MS)))
        assert isinstance(soon, Advice)
        assert "tsa renew" in soon.hint
    for days in (-1, certificates.VALIDITY_DAYS + 1):
        with pytest.raises(SettingsError, match="nothing is stamped now"):
            describe_authority(authority(), ManualClock(UnixMillis(NOON + days * DAY_MS)))


@pytest.mark.parametrize("with_new_key", [False, True])
def test_a_renewed_certificate_is_valid_for_ten_years_more(
    folder: ServerFolder, *, with_new_key: bool
) -> None:
    """For the same key, unless a new one is asked for; no other file is left."""
    before, now = load(folder), UnixMillis(NOON + 400 * DAY_MS)
    renewed = renew_authority(folder, name=NAME, now=now, with_new_key=with_new_key)
    found = load(folder)
    assert found.chain == renewed.chain != before.chain
    same_key = found.key.public_key() == before.key.public_key()
    assert same_key is not with_new_key
    assert certificates.validity(found.own)[0] == now
    assert folder.tsa_key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.keys.iterdir()] == ["tsa.key"]


def test_a_certificate_that_was_issued_for_the_key_is_taken(folder: ServerFolder) -> None:
    """With those above it; the key stays."""
    before = load(folder)
    chain = issued(before.key, now=NOON)
    import_authority(folder, chain=certificates.encode_chain(chain), key=None, now=NOON)
    assert load(folder).chain == chain


def test_a_certificate_comes_with_its_key(folder: ServerFolder) -> None:
    """Both are replaced, also where there was nothing before."""
    key = certificates.generate_key()
    chain = certificates.encode_chain(issued(key, now=NOON))
    folder.tsa_key.unlink()
    folder.tsa_certificate.unlink()
    import_authority(folder, chain=chain, key=certificates.encode_key(key), now=NOON)
    assert load(folder).key.public_key() == key.public_key()


def other_purpose(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate for something else besides time stamps."""
    own = certificates.make_certificate(key, name=NAME, now=NOON)
    purposes = [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.SERVER_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(own.subject)
        .issuer_name(own.issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(own.not_valid_before_utc)
        .not_valid_after(own.not_valid_after_utc)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=True)
    )
    return certificates.encode_chain((builder.sign(key, SHA256()),))


REFUSED: dict[str, tuple[Callable[[Authority], bytes], str]] = {
    "another key": (
        lambda _: certificates.encode_chain(issued(authority().key, now=NOON)),
        "not that of the time-stamp key",
    ),
    "another purpose": (lambda found: other_purpose(found.key), "timeStamping alone"),
    "its time is over": (
        lambda found: certificates.encode_chain(
            issued(found.key, now=UnixMillis(NOON - 40 * DAY_MS))
        ),
        "now it is",
    ),
    "its time will come": (
        lambda found: certificates.encode_chain(
            issued(found.key, now=UnixMillis(NOON + 40 * DAY_MS))
        ),
        "now it is",
    ),
    "upside down": (
        lambda found: certificates.encode_chain(issued(found.key, now=NOON)[::-1]),
        "to have issued certificate 1",
    ),
    "of another issuer": (
        lambda found: certificates.encode_chain(
            (issued(found.key, now=NOON)[0], issued(found.key, now=NOON)[1])
        ),
        "to have issued certificate 1",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_certificate_that_would_not_do_changes_nothing(folder: ServerFolder, fault: str) -> None:
    """Whatever is wrong is said before a file is touched."""
    before = load(folder)
    make, words = REFUSED[fault]
    with pytest.raises(VerificationError, match=words):
        import_authority(folder, chain=make(before), key=None, now=NOON)
    assert load(folder).chain == before.chain


def test_what_is_no_certificate_changes_nothing(folder: ServerFolder) -> None:
    """Nor what is no key."""
    before = load(folder)
    chain = certificates.encode_chain(issued(before.key, now=NOON))
    with pytest.raises(FormatError, match="certificates in PEM"):
        import_authority(folder, chain=b"nonsense", key=None, now=NOON)
    with pytest.raises(FormatError, match="unencrypted private key"):
        import_authority(folder, chain=chain, key=chain, now=NOON)
    assert load(folder).chain == before.chain


def test_without_a_key_there_is_nothing_to_renew(tmp_path: Path) -> None:
    """The message says how to get one."""
    with pytest.raises(SettingsError, match="found none"):
        renew_authority(ServerFolder(tmp_path), name=NAME, now=NOON)


def renew(folder: ServerFolder, **more: Any) -> Authority:
    return renew_authority(folder, name=NAME, now=NOON, with_new_key=True, **more)


@pytest.mark.parametrize("how", ["not-stored", "stored", "kill"])
def test_a_renewal_that_fails_anywhere_leaves_a_pair(tmp_path: Path, how: How) -> None:
    """The old or the new one; repeating it works, and so does what was there until then."""
    whole = FaultyDisk()
    base = ServerFolder(tmp_path / "whole")
    base.keys.mkdir(parents=True)
    make_authority(base, name=NAME, now=NOON)
    renew(base, disk=whole)
    assert len(whole.calls) > 8
    for at in range(len(whole.calls)):
        folder = ServerFolder(tmp_path / f"{how}-{at}")
        folder.keys.mkdir(parents=True)
        make_authority(folder, name=NAME, now=NOON)
        before, disk = load(folder), FaultyDisk(at=at, how=how)
        with pytest.raises((StorageError, KilledError)):
            renew(folder, disk=disk)
        after = load(folder)
        is_old = after.chain == before.chain
        assert is_old == (after.key.public_key() == before.key.public_key())
        again = renew(folder)
        assert load(folder).chain == again.chain


def test_a_new_key_that_is_not_at_its_place_yet_survives_a_second_failure(tmp_path: Path) -> None:
    """It is put there before the next one is written where it lay."""
    folder = ServerFolder(tmp_path)
    folder.keys.mkdir()
    make_authority(folder, name=NAME, now=NOON)
    whole = FaultyDisk()
    renew(folder, disk=whole)
    last_rename = len(whole.calls) - 1 - whole.calls[::-1].index("rename")
    with pytest.raises(KilledError):
        renew(folder, disk=FaultyDisk(at=last_rename, how="kill"))
    assert folder.tsa_next_key.exists()
    for at in range(len(whole.calls)):
        with pytest.raises(KilledError):
            renew(folder, disk=FaultyDisk(at=at, how="kill"))
        load(folder)
