"""Every official age test vector gives the result it asks for, whole and in small pieces.

The vectors come from the npm package ``cctv-age``; ``tests/vectors/age-official.json`` says
which there are and what each expects, so that none can go missing unseen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from bistro.crypto.sealing import (
    Identity,
    Opener,
    PassphraseIdentity,
    generate_identity,
    parse_identity,
)
from bistro.errors import BistroError, FormatError, VerificationError
from tests.support import npm
from tests.support.age_files import open_file

TABLE = json.loads(
    (Path(__file__).resolve().parent.parent / "vectors" / "age-official.json").read_text()
)
EXPECTED = {name: result for result, names in TABLE["expected"].items() for name in names}
NOTHING = hashlib.sha256(b"").hexdigest()

DUMP = """
import * as vectors from 'cctv-age';
const all = {};
for (const [name, data] of Object.entries(vectors)) {
  all[name] = Buffer.from(data).toString('base64');
}
process.stdout.write(JSON.stringify(all));
"""

# How an error says at which stage it arose: its class, and what its message contains.
STAGES: dict[str, tuple[type[BistroError], str]] = {
    "armor failure": (FormatError, "age armor: "),
    "header failure": (FormatError, "age header: "),
    "no match": (VerificationError, "age header: no match"),
    "HMAC failure": (VerificationError, "age header: the MAC"),
    "payload failure": (VerificationError, "age payload: "),
}


@dataclass(frozen=True)
class Case:
    """One vector: the fields of its text header, and the age file behind it."""

    fields: dict[str, list[str]]
    data: bytes

    def opener(self) -> Opener:
        identities: list[Identity] = [parse_identity(key) for key in self.fields["identity"]]
        identities += [PassphraseIdentity(words) for words in self.fields["passphrase"]]
        return Opener(identities or [generate_identity("hybrid")])

    @property
    def is_armored(self) -> bool:
        return self.fields["armored"] == ["yes"]

    @property
    def released_digest(self) -> str:
        """SHA-256 of the plaintext that may be released, before a fault too."""
        return (self.fields["payload"] or [NOTHING])[0]


@cache
def load_cases() -> dict[str, Case]:
    cases = {}
    for name, encoded in json.loads(npm.run_node(DUMP)).items():
        head, _, data = base64.b64decode(encoded).partition(b"\n\n")
        fields: dict[str, list[str]] = defaultdict(list)
        for line in head.decode().split("\n"):
            key, _, value = line.partition(": ")
            fields[key].append(value)
        if fields["compressed"] == ["zlib"]:
            data = zlib.decompress(data)
        cases[name] = Case(fields, data)
    return cases


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    """Install before the clock of a vector starts: the limits below are for our reader."""
    load_cases()


def test_the_table_of_vectors_is_complete() -> None:
    """The committed table names every vector of the package, with what the vector expects."""
    assert npm.PACKAGES["cctv-age"] == TABLE["version"]
    assert {name: case.fields["expect"][0] for name, case in load_cases().items()} == EXPECTED


@pytest.mark.timeout(10, func_only=True)
@pytest.mark.parametrize("piece_size", [1 << 24, 65_553, 61], ids=["whole", "chunks", "small"])
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_vector_gives_the_result_it_expects(name: str, piece_size: int) -> None:
    """The stage of the failure and the released plaintext do not depend on the cutting."""
    case = load_cases()[name]
    released, error = open_file(
        case.opener(), case.data, piece_size=piece_size, is_armored=case.is_armored
    )
    assert hashlib.sha256(released).hexdigest() == case.released_digest
    if EXPECTED[name] == "success":
        assert error is None
        return
    error_class, beginning = STAGES[EXPECTED[name]]
    assert type(error) is error_class
    assert str(error).startswith(beginning), error


@pytest.mark.timeout(10, func_only=True)
@pytest.mark.parametrize("name", [n for n in sorted(EXPECTED) if EXPECTED[n] == "success"])
def test_a_vector_opens_with_its_file_key_alone(name: str) -> None:
    """The key that the vector publishes is the one we find, and it suffices."""
    case = load_cases()[name]
    file_key = bytes.fromhex(case.fields["file key"][0])
    first = case.opener()
    open_file(first, case.data, is_armored=case.is_armored)
    assert first.file_key == file_key
    released, error = open_file(
        Opener.with_file_key(file_key), case.data, is_armored=case.is_armored
    )
    assert (hashlib.sha256(released).hexdigest(), error) == (case.released_digest, None)
