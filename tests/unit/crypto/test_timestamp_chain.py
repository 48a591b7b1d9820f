"""Who vouches for a token: the way from its signer to a certificate that one knows."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from bistro.crypto.digest import sha256
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp.chain import (
    MAX_CERTIFICATE_SIZE,
    chain_to,
    fingerprints,
    load_trusted,
    subject_of,
    verify_chained,
)
from bistro.errors import FormatError, VerificationError
from bistro.instant import UnixMillis
from bistro_server.services.authority import Authority
from tests.support.clocks import NOON
from tests.support.timestamps import authority, der_of, issued, stamp

DIGEST = sha256(b"checkpoint")
KEY = certificates.generate_key()
BOUGHT = Authority(KEY, issued(KEY, now=NOON))
OWN, ROOT = der_of(BOUGHT.chain)
(SELF_MADE,) = der_of(authority().chain)


@pytest.mark.parametrize("with_certificates", [True, False])
def test_the_signers_own_certificate_may_be_the_one_that_is_trusted(
    *, with_certificates: bool
) -> None:
    """Whether the token brings it along or not."""
    token = stamp(BOUGHT, DIGEST, with_certificates=with_certificates)
    assert chain_to(token, (SELF_MADE, OWN)) == (OWN,)
    assert verify_chained(token, (OWN,)).digest == DIGEST


def test_a_chain_leads_from_the_token_to_whom_one_trusts() -> None:
    """The token brings the lower certificate along."""
    token = stamp(BOUGHT, DIGEST)
    assert chain_to(token, (ROOT,)) == (OWN, ROOT)
    assert verify_chained(token, (OWN, ROOT)).time == NOON
    assert fingerprints((OWN, ROOT)) == (sha256(OWN), sha256(ROOT))


def test_without_a_way_there_is_no_chain() -> None:
    """Another issuer of the same name, or nothing that leads there."""
    stranger = der_of(issued(KEY, now=NOON))[1]
    for trusted in ((stranger,), (SELF_MADE,)):
        with pytest.raises(VerificationError, match="no certificate leads"):
            chain_to(stamp(BOUGHT, DIGEST), trusted)
    with pytest.raises(VerificationError, match="no certificate leads"):
        chain_to(stamp(BOUGHT, DIGEST, with_certificates=False), (ROOT,))


def test_an_issuer_whose_time_was_over_vouches_for_nothing() -> None:
    """Its key may have been anybody's by then; the lower certificate may well last longer."""
    key = certificates.generate_key()
    chain = issued(key, now=NOON, days=60, root_days=30)
    token = stamp(Authority(key, chain), DIGEST, time=UnixMillis(NOON + 31 * 86_400_000))
    with pytest.raises(VerificationError, match=r"Root of Example.*not valid at that time"):
        verify_chained(token, der_of(chain))


def test_trusted_certificates_are_read_from_either_form() -> None:
    """PEM with several, DER with one; anything else is refused."""
    pem = certificates.encode_chain(BOUGHT.chain)
    assert load_trusted(pem) == (OWN, ROOT)
    assert load_trusted(OWN) == (OWN,)
    assert "Stamps of Example" in subject_of(OWN)
    for noise in (b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\n"):
        with pytest.raises(FormatError, match="certificates in PEM"):
            load_trusted(noise)


def test_what_is_no_certificate_is_malformed() -> None:
    """Also one that evidence has no room for."""
    token = stamp(BOUGHT, DIGEST)
    for chain in ((b"nonsense",), (OWN, b""), (bytes(MAX_CERTIFICATE_SIZE + 1),)):
        with pytest.raises(FormatError):
            verify_chained(token, chain)
    assert BOUGHT.own.public_bytes(Encoding.DER) == OWN
