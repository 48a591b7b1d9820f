"""Certificates that are replaced while a daemon runs."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest
import trustme

from bistro.daemon.renewal import Renewal
from bistro.daemon.tls import ServerTls
from bistro.errors import SettingsError


def put(path: Path, data: bytes) -> None:
    """Replace a file as programs that renew certificates do."""
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").rename(path)


def shown(tls: ServerTls, *, name: str | None = "localhost") -> bytes:
    """The certificate, DER, that a client sees in a handshake."""
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(down, up, server_hostname=name)
    server = tls.context.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    found = client.getpeercert(binary_form=True)
    assert found is not None
    return found


async def test_a_renewed_certificate_is_shown_once_its_key_is_there(tmp_path: Path) -> None:
    """Half of a pair changes nothing and is said once; connections go on all the while."""
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    authority = trustme.CA()
    old, new = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    put(chain, old.cert_chain_pems[0].bytes())
    put(key, old.private_key_pem.bytes())
    tls = ServerTls(chain, key)
    first = shown(tls)
    assert (
        ssl.DER_cert_to_PEM_cert(first).strip() == old.cert_chain_pems[0].bytes().decode().strip()
    )
    assert not await tls.renew()

    put(chain, new.cert_chain_pems[0].bytes())
    assert not await tls.renew(), "it has just been seen, and may still change"
    with pytest.raises(SettingsError, match=r"chain\.pem"):
        await tls.renew()
    assert not await tls.renew(), "once said is enough"
    assert shown(tls) == first

    put(key, new.private_key_pem.bytes())
    assert not await tls.renew()
    assert await tls.renew()
    assert shown(tls) == shown(tls, name=None) != first
    assert not await tls.renew()


async def test_files_that_are_gone_change_nothing_until_they_are_back(tmp_path: Path) -> None:
    """What was read stays in use."""
    path = tmp_path / "file"

    def load() -> bytes:
        try:
            return path.read_bytes()
        except FileNotFoundError as exc:
            raise SettingsError("expected a file, found none") from exc

    path.write_bytes(b"first")
    renewal = Renewal((path,), load)
    path.unlink()
    assert not await renewal.step()
    with pytest.raises(SettingsError):
        await renewal.step()
    path.write_bytes(b"second")
    assert not await renewal.step()
    assert await renewal.step() == b"second"
    os.utime(path, ns=(1, 1))
    assert not await renewal.step()
    assert await renewal.step() == b"second"
