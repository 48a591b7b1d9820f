"""Which new version of terms may follow an old one: nobody's time is ever shortened.

| field | rule |
|---|---|
| ``version`` | one more |
| ``supersedes`` | terms hash of the old version |
| ``title``, ``relays``, ``postmark``, ``witnesses``, ``witness_quorum``, ``keys.terms`` | free |
| ``closes``, ``stage_by``, ``repair_by``, ``grace_ms`` | the same or more |
| ``outages`` | each old one stays, possibly wider; more may be added |
| ``timestamping`` | each old one stays as it is; more may be added |
| everything else | the same |

Source: docs/spec/terms.md.
"""

from __future__ import annotations

from dataclasses import fields

from bistro.errors import VerificationError
from bistro.wire.terms import Terms

_COUNTED = {"version", "supersedes"}
_FREE = {"title", "relays", "postmark", "witnesses", "witness_quorum"}
_GROWING = ("closes", "grace_ms", "stage_by", "repair_by")
_RULED = _COUNTED | _FREE | {*_GROWING, "outages", "timestamping", "keys"}


def verify_successor(old: Terms, new: Terms) -> None:
    """Check that ``new`` may follow ``old``; the signatures are checked elsewhere.

    Args:
        old: The version before.
        new: The version that wants to follow.

    Raises:
        VerificationError: It shortens something, changes what is fixed, or follows another
            version. Filers, relays and verifiers then go on with ``old``.
    """
    if new.version != old.version + 1:
        raise VerificationError(
            f"terms: expected version {old.version + 1} next, found {new.version}"
        )
    if new.supersedes != old.hash:
        found = new.supersedes.hex() if new.supersedes else "none"
        raise VerificationError(f"terms: expected to supersede {old.hash.hex()}, found {found}")
    _verify_fixed(old, new)
    _verify_growing(old, new)
    _verify_keys(old, new)
    _verify_outages(old, new)
    _verify_authorities(old, new)


def _verify_fixed(old: Terms, new: Terms) -> None:
    for field in fields(Terms):
        name = field.name
        if name not in _RULED and getattr(new, name) != getattr(old, name):
            raise VerificationError(f"terms version {new.version}: {name} may not change")


def _verify_growing(old: Terms, new: Terms) -> None:
    for name in _GROWING:
        if getattr(new, name) < getattr(old, name):
            raise VerificationError(
                f"terms version {new.version}: {name} may not go from {getattr(old, name)} "
                f"down to {getattr(new, name)}"
            )


def _verify_keys(old: Terms, new: Terms) -> None:
    for name in ("log", "collect", "status"):
        if getattr(new.keys, name) != getattr(old.keys, name):
            raise VerificationError(f"terms version {new.version}: keys.{name} may not change")


def _verify_outages(old: Terms, new: Terms) -> None:
    for outage in old.outages:
        if not any(
            other.since <= outage.since and outage.until <= other.until for other in new.outages
        ):
            raise VerificationError(
                f"terms version {new.version}: the outage declared from {outage.since} "
                f"to {outage.until} may not shrink or go"
            )


def _verify_authorities(old: Terms, new: Terms) -> None:
    for authority in old.timestamping:
        if authority not in new.timestamping:
            raise VerificationError(
                f"terms version {new.version}: the time-stamp authority "
                f"{authority.certificate.hex()} may not go or change"
            )
