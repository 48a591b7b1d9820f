"""What schemathesis must know to send the bodies that a relay takes: bytes go as they are."""

from __future__ import annotations

import json

import schemathesis
from schemathesis import SerializationContext

from bistro.api import media


@schemathesis.serializer(media.MSGPACK, media.TUS_BYTES)
def as_bytes(ctx: SerializationContext, value: object) -> bytes:
    """Bytes as they are; what breaks the schema on purpose as its JSON."""
    return value if isinstance(value, bytes) else json.dumps(value, default=repr).encode()
