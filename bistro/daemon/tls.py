"""The TLS context of a daemon.

Source: docs/spec/api.md, rules for all routes.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from bistro.errors import SettingsError


def server_context(certificate: Path | str, key: Path | str | None) -> ssl.SSLContext:
    """What serves TLS 1.2 and later with a certificate.

    Args:
        certificate: PEM file with the chain.
        key: PEM file with the private key; ``None``: in the same file.

    Raises:
        SettingsError: Certificate or key cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as exc:  # ssl.SSLError is one
        raise SettingsError(
            f"TLS certificate {certificate}, key {key}: {exc.strerror or exc}",
            hint="correct certificate_path and key_path in [http]",
        ) from exc
    return context
