"""Which proxy leads to a peer, as the environment or the system's settings say.

Filers sit behind corporate proxies; daemons never use one. A proxy sees who asks whom and can
stop it, and no more: peers prove themselves with TLS and signatures through it.

Source: docs/spec/commands.md, proxies.
"""

from __future__ import annotations

from urllib.request import getproxies, proxy_bypass

from yarl import URL

from bistro.errors import SettingsError
from bistro.net.socks import SCHEMES


def proxy_for(target: URL) -> URL | None:
    """The proxy for a URL; None where none is named, or its host is excepted.

    Raises:
        SettingsError: The proxy is of a kind that cannot be used.
    """
    named = getproxies()
    found = named.get(target.scheme) or named.get("all") or _as_socks(named.get("socks"))
    if not found or proxy_bypass(target.host or ""):
        return None
    try:
        proxy = URL(found if "://" in found else f"http://{found}")
    except ValueError as exc:
        raise SettingsError(f"proxy for {target.scheme}: {exc}", hint=_HINT) from exc
    if proxy.scheme not in {"http", "https", *SCHEMES} or not proxy.host:
        raise SettingsError(
            f"proxy for {target.scheme}: expected an http:// or socks5:// address, found one of "
            f"{proxy.scheme}://",
            hint=_HINT,
        )
    return proxy


def _as_socks(found: str | None) -> str | None:
    """What a system names as its SOCKS proxy, with whatever scheme it puts before it."""
    if not found or URL(found).scheme in SCHEMES:
        return found
    return f"socks5://{found.rpartition('://')[2]}"


_HINT = "correct HTTPS_PROXY or ALL_PROXY, or except the destination and its relays with NO_PROXY"
