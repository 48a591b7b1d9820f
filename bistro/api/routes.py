"""One table of all routes, their builders, and the header fields both sides use.

Templates are in the form aiohttp's router takes; ``Route.path`` fills them for a client and
quotes what it fills in. ``{tile:.+}`` and the like match the rest of the path.

Source: docs/spec/api.md; tus 1.0; RFC 9110.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from bistro.errors import FormatError

_FIELD = re.compile(r"\{(\w+)(:[^}]*)?\}")
_MAX_OFFSET_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked for.

    Attributes:
        name: A constant for metrics and the documentation; never contains what was asked for.
        method: The HTTP method; GET answers HEAD too.
        template: The path with ``{fields}``.
    """

    name: str
    method: str
    template: str

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the template's fields, in order."""
        return tuple(match[1] for match in _FIELD.finditer(self.template))

    def path(self, *, query: Mapping[str, int | str] | None = None, **values: str) -> str:
        """The path with its fields filled in, and a query if there is one.

        Raises:
            ValueError: A field is missing, unknown or empty.
        """
        if set(values) != set(self.fields) or not all(values.values()):
            raise ValueError(f"route {self.name}: expected {self.fields}, found {values}")

        def fill(match: re.Match[str]) -> str:
            return quote(values[match[1]], safe="/" if match[2] else "")

        path = _FIELD.sub(fill, self.template)
        return f"{path}?{urlencode(query)}" if query else path

    def url(self, base: str, *, query: Mapping[str, int | str] | None = None, **values: str) -> str:
        """The full address below ``base``, whose trailing slash does not matter."""
        return base.rstrip("/") + self.path(query=query, **values)


# --- every daemon ---
HEALTH: Final = Route("health", "GET", "/healthz")
READINESS: Final = Route("readiness", "GET", "/readyz")
METRICS: Final = Route("metrics", "GET", "/metrics")

# --- destination ---
DISCOVERY: Final = Route("discovery", "GET", "/.well-known/bistro.json")
TERMS: Final = Route("terms", "GET", "/calls/{call}/terms")
TERMS_VERSION: Final = Route("terms_version", "GET", "/calls/{call}/terms/{terms_hash}")
TICKETS: Final = Route("tickets", "POST", "/calls/{call}/tickets")
RECEIPTS: Final = Route("receipts", "POST", "/calls/{call}/receipts")
REPAIRS: Final = Route("repairs", "GET", "/calls/{call}/repairs")
STATUS: Final = Route("status", "GET", "/calls/{call}/status/{commitment}")
OUTCOME: Final = Route("outcome", "GET", "/calls/{call}/status/{commitment}/{token}")
LOG_CHECKPOINT: Final = Route("log_checkpoint", "GET", "/calls/{call}/log/checkpoint")
LOG_TILE: Final = Route("log_tile", "GET", "/calls/{call}/log/tile/{tile:.+}")
LOG_CLOSED: Final = Route("log_closed", "GET", "/calls/{call}/log/closed")
LOG_OPENING: Final = Route("log_opening", "GET", "/calls/{call}/log/opening")
LOG_PROOF: Final = Route("log_proof", "GET", "/calls/{call}/log/proof/{index}")
LOG_CONSISTENCY: Final = Route(
    "log_consistency", "GET", "/calls/{call}/log/consistency/{old}/{size}"
)
LOG_STAMPED: Final = Route("log_stamped", "GET", "/calls/{call}/log/stamped/{index}")
REFUSALS_CHECKPOINT: Final = Route(
    "refusals_checkpoint", "GET", "/calls/{call}/refusals/checkpoint"
)
REFUSALS_TILE: Final = Route("refusals_tile", "GET", "/calls/{call}/refusals/tile/{tile:.+}")
MINUTES: Final = Route("minutes", "GET", "/calls/{call}/minutes")
TIMESTAMPS: Final = Route("timestamps", "POST", "/tsa")

# --- relay ---
RELAY_DISCOVERY: Final = Route("relay_discovery", "GET", "/.well-known/bistro-relay.json")
RELAY_DESCRIPTION: Final = Route("relay_description", "GET", "/openapi.json")
RELAY_TERMS: Final = Route("relay_terms", "GET", "/terms/{server}/{call}")
UPLOAD_OPTIONS: Final = Route("upload_options", "OPTIONS", "/uploads")
UPLOAD_CREATION: Final = Route("upload_creation", "POST", "/uploads")
UPLOAD_OFFSET: Final = Route("upload_offset", "HEAD", "/uploads/{upload}")
UPLOAD_BYTES: Final = Route("upload_bytes", "PATCH", "/uploads/{upload}")
UPLOAD_TERMINATION: Final = Route("upload_termination", "DELETE", "/uploads/{upload}")
UPLOAD_RECEIPT: Final = Route("upload_receipt", "GET", "/uploads/{upload}/receipt")
UPLOAD_CUSTODY: Final = Route("upload_custody", "GET", "/uploads/{upload}/custody")
SERVICE: Final = Route("service", "GET", "/service")
SERVICE_MONTH: Final = Route("service_month", "GET", "/service/{month}")
TAKEDOWN: Final = Route("takedown", "GET", "/takedowns/{takedown}")
STAGED: Final = Route("staged", "GET", "/staged")
BATCHES: Final = Route("batches", "POST", "/batches")
RELEASES: Final = Route("releases", "POST", "/releases")

