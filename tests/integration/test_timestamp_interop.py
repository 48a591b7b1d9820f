"""Time stamps are understood by programs that are not ours: ``openssl ts``, ``rfc3161-client``.

Both ways: we grant what they ask, they verify what we grant, and an ``openssl ts`` authority
refuses the same requests for the same reasons.
"""

from __future__ import annotations

import functools
import re
import secrets
import subprocess
from pathlib import Path

import pytest
import rfc3161_client
from cryptography import x509
from rfc3161_client.errors import VerificationError as ForeignVerificationError

from bistro.clock import SystemClock
from bistro.crypto.timestamp import certificate as certificates
from bistro.crypto.timestamp import der
from bistro.crypto.timestamp.token import PREFIX_SIZE
from bistro.instant import UnixMillis
from bistro_server.services.authority import Authority
from bistro_server.services.timestamps import TimestampDesk
from tests.support.timestamps import (
    ALGORITHMS,
    EXTENSION,
    NAME,
    POLICY,
    Request,
    imprint,
    nonce,
)
from tests.support.timestamps import issued as issue
from tests.support.tools import require_tool

DATA = b"the filing of a filer\n"
NONCES = {
    "none": b"",
    "small": nonce(b"\x01"),
    "high bit": nonce(b"\x00\x80" + bytes(7)),
    "nine bytes": nonce(b"\x00\xff" + b"\xa5" * 7),
    "long": nonce(b"\x41" * 32),
    "zero": nonce(b"\x00"),
    "negative": nonce(b"\xa5" * 8),
}


@functools.cache
def self_made() -> Authority:
    """As ``init`` makes it, valid since an hour ago: foreign verifiers have their own clock."""
    key = certificates.generate_key()
    begins = UnixMillis(SystemClock().now() - 3_600_000)
    return Authority(key, (certificates.make_certificate(key, name=NAME, now=begins),))


@functools.cache
def issued() -> tuple[Authority, x509.Certificate]:
    """An authority under an issuer of certificates; and that issuer."""
    key = certificates.generate_key()
    own, root = issue(key, now=SystemClock().now())
    return Authority(key, (own, root)), root


def desk(authority: Authority | None = None) -> TimestampDesk:
    """A desk at the present time, whose clock is assumed to be right to 20 ms."""
    return TimestampDesk(
        authority or self_made(),
        SystemClock(20),
        policy=POLICY,
        error_limit_ms=60_000,
        randomness=secrets.token_bytes(PREFIX_SIZE),
        report=lambda _: None,
    )


class OpenSsl:
    """``openssl ts`` in a folder with the data, a request, a response and a trusted certificate."""

    def __init__(self, folder: Path) -> None:
        self._program = require_tool("openssl")
        self._folder = folder
        self._configuration = folder / "openssl.cnf"
        self._configuration.write_text(
            f"""
            [tsa]
            default_tsa = here
            [here]
            serial = {folder}/serial
            default_policy = {POLICY}
            digests = sha256, sha384, sha512
            signer_digest = sha256
            """,
            encoding="utf-8",
        )
        (folder / "serial").write_text("01", encoding="ascii")
        (folder / "data").write_bytes(DATA)

    def run(self, *arguments: str) -> str:
        """What it prints; it must succeed."""
        done = self._done(*arguments, "-config", str(self._configuration))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _done(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, "ts", *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=25,
        )

    def query(self, *options: str) -> bytes:
        """A request for the data."""
        self.run("-query", "-data", "data", "-out", "tsq", *options)
        return (self._folder / "tsq").read_bytes()

    def text(self, response: bytes) -> str:
        """How it reads a response."""
        (self._folder / "tsr").write_bytes(response)
        return self.run("-reply", "-in", "tsr", "-text")

    def verifies(
        self, request: bytes, response: bytes, *, trust: x509.Certificate, untrusted: bytes = b""
    ) -> bool:
        """Whether it accepts the token as an answer to the request."""
        for name, content in {
            "tsq": request,
            "tsr": response,
            "ca": certificates.encode_chain((trust,)),
            "others": untrusted,
        }.items():
            (self._folder / name).write_bytes(content)
        more = ("-untrusted", "others") if untrusted else ()
        files = ("-queryfile", "tsq", "-in", "tsr", "-CAfile", "ca")
        done = self._done("-verify", *files, *more)
        assert (done.returncode == 0) == ("Verification: OK" in done.stdout), done.stderr
        return done.returncode == 0

    def reply(self, request: bytes) -> str:
        """How an authority of its own, with our key and certificate, answers; as text."""
        (self._folder / "tsq").write_bytes(request)
        (self._folder / "key").write_bytes(certificates.encode_key(self_made().key))
        (self._folder / "own").write_bytes(certificates.encode_chain(self_made().chain))
        self.run("-reply", "-queryfile", "tsq", "-inkey", "key", "-signer", "own", "-out", "tsr")
        return self.run("-reply", "-in", "tsr", "-text")


