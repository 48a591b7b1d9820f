"""The commands about time stamps: certificates shown, renewed, imported; authorities named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography import x509

from bistro.clock import SystemClock
from bistro.crypto.timestamp import certificate as certificates
from bistro_server.services.calls import CallRegistry
from bistro_server.services.folder import ServerFolder
from tests.support.shell import Shell, create
from tests.support.timestamps import authority, issued


def test_a_certificate_of_time_stamps_is_shown_and_renewed(root: Path, shell: Shell) -> None:
    """Doctor shows the same fingerprint, and warns before the end."""
    assert shell("tsa", "show", "--dir", root, "--json") == 0
    before = shell.json
    assert before["subject"] == before["issuer"]
    assert shell("tsa", "renew", "--dir", root) == 0
    assert "in a few seconds" in shell.err
    assert shell("tsa", "renew", "--new-key", "--dir", root, "--json") == 0
    after = shell.json
    assert after["sha256"] != before["sha256"]
    assert shell("tsa", "show", "--dir", root) == 0
    assert after["sha256"] in shell.out
    assert "(3651 days)" in shell.out
    assert shell("doctor", "--dir", root) == 0
    assert after["sha256"] in shell.out


def test_a_real_certificate_is_asked_for_and_imported(root: Path, shell: Shell) -> None:
    """The request is for the key that is here, and so is what an issuer makes of it."""
    folder = ServerFolder(root)
    assert shell("tsa", "request", "--dir", root) == 0
    request = x509.load_pem_x509_csr(shell.out.encode())
    key = certificates.decode_key(folder.tsa_key.read_bytes())
    assert request.is_signature_valid
    assert request.public_key() == key.public_key()
    chain = root / "bought.pem"
    chain.write_bytes(certificates.encode_chain(issued(key, now=SystemClock().now())))
    assert shell("tsa", "import", str(chain), "--dir", root, "--json") == 0
    assert shell.json["certificates"] == 2
    assert "Root of Example" in shell.json["issuer"]
    assert shell("doctor", "--dir", root) == 0
    assert "warn    RFC 3161" in shell.out
    chain.write_bytes(certificates.encode_chain(authority().chain))
    assert shell("tsa", "import", str(chain), "--dir", root) == 4
    assert "not that of the time-stamp key" in shell.err


def test_files_that_the_settings_name_are_left_to_their_owner(root: Path, shell: Shell) -> None:
    """They are shown, and not replaced; nothing is shown where there is nothing."""
    folder = ServerFolder(root)
    text = folder.settings_file.read_text(encoding="utf-8")
    paths = 'key_path = "keys/tsa.key"\ncertificate_path = "tsa.crt"\n'
    changed = text.replace("[timestamps]\n", f"[timestamps]\n{paths}")
    folder.settings_file.write_text(changed, encoding="utf-8")
    assert shell("tsa", "show", "--dir", root) == 0
    assert shell("tsa", "renew", "--dir", root) == 2
    assert "replace that file and its key yourself" in shell.err
    folder.settings_file.write_text(text, encoding="utf-8")
    folder.tsa_key.unlink()
    folder.tsa_certificate.unlink()
    assert shell("tsa", "show", "--dir", root) == 2
    assert "tsa import" in shell.err


def test_a_call_names_the_authority_that_stamps_its_log(
    root: Path, shell: Shell, monkeypatch: Any
) -> None:
    """Its certificate's hash and address stand in the terms; doctor fails where nobody answers."""
    monkeypatch.setenv("BISTRO_SERVER_ANCHORING__URL", "http://127.0.0.1:9/tsr")
    assert create(shell, root) == 2
    assert "given both or not at all" in shell.err
    monkeypatch.setenv("BISTRO_SERVER_ANCHORING__CERTIFICATE_PATH", str(root / "tsa.crt"))
    assert create(shell, root) == 0
    call = CallRegistry(ServerFolder(root)).load("spring")
    (named,) = call.terms.timestamping
    assert named.url == "http://127.0.0.1:9/tsr"
    assert shell("tsa", "show", "--dir", root, "--json") == 0
    assert named.certificate.hex() == shell.json["sha256"]
    assert shell("doctor", "--dir", root) == 5
    assert "FAILED  anchors" in shell.out
    for key, value, words in (("URL", "ftp://x", "base URL"), ("POLICY", "1", "object identifier")):
        monkeypatch.setenv(f"BISTRO_SERVER_ANCHORING__{key}", value)
        assert shell("doctor", "--dir", root) == 2
        assert words in shell.err
