"""Reads the vector files of ``tests/vectors``.

A file is ``{"kind", "valid": [{"name", "data", ...fields}], "invalid": [{"name", "data", "code",
"why"}]}``. ``data`` is hex; a file that says ``"encoding": "text"`` holds UTF-8 text instead.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


@dataclass(frozen=True)
class Vector:
    """One case: its bytes, and whatever else the file says about them."""

    name: str
    data: bytes
    fields: dict[str, Any]

    def __getitem__(self, field: str) -> Any:
        return self.fields[field]

    @property
    def code(self) -> str:
        """The error code that an invalid case must give."""
        return str(self.fields["code"])

    def hex(self, field: str) -> bytes:
        """A field that is written in hex."""
        return bytes.fromhex(self.fields[field])


def load_vectors(name: str, group: str) -> list[Vector]:
    """The ``valid`` or ``invalid`` cases of ``tests/vectors/<name>.json``."""
    document = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    is_text = document.get("encoding", "hex") == "text"
    vectors = []
    for fields in document[group]:
        data = fields["data"].encode() if is_text else bytes.fromhex(fields["data"])
        vectors.append(Vector(fields["name"], data, fields))
    return vectors


def each_vector(name: str, group: str) -> pytest.MarkDecorator:
    """Parametrize a test's argument ``vector`` over the cases of a group."""
    vectors = load_vectors(name, group)
    return pytest.mark.parametrize("vector", vectors, ids=[vector.name for vector in vectors])
