"""Who a destination is: its pinned key, the rotations that lead on from it, and allowing it.

Source: docs/spec/terms.md, trust.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bistro.clock import Clock
from bistro.crypto.signing import VerifierKey
from bistro.errors import FormatError, VerificationError
from bistro.ids import require_base_url
from bistro.net.server_client import ServerClient
from bistro.net.session import Session
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.terms import SignedTerms
from bistro_relay.store.destinations import Destination, DestinationFiles


def describe_change(server: str, *, pinned: VerifierKey, found: VerifierKey) -> VerificationError:
    """The refusal of a changed key, showing both."""
    return VerificationError(
        f"the key of {server} changed:\n"
        f"  expected {pinned.format()}\n           fingerprint {pinned.fingerprint()}\n"
        f"  found    {found.format()}\n           fingerprint {found.fingerprint()}",
        hint="ask the destination which key is right; nothing was changed here",
    )


def follow_rotations(pinned: VerifierKey, discovery: ServerDiscovery) -> VerifierKey:
    """The key that the destination signs with now, reached from the pinned one.

    Raises:
        VerificationError: Another server, or no chain of signed rotations leads to its key.
    """
    if discovery.name != pinned.name:
        raise VerificationError(f"expected server {pinned.name}, found {discovery.name}")
    key = pinned
    for text in discovery.rotations:
        signed = SignedTerms.parse(text.encode())
        if signed.origin.server != pinned.name or signed.terms.keys.terms == key:
            continue
        try:
            signed.verify(key)
        except VerificationError:
            continue  # a rotation from before the pinned key
        key = signed.terms.keys.terms
    if key != discovery.terms_key:
        raise describe_change(pinned.name, pinned=pinned, found=discovery.terms_key)
    return key


@dataclass(frozen=True, slots=True)
class Allowed:
    """What came of allowing a destination.

    Attributes:
        destination: As it is pinned now.
        is_new: Whether this relay met it for the first time.
        calls: Ids of its calls, as discovery lists them.
    """

    destination: Destination
    is_new: bool
    calls: tuple[str, ...]


async def allow(
    session: Session,
    directory: Path,
    clock: Clock,
    url: str,
    *,
    trust: VerifierKey | None,
    quota_bytes: int | None,
) -> Allowed:
    """Ask the server at ``url`` who it is, pin its key, and serve it from now on.

    Args:
        session: An open session.
        directory: The relay's data folder; a running relay looks at it all the time.
        clock: Dates the first time.
        url: Where its discovery is.
        trust: The key it must have; without one the key it shows is pinned.
        quota_bytes: Most bytes held for it; None keeps what was said before.

    Raises:
        VerificationError: It shows another key than ``trust`` or than the pinned one, to which
            no signed rotation leads; nothing was changed.
        UnavailableError: It does not answer.
        FormatError: It is no destination, or the URL is none.
    """
    base = url.rstrip("/")
    require_base_url(base)
    discovery = await ServerClient(session, base).fetch_discovery()
    if trust is not None and trust.name != discovery.name:
        raise VerificationError(f"expected server {trust.name}, found {discovery.name}")
    if trust is not None and trust != discovery.terms_key:
        raise describe_change(discovery.name, pinned=trust, found=discovery.terms_key)
    files = DestinationFiles(directory)
    known = files.load(discovery.name)
    if known is None:
        now = clock.now()
        made = Destination(discovery.name, base, discovery.terms_key, quota_bytes, now)
    else:
        key = trust or follow_rotations(known.key, discovery)
        made = replace(known, url=base, key=key, quota_bytes=quota_bytes or known.quota_bytes)
    # A crash before this returns leaves the destination as it was; allowing again is harmless.
    files.save(made)
    return Allowed(made, known is None, tuple(call.id for call in discovery.calls))


def parse_trust(text: str) -> VerifierKey:
    """The key of an option ``--trust``.

    Raises:
        FormatError: It is no vkey.
    """
    try:
        return VerifierKey.parse(text)
    except FormatError as exc:
        raise FormatError(
            f"--trust: {exc.message}", hint="give the vkey as the destination printed it"
        ) from exc
