"""The TLS context of a daemon, and the certificate that it shows: the newest in its files.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from bistro.daemon.renewal import Renewal
from bistro.errors import SettingsError

_HINT = "correct certificate_path and key_path in [http]"


class _Identity(NamedTuple):
    """A certificate and what shows it."""

    context: ssl.SSLContext
    certificate: x509.Certificate


class ServerTls:
    """What serves TLS 1.2 and later with the newest certificate in a file.

    Args:
        certificate: PEM file with the chain.
        key: PEM file with the private key.

    Attributes:
        context: For listeners.

    Raises:
        SettingsError: Certificate or key cannot be read, or do not belong together.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = certificate, key
        self._renewal = Renewal(self._files, self._load)
        self._newest = self._load()
        self.context = self._newest.context
        # Listeners keep the context that they were given, so it hands on to the newest. To load
        # the files into that one could leave it with a certificate and the key of another.
        self.context.sni_callback = self._choose

    @property
    def certificate(self) -> x509.Certificate:
        """The one that is shown now."""
        return self._newest.certificate

    def _load(self) -> _Identity:
        certificate, key = self._files
        context = _server_context(certificate, key)
        try:
            return _Identity(context, x509.load_pem_x509_certificate(certificate.read_bytes()))
        except (OSError, ValueError) as exc:
            raise SettingsError(f"TLS certificate {certificate}: {exc}", hint=_HINT) from exc

    async def run(self) -> None:
        """Show what the files are replaced by, until cancelled; run it beside the listeners."""
        await self._renewal.run(self._take)

    async def renew(self) -> bool:
        """Show what they were replaced by before the last call; whether there was any.

        Raises:
            SettingsError: It cannot be used, as in the constructor; said once.
        """
        found = await self._renewal.step()
        if found is not None:
            self._take(found)
        return found is not None

    def _take(self, found: _Identity) -> None:
        self._newest = found

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._newest.context


def _server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as exc:  # ssl.SSLError is one
        raise SettingsError(
            f"TLS certificate {certificate}, key {key}: {exc.strerror or exc}", hint=_HINT
        ) from exc
    return context
