"""The relay's own OpenAPI description: every route that it answers, with what it takes and gives.

Source: docs/spec/api.md, relay; docs/spec/staging.md; docs/spec/collection.md.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from bistro.api import media, openapi, routes
from bistro.api.openapi import BYTES, NUMBER, OBJECT, TEXT, Answer, Field, Operation, Schema
from bistro.daemon.caching import cacheable_response
from bistro.daemon.web import Endpoint
from bistro.wire.batches import MAX_BATCH_REQUEST_SIZE, MAX_RELEASES_SIZE
from bistro.wire.codec import MAX_UINT
from bistro.wire.staging import MAX_STAGED_ROWS
from bistro_relay.http.collecting import MAX_WAIT_S
from bistro_relay.http.upload_fields import ALGORITHMS, MAX_METADATA_LENGTH

_VERSION: Final = Field(routes.TUS_RESUMABLE, {"const": routes.TUS_VERSION}, is_required=True)
_SAID_VERSION: Final = Field(routes.TUS_RESUMABLE, {"const": routes.TUS_VERSION}, is_required=True)
_OFFSET: Final = Field(routes.OFFSET, NUMBER, is_required=True)
_RECEIPT: Final = Field(routes.RECEIPT)
_EXPIRES: Final = Field(routes.EXPIRES)
_CHECKSUM: Final = Field(
    routes.CHECKSUM,
    {"type": "string", "pattern": f"^({'|'.join(ALGORITHMS)}) [A-Za-z0-9+/]+={{0,2}}$"},
)
_METADATA: Final = Field(
    routes.METADATA,
    {
        "type": "string",
        "maxLength": MAX_METADATA_LENGTH,
        "pattern": f"^{routes.CLAIM_KEY} [A-Za-z0-9+/]+={{0,2}}$",
    },
    is_required=True,
)
_SIGNED: Final = (
    Field(routes.SIGNATURE_INPUT, is_required=True),
    Field(routes.SIGNATURE, is_required=True),
)
_UPLOAD: Final[dict[str, Schema]] = {"upload": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
_HASH: Final[Schema] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_MONTH: Final[Schema] = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"}
_NOTE: Final = Answer(200, "a signed note", "text/plain", TEXT)
_JSON: Final = Answer(200, "canonical JSON", media.JSON, OBJECT)
_GONE: Final = Answer(204, "it has ended", fields=(_SAID_VERSION,))


def _msgpack(size: int) -> dict[str, Schema]:
    return {media.MSGPACK: {**BYTES, "maxLength": size}}


def _packed(text: str, kind: str = media.MSGPACK) -> Answer:
    return Answer(200, text, kind, BYTES)


def _number(name: str, maximum: int) -> Field:
    return Field(name, {"type": "integer", "minimum": 0, "maximum": maximum})


def _uploads() -> list[Operation]:
    where = (_SAID_VERSION, _OFFSET, _EXPIRES, _RECEIPT)
    listed = (routes.TUS_VERSION_FIELD, routes.TUS_EXTENSION_FIELD, routes.TUS_CHECKSUM_FIELD)
    told = [Field(name, is_required=True) for name in listed]
    largest = Field(routes.TUS_MAX_SIZE_FIELD, NUMBER, is_required=True)
    return [
        Operation(
            routes.UPLOAD_OPTIONS,
            "What of tus is spoken here.",
            [Answer(204, "version, extensions and limits", fields=(*told, largest))],
        ),
        Operation(
            routes.UPLOAD_CREATION,
            "Check a claim and begin an upload, perhaps with its first or all bytes.",
            [Answer(201, "begun", fields=(*where, Field("Location", is_required=True)))],
            header=(_VERSION, Field(routes.LENGTH, NUMBER, is_required=True), _METADATA, _CHECKSUM),
            body={media.TUS_BYTES: BYTES},
        ),
        Operation(
            routes.UPLOAD_OFFSET,
            "Where an upload stands.",
            [Answer(200, "its offset", fields=(*where, Field(routes.LENGTH, NUMBER)))],
            path=_UPLOAD,
            header=(_VERSION,),
        ),
        Operation(
            routes.UPLOAD_BYTES,
            "Append bytes at the offset.",
            [Answer(204, "taken", fields=where)],
            path=_UPLOAD,
            header=(_VERSION, _OFFSET, _CHECKSUM),
            body={media.TUS_BYTES: BYTES},
            is_body_required=True,
        ),
        Operation(
            routes.UPLOAD_TERMINATION,
            "Give an upload up.",
            [_GONE],
            path=_UPLOAD,
            header=(_VERSION,),
        ),
        Operation(routes.UPLOAD_RECEIPT, "The receipt.", [_NOTE], path=_UPLOAD),
        Operation(routes.UPLOAD_CUSTODY, "What was promised of it.", [_JSON], path=_UPLOAD),
    ]


def _public() -> list[Operation]:
    month = {"month": _MONTH}
    return [
        Operation(routes.RELAY_DISCOVERY, "Who this relay is, and what it serves.", [_JSON]),
        Operation(routes.RELAY_DESCRIPTION, "This description.", [_JSON]),
        Operation(routes.RELAY_TERMS, "The latest known terms of a call.", [_JSON]),
        Operation(routes.SERVICE, "What this relay has done.", [_NOTE]),
        Operation(routes.SERVICE_MONTH, "What it has done in a month.", [_NOTE], path=month),
        Operation(routes.TAKEDOWN, "What was deleted, and why.", [_NOTE], path={"takedown": _HASH}),
    ]


def _collecting() -> list[Operation]:
    digest = Field(routes.CONTENT_DIGEST, is_required=True)
    return [
        Operation(
            routes.STAGED,
            "What is held for the destination that asks.",
            [_packed("rows")],
            query=(
                _number("after", MAX_UINT),
                _number("limit", MAX_STAGED_ROWS),
                _number("wait_s", MAX_WAIT_S),
            ),
            header=_SIGNED,
        ),
        Operation(
            routes.BATCHES,
            "Many fragments in one answer.",
            [_packed("frames", media.BATCH)],
            header=(*_SIGNED, digest, Field(routes.RATE, NUMBER)),
            body=_msgpack(MAX_BATCH_REQUEST_SIZE),
            is_body_required=True,
        ),
        Operation(
            routes.RELEASES,
            "Fragments that the destination has, and that may be deleted.",
            [_packed("an answer for each")],
            header=(*_SIGNED, digest),
            body=_msgpack(MAX_RELEASES_SIZE),
            is_body_required=True,
        ),
    ]


def operations() -> list[Operation]:
    """Everything that a relay answers."""
    return [*openapi.probes(), *_public(), *_uploads(), *_collecting()]


def description_endpoint(*, name: str, base_url: str) -> Endpoint:
    """What serves the description.

    Args:
        name: The relay's.
        base_url: Its own.
    """
    body = openapi.describe(operations(), title=f"Bistro relay {name}", base_url=base_url)

    async def answer(request: web.Request) -> web.Response:
        return cacheable_response(request, body, content_type=media.JSON)

    return Endpoint(routes.RELAY_DESCRIPTION, answer)
