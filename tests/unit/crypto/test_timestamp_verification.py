"""Tokens of other authorities: what holds is read, whatever was changed is found."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from bistro.clock import SystemClock
from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.request import (
    Failure,
    Query,
    Rejection,
    encode_query,
    parse_query,
)
from bistro.crypto.timestamp.token import TokenSigner, reject
from bistro.crypto.timestamp.verification import (
    MAX_TOKEN_SIZE,
    Stamp,
    token_of,
    verify_token,
)
from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis
from tests.support.clocks import NOON
from tests.support.timestamps import NAME, NONCES, POLICY, authority, nonce, serials, signer
from tests.support.tools import require_tool

DIGEST = sha256(b"checkpoint")
NONCE = nonce(b"\x00\x99" + bytes(8))
AFTER_1970 = st.integers(0, 2_000_000)

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def token(
    *,
    digest: bytes = DIGEST,
    asked: bytes = NONCE,
    time: UnixMillis = NOON,
    accuracy_ms: int = 7,
    maker: TokenSigner | None = None,
) -> bytes:
    """One of ours."""
    query = parse_query(encode_query(digest, nonce=asked))
    assert isinstance(query, Query)
    return token_of(
        (maker or signer()).grant(
            query, serial=serials().next(), time=time, accuracy_ms=accuracy_ms
        )
    )


@given(st.binary(min_size=32, max_size=32), NONCES, AFTER_1970, st.integers(1, 100_000))
def test_what_a_token_says_is_read(
    digest: bytes, asked: bytes, later_ms: int, accuracy_ms: int
) -> None:
    """Time, accuracy, imprint and nonce."""
    time = UnixMillis(NOON + later_ms)
    made = token(digest=digest, asked=asked, time=time, accuracy_ms=accuracy_ms)
    assert verify_token(made, authority().chain[0]) == Stamp(
        time, accuracy_ms, digest, asked, der.encode_object(POLICY)
    )


TOKEN = token()
STAMP = verify_token(TOKEN, authority().chain[0])


@given(st.data())
def test_a_changed_token_never_says_something_else(data: st.DataObject) -> None:
    """A change is found, or was in a part that says nothing."""
    at = data.draw(st.integers(0, len(TOKEN) - 1))
    changed = TOKEN[:at] + bytes([TOKEN[at] ^ data.draw(st.integers(1, 255))]) + TOKEN[at + 1 :]
    try:
        found = verify_token(changed, authority().chain[0])
    except (FormatError, VerificationError):
        return
    assert found == STAMP


@given(st.binary(max_size=200) | st.integers(0, len(TOKEN) - 1).map(lambda size: TOKEN[:size]))
def test_what_is_no_token_is_malformed(data: bytes) -> None:
    """Noise, and the beginning of a token."""
    with pytest.raises(FormatError):
        verify_token(data, authority().chain[0])
    with pytest.raises(FormatError):
        token_of(data)


def test_a_token_that_evidence_has_no_room_for_is_refused() -> None:
    """Before anything of it is read."""
    with pytest.raises(FormatError, match="at most"):
        verify_token(bytes(MAX_TOKEN_SIZE + 1), authority().chain[0])


def test_a_refusal_has_no_token() -> None:
    """Its status is named."""
    with pytest.raises(FormatError, match="status 2"):
        token_of(reject(Rejection(Failure.SYSTEM_FAILURE, "no")))


def test_a_token_of_another_authority_does_not_hold() -> None:
    """Whatever certificates it brings along: the one that is trusted decides."""
    key = certificates.generate_key()
    other = certificates.make_certificate(key, name=NAME, now=NOON)
    with pytest.raises(VerificationError, match="another certificate"):
        verify_token(TOKEN, other)


@pytest.mark.parametrize("days", [-1, certificates.VALIDITY_DAYS + 1])
def test_a_token_from_outside_the_certificates_time_does_not_hold(days: int) -> None:
    """Such a key may have been anybody's."""
    made = token(time=UnixMillis(NOON + days * 86_400_000))
    with pytest.raises(VerificationError, match="not valid at that time"):
        verify_token(made, authority().chain[0])


def test_a_query_is_one_that_we_would_grant() -> None:
    """Both sides of RFC 3161 understand each other."""
    query = parse_query(encode_query(DIGEST, nonce=NONCE))
    assert isinstance(query, Query)
    assert query.wants_certificate
    assert query.nonce == NONCE
    assert query.imprint.endswith(der.encode(der.OCTET_STRING, DIGEST))


@cache
def foreign(kind: str) -> tuple[Key, x509.Certificate]:
    """Key and certificate of an authority that is not ours."""
    key: Key
    if kind == "rsa":
        key = rsa.generate_private_key(65_537, 2_048)
    else:
        key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Foreign")])
    begins = datetime.fromtimestamp(SystemClock().now() / 1_000 - 3_600, UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0xFEED)
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=2))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, made


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["rsa", "p384"])
def test_tokens_of_openssl_hold(tmp_path: Path, kind: str, digest: str) -> None:
    """RSA and another curve, signed with each hash; seconds, milliseconds and microseconds."""
    key, certificate = foreign(kind)
    response = reply_of_openssl(tmp_path, key, certificate, digest)
    stamp = verify_token(token_of(response), certificate)
    assert (stamp.digest, stamp.nonce, stamp.accuracy_ms) == (DIGEST, NONCE, 1_501)
    assert abs(stamp.time - SystemClock().now()) < 60_000
    changed = response[:-1] + bytes([response[-1] ^ 1])
    with pytest.raises(VerificationError, match="signature"):
        verify_token(token_of(changed), certificate)


def reply_of_openssl(folder: Path, key: Key, certificate: x509.Certificate, digest: str) -> bytes:
    """What an ``openssl ts`` authority answers."""
    pem = serialization.Encoding.PEM
    files = {
        "key": key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        "own": certificate.public_bytes(pem),
        "serial": b"01",
        "tsq": encode_query(DIGEST, nonce=NONCE),
        "cnf": (
            f"[tsa]\ndefault_tsa = here\n[here]\nserial = {folder}/serial\n"
            f"default_policy = {POLICY}\ndigests = sha256\nsigner_digest = {digest}\n"
            "accuracy = secs:1, millisecs:500, microsecs:100\nordering = yes\ntsa_name = yes\n"
            "ess_cert_id_alg = sha256\nclock_precision_digits = 6\n"
        ).encode(),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    arguments = ("-queryfile", "tsq", "-inkey", "key", "-signer", "own", "-out", "tsr")
    subprocess.run(
        [require_tool("openssl"), "ts", "-reply", "-config", "cnf", *arguments],
        cwd=folder,
        capture_output=True,
        check=True,
        timeout=25,
    )
    return (folder / "tsr").read_bytes()
