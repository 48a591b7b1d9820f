"""Signed requests of the collector: one strict profile of RFC 9421 on plain values.

Always these components in this order, ``"@method" "@authority" "@path" "@query"
"content-digest"``, and these parameters, ``created``, ``expires`` at most 60 s later, ``nonce``,
``keyid`` (key id of the collect vkey, hex), ``alg="ed25519"``; the label is ``bistro``. The
digest is of the body as RFC 9530 has it, SHA-256, also for an empty body. Any other form is
malformed: one request has one signature base.

Whoever verifies must remember each nonce until ``expires_at`` and refuse it the second time;
a relay keeps signature base, signature and body of a release as proof that it was asked for.

Source: docs/spec/collection.md; RFC 9421, sections 2.5 and 3.3.6; RFC 9530.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bistro.api import routes
from bistro.crypto.digest import sha256
from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.errors import FormatError, NotRegisteredError, VerificationError
from bistro.instant import MAX_INSTANT, UnixMillis, format_rfc3339

COMPONENTS: Final = ("@method", "@authority", "@path", "@query", "content-digest")
LABEL: Final = "bistro"
MAX_LIFETIME_S: Final = 60
MAX_SKEW_S: Final = 30
"""How far ahead of the verifier's clock ``created`` may lie."""

_MS_PER_S: Final = 1_000
_NONCE_FORM = "[A-Za-z0-9_-]{16,64}"
_NONCE = re.compile(_NONCE_FORM)
_PLAIN = re.compile(r"[\x21-\x7e]+")
_INPUT = re.compile(
    re.escape(f"{LABEL}=(" + " ".join(f'"{name}"' for name in COMPONENTS) + ")")
    + r";created=(?P<created>[1-9][0-9]{0,11});expires=(?P<expires>[1-9][0-9]{0,11})"
    rf';nonce="(?P<nonce>{_NONCE_FORM})";keyid="(?P<keyid>[0-9a-f]{{8}})";alg="ed25519"'
)
_SIGNATURE = re.compile(re.escape(LABEL) + r"=:(?P<value>[A-Za-z0-9+/]{86}==):")