DAEMON_ROUTES: Final = (HEALTH, READINESS, METRICS)
SERVER_ROUTES: Final = (
    DISCOVERY,
    TERMS,
    TERMS_VERSION,
    TICKETS,
    RECEIPTS,
    REPAIRS,
    STATUS,
    OUTCOME,
    LOG_CHECKPOINT,
    LOG_TILE,
    LOG_CLOSED,
    LOG_OPENING,
    LOG_PROOF,
    LOG_CONSISTENCY,
    LOG_STAMPED,
    REFUSALS_CHECKPOINT,
    REFUSALS_TILE,
    MINUTES,
    TIMESTAMPS,
)
RELAY_ROUTES: Final = (
    RELAY_DISCOVERY,
    RELAY_DESCRIPTION,
    RELAY_TERMS,
    UPLOAD_OPTIONS,
    UPLOAD_CREATION,
    UPLOAD_OFFSET,
    UPLOAD_BYTES,
    UPLOAD_TERMINATION,
    UPLOAD_RECEIPT,
    UPLOAD_CUSTODY,
    SERVICE,
    SERVICE_MONTH,
    TAKEDOWN,
    STAGED,
    BATCHES,
    RELEASES,
)

# --- header fields ---
TUS_VERSION: Final = "1.0.0"
TUS_EXTENSIONS: Final = "creation,creation-with-upload,expiration,termination,checksum"
TUS_RESUMABLE: Final = "Tus-Resumable"
TUS_VERSION_FIELD: Final = "Tus-Version"
TUS_EXTENSION_FIELD: Final = "Tus-Extension"
TUS_CHECKSUM_FIELD: Final = "Tus-Checksum-Algorithm"
TUS_MAX_SIZE_FIELD: Final = "Tus-Max-Size"
OFFSET: Final = "Upload-Offset"
LENGTH: Final = "Upload-Length"
METADATA: Final = "Upload-Metadata"
CHECKSUM: Final = "Upload-Checksum"
EXPIRES: Final = "Upload-Expires"
DEFERRED_LENGTH: Final = "Upload-Defer-Length"
CONCATENATION: Final = "Upload-Concat"
METHOD_OVERRIDE: Final = "X-HTTP-Method-Override"
COMPLETE: Final = "Upload-Complete"
UPLOAD_LIMIT: Final = "Upload-Limit"
DRAFT_VERSION: Final = "Upload-Draft-Interop-Version"
CLAIM_KEY: Final = "claim"
RECEIPT: Final = "Bistro-Receipt"
RATE: Final = "Bistro-Rate"
SISTERS: Final = "Bistro-Sisters"
REQUEST_ID: Final = "Bistro-Request-Id"
CONTENT_DIGEST: Final = "Content-Digest"
SIGNATURE: Final = "Signature"
SIGNATURE_INPUT: Final = "Signature-Input"
RETRY_AFTER: Final = "Retry-After"

EXPOSED_FIELDS: Final = (
    "Location",
    "Content-Digest",
    TUS_RESUMABLE,
    TUS_VERSION_FIELD,
    TUS_EXTENSION_FIELD,
    TUS_CHECKSUM_FIELD,
    TUS_MAX_SIZE_FIELD,
    OFFSET,
    LENGTH,
    METADATA,
    EXPIRES,
    RECEIPT,
    SISTERS,
    REQUEST_ID,
    RETRY_AFTER,
)
"""What a browser page may read of a response (CORS)."""


def parse_offset(headers: Mapping[str, str], name: str = OFFSET) -> int:
    """The byte position or length in header field ``name``.

    Raises:
        FormatError: The field is missing, or not a decimal without sign and leading zeros.
    """
    found = headers.get(name)
    if found is None:
        raise FormatError(f"header {name}: expected a number of bytes, found no such field")
    is_decimal = found.isascii() and found.isdigit() and str(int(found[:20])) == found
    if not is_decimal or len(found) > _MAX_OFFSET_DIGITS:
        raise FormatError(f"header {name}: expected a number of bytes, found {found[:32]!r}")
    return int(found)


def parse_number(query: Mapping[str, str], name: str, *, default: int, maximum: int) -> int:
    """The number in query field ``name``, or ``default`` where there is none.

    Raises:
        FormatError: Not a plain decimal, or above ``maximum``.
    """
    found = query.get(name)
    if found is None:
        return default
    is_decimal = found.isascii() and found.isdigit() and str(int(found[:20])) == found
    if not is_decimal or int(found) > maximum:
        raise FormatError(f"query {name}: expected 0 to {maximum}, found {found[:32]!r}")
    return int(found)