@pytest.fixture
def openssl(tmp_path: Path) -> OpenSsl:
    return OpenSsl(tmp_path)


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize(
    "options",
    [("-cert",), (), ("-no_nonce",), ("-cert", "-tspolicy", POLICY)],
    ids=["certificate", "plain", "no nonce", "policy"],
)
def test_openssl_verifies_what_it_asked_for(
    openssl: OpenSsl, algorithm: str, options: tuple[str, ...]
) -> None:
    """With the certificate in the token or brought along."""
    request = openssl.query(f"-{algorithm}", *options)
    response = desk().answer(request)
    (own,) = self_made().chain
    untrusted = b"" if "-cert" in options else certificates.encode_chain((own,))
    assert openssl.verifies(request, response, trust=own, untrusted=untrusted)
    text = openssl.text(response)
    assert f"Policy OID: {POLICY}" in text
    assert f"Hash Algorithm: {algorithm}" in text
    assert "Accuracy: unspecified seconds, 0x15 millis, unspecified micros" in text


@pytest.mark.parametrize("size", NONCES)
def test_openssl_finds_its_nonce(openssl: OpenSsl, size: str) -> None:
    """Of any size, also where the first byte is a zero that the sign needs."""
    (own,) = self_made().chain
    request = Request(imprint=imprint(data=DATA), nonce=NONCES[size], flag=der.TRUE).encode()
    response = desk().answer(request)
    assert openssl.verifies(request, response, trust=own)
    other = Request(imprint=imprint(data=DATA), nonce=nonce(b"\x02"), flag=der.TRUE).encode()
    assert not openssl.verifies(other, response, trust=own)


def test_openssl_refuses_what_was_not_asked(openssl: OpenSsl) -> None:
    """Another imprint, a changed token, somebody else's certificate."""
    (own,) = self_made().chain
    request = Request(imprint=imprint(data=DATA), flag=der.TRUE).encode()
    response = desk().answer(request)
    other = Request(imprint=imprint(data=b"other"), flag=der.TRUE).encode()
    assert openssl.verifies(request, response, trust=own)
    assert not openssl.verifies(other, response, trust=own)
    changed = response[:-1] + bytes([response[-1] ^ 1])
    assert not openssl.verifies(request, changed, trust=own)
    assert not openssl.verifies(request, response, trust=issued()[1])


def test_a_chain_leads_to_the_issuer_one_trusts(openssl: OpenSsl) -> None:
    """The token carries what is needed between the two."""
    authority, root = issued()
    request = openssl.query("-sha256", "-cert")
    assert openssl.verifies(request, desk(authority).answer(request), trust=root)


REFUSED = {
    "version": Request(version=b"\x02\x01\x02"),
    "algorithm": Request(imprint=imprint("sha1", oid="1.3.14.3.2.26")),
    "parameters": Request(imprint=imprint(parameters=b"\x04\x00")),
    "digest": Request(imprint=imprint(digest=bytes(20))),
    "policy": Request(policy=der.encode_object("1.2.3.4")),
    "extension": Request(extensions=der.encode(0xA0, EXTENSION)),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_an_openssl_authority_refuses_for_the_same_reason(openssl: OpenSsl, fault: str) -> None:
    """Status and failure are those that clients know."""
    request = REFUSED[fault].encode()
    ours, theirs = openssl.text(desk().answer(request)), openssl.reply(request)
    for line in (r"^Status: .*$", r"^Failure info: .*$"):
        found = [re.findall(line, text, re.MULTILINE) for text in (ours, theirs)]
        assert found[0] == found[1] != []
    assert "Failure info: unspecified" not in ours


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("has_nonce", [True, False])
@pytest.mark.parametrize("with_certificate", [True, False])
def test_rfc3161_client_verifies_what_it_asked_for(
    algorithm: str, *, has_nonce: bool, with_certificate: bool
) -> None:
    """Down to nonce, policy and serial number."""
    hashes = rfc3161_client.base.HashAlgorithm
    request = (
        rfc3161_client.TimestampRequestBuilder()
        .data(DATA)
        .hash_algorithm(hashes.SHA256 if algorithm == "sha256" else hashes.SHA512)
        .nonce(nonce=has_nonce)
        .cert_request(cert_request=with_certificate)
        .build()
    )
    authority, root = issued()
    response = rfc3161_client.decode_timestamp_response(desk(authority).answer(request.as_bytes()))
    verifier = (
        rfc3161_client.VerifierBuilder.from_request(request)
        .add_root_certificate(root)
        .tsa_certificate(authority.chain[0])
        .policy_id(x509.ObjectIdentifier(POLICY))
        .build()
    )
    assert verifier.verify_message(response, DATA)
    assert response.tst_info.nonce == request.nonce
    assert response.tst_info.serial_number > 1 << 150
    assert response.tst_info.accuracy is not None
    assert response.tst_info.accuracy.millis == 21
    assert (len(response.signed_data.certificates) > 0) == with_certificate
    with pytest.raises(ForeignVerificationError):
        verifier.verify_message(response, b"other")


def test_rfc3161_client_reads_why_there_is_no_token() -> None:
    """A status, not a broken answer."""
    response = rfc3161_client.decode_timestamp_response(desk().answer(b"nonsense"))
    assert response.status == rfc3161_client.PKIStatus.REJECTION