@dataclass(frozen=True, slots=True)
class Request:
    """What is signed of a request.

    Attributes:
        method: In upper case.
        authority: Host, in lower case, with the port unless it is the scheme's own. A verifier
            gives its own authority, not what the request claims.
        target: Path and query as they stand in the request line, percent-encoding included.
        body: The whole body; signed bodies are small.
    """

    method: str
    authority: str
    target: str
    body: bytes = b""

    def components(self) -> list[tuple[str, str]]:
        """The covered components with their values, in order.

        Raises:
            FormatError: A value holds white space or a character that is not ASCII.
        """
        path, _, query = self.target.partition("?")
        values = (self.method, self.authority, path, f"?{query}", content_digest(self.body))
        for name, value in zip(COMPONENTS, values, strict=True):
            if _PLAIN.fullmatch(value) is None:
                raise FormatError(f"signed request, {name}: expected printable ASCII")
        return list(zip(COMPONENTS, values, strict=True))


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A signature that holds, and what has to be kept of it.

    Attributes:
        key: Who signed.
        nonce: To be remembered until ``expires_at``, together with the key.
        expires_at: The last millisecond at which the signature is good.
        base: The signature base, what was signed.
        signature: 64 bytes.
    """

    key: VerifierKey
    nonce: str
    expires_at: UnixMillis
    base: str
    signature: bytes


def content_digest(body: bytes) -> str:
    """The ``Content-Digest`` header field of ``body``."""
    return f"sha-256=:{base64.b64encode(sha256(body)).decode()}:"


def signature_base(components: Sequence[tuple[str, str]], parameters: str) -> str:
    """The text that is signed.

    Args:
        components: Covered components with their values, in order.
        parameters: The value of ``@signature-params``, from ``("`` on.
    """
    lines = [f'"{name}": {value}' for name, value in components]
    return "\n".join([*lines, f'"@signature-params": {parameters}'])


def sign_request(
    request: Request,
    key: SigningKey,
    *,
    now: UnixMillis,
    nonce: str,
    lifetime_s: int = MAX_LIFETIME_S,
) -> dict[str, str]:
    """The header fields that make ``request`` a signed one.

    Args:
        request: What is asked for.
        key: The collect key.
        now: When it is signed.
        nonce: 16 random bytes or more, as 16 to 64 letters, digits, ``-`` and ``_``; never used
            before with this key.
        lifetime_s: How long the signature is good, 1 to 60 s.

    Raises:
        ValueError: The nonce or the lifetime is not as above.
        FormatError: The request has no signature base.
    """
    if _NONCE.fullmatch(nonce) is None or not 0 < lifetime_s <= MAX_LIFETIME_S:
        raise ValueError("expected a nonce of 16 to 64 characters and 1 to 60 s of life")
    created = now // _MS_PER_S
    names = " ".join(f'"{name}"' for name in COMPONENTS)
    parameters = (
        f'({names});created={created};expires={created + lifetime_s};nonce="{nonce}"'
        f';keyid="{key.verifier.key_id.hex()}";alg="ed25519"'
    )
    signature = key.sign(signature_base(request.components(), parameters).encode())
    return {
        routes.CONTENT_DIGEST: content_digest(request.body),
        routes.SIGNATURE_INPUT: f"{LABEL}={parameters}",
        routes.SIGNATURE: f"{LABEL}=:{base64.b64encode(signature).decode()}:",
    }


def verify_request(
    request: Request,
    headers: Mapping[str, str],
    *,
    keys_of: Callable[[str], Sequence[VerifierKey]],
    now: UnixMillis,
) -> VerifiedRequest:
    """Check the signature of ``request`` as it arrived.

    Args:
        request: As received, with the verifier's own authority.
        headers: The request's header fields; names in the case of ``api.routes`` or a mapping
            that ignores case.
        keys_of: All known collect keys with a key id in hex; ids are short, so there may be
            several, and the one that verifies is the signer.
        now: The verifier's time.

    Raises:
        FormatError: A header field is missing or not of this profile.
        NotRegisteredError: No known key has this key id.
        VerificationError: The digest, a time or the signature does not hold.
    """
    found = _match(_INPUT, headers, routes.SIGNATURE_INPUT)
    value = _match(_SIGNATURE, headers, routes.SIGNATURE)["value"]
    signature = base64.b64decode(value, validate=True)
    if base64.b64encode(signature).decode() != value:
        raise FormatError("header Signature: expected canonical base64")
    digest = content_digest(request.body)
    if headers.get(routes.CONTENT_DIGEST) != digest:
        raise VerificationError(f"header Content-Digest: expected {digest}, found another")
    expires_at = _require_lifetime(int(found["created"]), int(found["expires"]), now)
    parameters = found[0].removeprefix(f"{LABEL}=")
    base = signature_base(request.components(), parameters)
    key = _find_signer(keys_of(found["keyid"]), base, signature, found["keyid"])
    return VerifiedRequest(
        key=key, nonce=found["nonce"], expires_at=expires_at, base=base, signature=signature
    )


def verify_kept(base: str, signature: bytes, request: Request, *, key: VerifierKey) -> None:
    """Check a signed request that was kept as proof, whatever the time is now.

    Args:
        base: The signature base that was kept.
        signature: The signature that was kept.
        request: What it is said to have asked for and of whom, with the body that was kept: a
            request to another relay, or for something else, proves nothing about this.
        key: The collect key of the call.

    Raises:
        VerificationError: The signature does not hold, or it covers another request.
    """
    key.verify(base.encode(), signature)
    *components, last = base.split("\n")
    parameters = last.removeprefix('"@signature-params": ')
    expected = signature_base(request.components(), parameters).split("\n")
    if [*components, last] != expected or _INPUT.fullmatch(f"{LABEL}={parameters}") is None:
        raise VerificationError("kept request: the signature covers another request")


def _match(pattern: re.Pattern[str], headers: Mapping[str, str], name: str) -> re.Match[str]:
    found = headers.get(name)
    if found is None:
        raise FormatError(f"header {name}: expected a signed request, found no such field")
    match = pattern.fullmatch(found)
    if match is None:
        raise FormatError(f"header {name}: not of the one profile that is spoken here")
    return match


def _require_lifetime(created_s: int, expires_s: int, now: UnixMillis) -> UnixMillis:
    if not 0 < expires_s - created_s <= MAX_LIFETIME_S:
        raise VerificationError(
            f"signed request: expected 1 to {MAX_LIFETIME_S} s of life, "
            f"found {expires_s - created_s} s"
        )
    # In milliseconds: a nonce is forgotten after the end, so nothing may be good for longer.
    begins_at = UnixMillis((created_s - MAX_SKEW_S) * _MS_PER_S)
    ends_at = UnixMillis(expires_s * _MS_PER_S)
    if not begins_at <= now <= ends_at:
        raise VerificationError(
            f"signed request: valid from {_shown(begins_at)} to {_shown(ends_at)}, "
            f"the clock here says {_shown(now)}",
            hint="check both clocks, then sign and send again",
        )
    return ends_at


def _shown(at: UnixMillis) -> str:
    # A request may claim any time, also one that no calendar has.
    return format_rfc3339(UnixMillis(min(at, MAX_INSTANT)))


def _find_signer(
    keys: Sequence[VerifierKey], base: str, signature: bytes, key_id: str
) -> VerifierKey:
    if not keys:
        raise NotRegisteredError(
            f"signed request: no terms known here name a collect key {key_id}",
            hint="let the relay's operator allow the destination",
        )
    for key in keys:
        try:
            key.verify(base.encode(), signature)
        except VerificationError:
            continue
        return key
    raise VerificationError(f"signed request: the signature by key {key_id} does not hold")
