"""An OpenAPI 3.1 description of a daemon, made from the routes that it answers.

A description is for programs of others: clients, gateways, fuzzers. What is normative stands
in docs/spec/api.md; what is described here is as much of it as OpenAPI can say.

Source: docs/spec/api.md; OpenAPI 3.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bistro.api import media, routes
from bistro.api.routes import Route

VERSION: Final = "3.1.0"

Schema = Mapping[str, Any]
"""A JSON Schema."""

TEXT: Final[Schema] = {"type": "string"}
BYTES: Final[Schema] = {"type": "string", "format": "binary"}
NUMBER: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 9_999_999_999_999_999}
OBJECT: Final[Schema] = {"type": "object"}

_PROBLEM: Final[Schema] = {
    "type": "object",
    "required": ["code", "detail", "hint", "status", "title", "type"],
    "properties": {
        "code": {"type": "string", "pattern": "^[a-z]+(-[a-z]+)*$"},
        "detail": TEXT,
        "hint": TEXT,
        "retry_after_ms": NUMBER,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "title": TEXT,
        "type": TEXT,
    },
}
_PROBLEM_REFERENCE: Final[Schema] = {"$ref": "#/components/schemas/problem"}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a header or a query.

    Attributes:
        name: As it is sent.
        schema: Of its value.
        is_required: Whether a request without it is refused, or an answer never lacks it.
    """

    name: str
    schema: Schema = field(default_factory=lambda: TEXT)
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer.

    Attributes:
        status: Its status.
        text: What it means, for people.
        kind: Media type of its body; empty: it has none.
        schema: Of its body.
        fields: Of its header.
    """

    status: int
    text: str
    kind: str = ""
    schema: Schema = field(default_factory=lambda: TEXT)
    fields: Sequence[Field] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What can be asked of one route.

    Attributes:
        route: The route.
        text: What it does, for people.
        answers: Good ones; problems are the same everywhere.
        path: Schemas of the path's fields; text where none is named.
        query: Fields of the query.
        header: Fields of the header.
        body: Media types of the request's body with their schemas; empty: none is read.
        is_body_required: Whether a request without a body is refused.
    """

    route: Route
    text: str
    answers: Sequence[Answer]
    path: Mapping[str, Schema] = field(default_factory=dict)
    query: Sequence[Field] = ()
    header: Sequence[Field] = ()
    body: Mapping[str, Schema] = field(default_factory=dict)
    is_body_required: bool = False


def probes() -> list[Operation]:
    """What every daemon answers."""
    ready = Answer(200, "it can grant requests", "text/plain", TEXT)
    return [
        Operation(routes.HEALTH, "Whether the process serves.", [ready]),
        Operation(routes.READINESS, "Whether requests can be granted now.", [ready]),
        Operation(routes.METRICS, "Metrics.", [Answer(200, "Prometheus text", "text/plain", TEXT)]),
    ]


def describe(operations: Iterable[Operation], *, title: str, base_url: str) -> bytes:
    """The whole description, as JSON.

    Args:
        operations: Of all routes.
        title: What is described.
        base_url: Where it is.
    """
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.route.template, {})[one.route.method.lower()] = _operation(one)
    document = {
        "openapi": VERSION,
        "info": {"title": title, "version": "1"},
        "servers": [{"url": base_url}],
        "paths": paths,
        "components": {"schemas": {"problem": _PROBLEM}},
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _operation(one: Operation) -> dict[str, Any]:
    parameters = [
        *(
            _parameter("path", Field(name, one.path.get(name, TEXT), is_required=True))
            for name in one.route.fields
        ),
        *(_parameter("query", each) for each in one.query),
        *(_parameter("header", each) for each in one.header),
    ]
    problem = {
        "description": "a problem document",
        "content": {media.PROBLEM: {"schema": _PROBLEM_REFERENCE}},
    }
    found = {
        "operationId": one.route.name,
        "summary": one.text,
        "parameters": parameters,
        "responses": {
            **{str(each.status): _response(each) for each in one.answers},
            "4XX": problem,
            "5XX": problem,
        },
    }
    if one.body:
        found["requestBody"] = {
            "required": one.is_body_required,
            "content": {kind: {"schema": schema} for kind, schema in one.body.items()},
        }
    return found


def _parameter(place: str, each: Field) -> dict[str, Any]:
    return {
        "in": place,
        "name": each.name,
        "required": each.is_required,
        "schema": each.schema,
    }


def _response(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.text}
    if answer.fields:
        found["headers"] = {
            each.name: {"required": each.is_required, "schema": each.schema}
            for each in answer.fields
        }
    if answer.kind:
        found["content"] = {answer.kind: {"schema": answer.schema}}
    return found
