"""Finds out about the relays that ``call create`` is given: ``URL`` or ``URL=VKEY``.

Without a vkey the relay's discovery is asked and its key shown, so that the operator can compare
its fingerprint. With one nothing is asked; operator and region are then taken from its name.

Source: docs/spec/commands.md.
"""

from __future__ import annotations

import click

from bistro.crypto.signing import VerifierKey
from bistro.errors import ConflictError, FormatError, SettingsError
from bistro.ids import require_base_url
from bistro.net.relay_client import RelayClient
from bistro.net.session import Session, require_usable_url
from bistro.wire.clauses import Relay

_WEIGHT = 100


async def find_relays(texts: tuple[str, ...], *, allow_http: bool = False) -> tuple[Relay, ...]:
    """The relays that the options name, in their order.

    Raises:
        SettingsError: An option is no URL, or its vkey is none.
        ConflictError: Two of them are the same relay.
        UnavailableError: A relay does not answer.
    """
    async with Session(allow_http=allow_http) as session:
        relays = [await _find(session, text, allow_http=allow_http) for text in texts]
    names = [relay.name for relay in relays]
    for name in names:
        if names.count(name) > 1:
            raise ConflictError(f"relay {name} is named twice", hint="name each relay once")
    return tuple(relays)


async def _find(session: Session, text: str, *, allow_http: bool) -> Relay:
    url, has_key, vkey = text.partition("=")
    try:
        require_base_url(url)
        require_usable_url(url, allow_http=allow_http)
        if has_key:
            key = VerifierKey.parse(vkey)
            return _relay(name=key.name, operator=key.name, url=url, vkey=key)
        found = await RelayClient(session, url).fetch_discovery()
        relay = _relay(
            name=found.name,
            operator=found.operator,
            url=found.base_url,
            vkey=found.vkey,
            region=found.region,
        )
    except FormatError as exc:
        raise SettingsError(
            f"--relay {text[:200]}: {exc.message}", hint="give the relay's URL, or URL=VKEY"
        ) from exc
    click.echo(
        f"relay {relay.name}, operator {relay.operator}: fingerprint {relay.vkey.fingerprint()}",
        err=True,
    )
    return relay


def _relay(*, name: str, operator: str, url: str, vkey: VerifierKey, region: str = "") -> Relay:
    return Relay(name=name, operator=operator, url=url, vkey=vkey, region=region, weight=_WEIGHT)
