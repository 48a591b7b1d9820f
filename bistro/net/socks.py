"""Connections through a SOCKS proxy, version 5, where one is named and the library is there.

The library is ``aiohttp-socks``, from the extra ``bistro[socks]``. Names are resolved by the
proxy: behind one, a machine often cannot.

Source: RFC 1928; docs/spec/commands.md, proxies.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any, Final

import aiohttp
from yarl import URL

from bistro.errors import SettingsError, UnavailableError

SCHEMES: Final = frozenset({"socks5", "socks5h"})
_PORT: Final = 1080
_PROXY: Final = "check ALL_PROXY and NO_PROXY, or this system's proxy settings"


def open_connector(proxy: URL, **options: Any) -> aiohttp.TCPConnector:  # noqa: ANN401
    """A pool of connections through ``proxy``; options as of ``aiohttp.TCPConnector``.

    Raises:
        SettingsError: The library is not installed.
    """
    try:
        import aiohttp_socks  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise SettingsError(
            f"proxy {proxy.host}: it speaks SOCKS, and the library for that is not installed",
            hint="install it with `pip install bistro[socks]`, or name an http:// proxy",
        ) from exc
    return aiohttp_socks.ProxyConnector(
        host=proxy.host or "",
        port=proxy.port or _PORT,
        proxy_type=aiohttp_socks.ProxyType.SOCKS5,
        username=proxy.user,
        password=proxy.password,
        rdns=True,
        **options,
    )


@contextlib.contextmanager
def translated(peer: str, proxy: URL) -> Iterator[None]:
    """Raise ``UnavailableError`` for what that library adds to the failures of ``aiohttp``."""
    import aiohttp_socks  # noqa: PLC0415 - an extra; there is a connection through it

    try:
        yield
    except aiohttp_socks.ProxyConnectionError as exc:
        raise UnavailableError(
            f"{peer}: the proxy {proxy.host} cannot be reached: {exc}", hint=_PROXY
        ) from exc
    except aiohttp_socks.ProxyTimeoutError as exc:
        raise UnavailableError(
            f"{peer}: no answer in time through the proxy {proxy.host}", hint=_PROXY
        ) from exc
    except aiohttp_socks.ProxyError as exc:
        raise UnavailableError(f"{peer}: the proxy refuses: {exc}", hint=_PROXY) from exc
    except aiohttp.ClientOSError as exc:
        if isinstance(exc.__cause__, ssl.SSLError):
            raise
        raise UnavailableError(
            f"{peer}: the connection through the proxy {proxy.host} broke", hint=_PROXY
        ) from exc
