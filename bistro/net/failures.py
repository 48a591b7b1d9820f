"""Turns what can go wrong between two machines into ``UnavailableError``, in plain words.

Source: docs/spec/errors.md.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Iterator

import aiohttp

from bistro.errors import BistroError, UnavailableError

_LATER = "try again later"
_ADDRESS = "check the address and the network; if both are right, try again later"
_PROXY = "check HTTPS_PROXY and NO_PROXY, or this system's proxy settings"
_TRUST = "check the address, and this machine's clock and certificates"


@contextlib.contextmanager
def translated(peer: str) -> Iterator[None]:
    """Raise ``UnavailableError`` naming ``peer`` for whatever fails on the way to it.

    A total timeout is a plain ``TimeoutError`` and no ``aiohttp.ClientError``: both are named.
    What the source of a request's body raises (a file that cannot be read, say) is no failure
    of the peer and arrives unchanged.
    """
    try:
        yield
    except TimeoutError as exc:
        raise UnavailableError(f"{peer}: no answer in time", hint=_ADDRESS) from exc
    except aiohttp.ClientError as exc:
        if isinstance(exc.__cause__, BistroError):
            raise exc.__cause__ from None
        reason, hint = _explain(exc)
        raise UnavailableError(f"{peer}: {reason}", hint=hint) from exc


def _explain(exc: aiohttp.ClientError) -> tuple[str, str]:
    """What happened, and what the reader can do; the more special case stands first."""
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return f"the proxy {exc.host} cannot be reached: {_reason(exc.os_error)}", _PROXY
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy refuses: HTTP {exc.status} {exc.message}", _PROXY
    if isinstance(exc.__cause__, ssl.SSLCertVerificationError):  # through a SOCKS proxy
        return f"the TLS certificate is not trusted: {exc.__cause__.verify_message}", _TRUST
    return _explain_peer(exc)


def _reason(error: OSError) -> str:
    """The system's own words: asyncio puts addresses in their place."""
    return os.strerror(error.errno) if error.errno else str(error)


def _explain_peer(exc: aiohttp.ClientError) -> tuple[str, str]:
    match exc:
        case aiohttp.ClientConnectorCertificateError():
            found = f"the TLS certificate is not trusted: {exc.certificate_error}", _TRUST
        case aiohttp.ClientSSLError():
            found = "no TLS connection could be made", _TRUST
        case aiohttp.ClientConnectorDNSError():
            found = "there is no such host name", _ADDRESS
        case aiohttp.ClientConnectorError():
            found = f"no connection: {_reason(exc.os_error)}", _ADDRESS
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            found = "the connection broke before the answer was complete", _LATER
        case aiohttp.ClientResponseError():
            found = "the answer is not HTTP as it should be", _ADDRESS
        case aiohttp.ClientOSError():
            found = f"the connection broke: {exc.strerror or 'unexpectedly'}", _LATER
        case _:
            found = f"the connection failed: {type(exc).__name__}", _LATER
    return found
