"""Officers: among whom the key of a call is split, as terms name them.

Source: docs/spec/terms.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from bistro.errors import FormatError
from bistro.wire.clauses import (
    MAX_LINE_LENGTH,
    MAX_RECIPIENT_LENGTH,
    MAX_RECIPIENTS,
    require_line,
    require_recipients,
)
from bistro.wire.document import Fields, Json


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody who holds a share of the call's key: a name for people, an age public key."""

    name: str
    key: str

    def __post_init__(self) -> None:
        """Refuse a name that people could not read; ``Officers`` looks at the keys."""
        require_line("officer, name", self.name)

    @classmethod
    def read(cls, fields: Fields) -> Officer:
        """The officer that an object of the terms describes, or ``FormatError``."""
        officer = cls(
            name=fields.text("name", MAX_LINE_LENGTH),
            key=fields.text("key", MAX_RECIPIENT_LENGTH),
        )
        fields.end()
        return officer

    def document(self) -> dict[str, Json]:
        """The object that describes this officer."""
        return {"name": self.name, "key": self.key}


@dataclass(frozen=True, slots=True)
class Officers:
    """Among whom the call's key is split.

    Attributes:
        threshold: How many of them open together.
        keys: Who they are, each with a key of their own.
    """

    threshold: int
    keys: tuple[Officer, ...]

    def __post_init__(self) -> None:
        """Refuse two of one name, and a threshold that they cannot reach."""
        require_recipients("officers, keys", tuple(officer.key for officer in self.keys))
        if len({officer.name for officer in self.keys}) != len(self.keys):
            raise FormatError("officers, keys: expected distinct names, found one twice")
        if not 1 <= self.threshold <= len(self.keys):
            raise FormatError(
                f"officers, threshold: expected 1 to {len(self.keys)}, found {self.threshold}"
            )

    @classmethod
    def read(cls, fields: Fields) -> Officers:
        """The officers that an object of the terms describes, or ``FormatError``."""
        officers = cls(
            threshold=fields.uint("threshold"),
            keys=tuple(Officer.read(one) for one in fields.objects("keys", MAX_RECIPIENTS)),
        )
        fields.end()
        return officers

    def document(self) -> dict[str, Json]:
        """The object that describes these officers."""
        return {
            "threshold": self.threshold,
            "keys": [officer.document() for officer in self.keys],
        }
