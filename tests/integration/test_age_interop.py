"""What we seal, other people's tools open, and we open what they seal.

Oracles: Debian's ``age`` (Go), npm's ``age-encryption`` (TypeScript), ``pyrage`` (Rust).
"""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pyrage  # type: ignore[import-untyped] # it ships no types
import pytest

from bistro.crypto.sealing import (
    CHUNK_SIZE,
    KeyKind,
    Opener,
    PassphraseIdentity,
    encode_identity_file,
    generate_identity,
)
from tests.support import npm
from tests.support.age_files import open_file, open_whole, seal
from tests.support.tools import require_tool

SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 300_001]

OPEN = """
import { Decrypter, identityToRecipient } from 'age-encryption';
let text = ''; for await (const piece of process.stdin) text += piece;
const answers = [];
for (const { identity, sealed } of JSON.parse(text)) {
  const d = new Decrypter(); d.addIdentity(identity);
  const plain = await d.decrypt(Buffer.from(sealed, 'base64'));
  answers.push({ recipient: await identityToRecipient(identity),
                 plain: Buffer.from(plain).toString('base64') });
}
process.stdout.write(JSON.stringify(answers));
"""

SEAL = """
import { Encrypter, armor } from 'age-encryption';
let text = ''; for await (const piece of process.stdin) text += piece;
const answers = [];
for (const { recipient, passphrase, plain } of JSON.parse(text)) {
  const e = new Encrypter();
  if (passphrase) { e.setPassphrase(passphrase); e.setScryptWorkFactor(10); }
  else e.addRecipient(recipient);
  const sealed = await e.encrypt(Buffer.from(plain, 'base64'));
  answers.push({ sealed: Buffer.from(sealed).toString('base64'), armored: armor.encode(sealed) });
}
process.stdout.write(JSON.stringify(answers));
"""


def sample(size: int) -> bytes:
    return bytes(i * i % 251 for i in range(size))


def ask_node(script: str, questions: list[dict[str, str]]) -> list[dict[str, str]]:
    answers = npm.run_node(script, stdin=json.dumps(questions).encode(), limit_s=60)
    decoded: list[dict[str, str]] = json.loads(answers)
    return decoded


def run_age(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    done = subprocess.run(
        [require_tool("age"), *arguments], input=stdin, capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("size", SIZES)
def test_debian_age_opens_an_x25519_envelope(size: int, tmp_path: Path) -> None:
    """``age -d`` with our identity file gives the plaintext back."""
    identity = generate_identity("x25519")
    keys = tmp_path / "keys.txt"
    keys.write_bytes(encode_identity_file(identity))
    sealed = seal([generate_identity("x25519").recipient, identity.recipient], sample(size))
    assert run_age("-d", "-i", keys, stdin=sealed) == sample(size)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_debian_age_seals(size: int) -> None:
    """Binary and armored files of ``age -r`` open."""
    identity = generate_identity("x25519")
    recipient = identity.recipient.format()
    assert open_whole(Opener([identity]), run_age("-r", recipient, stdin=sample(size))) == sample(
        size
    )
    armored = run_age("-a", "-r", recipient, stdin=sample(size))
    assert open_file(Opener([identity]), armored, piece_size=1_000, is_armored=True) == (
        sample(size),
        None,
    )


@pytest.mark.timeout(180)  # the first of these installs the packages
@pytest.mark.parametrize("kind", ["hybrid", "x25519"])
def test_npm_age_encryption_opens_our_envelopes(kind: KeyKind) -> None:
    """The library of the browser page opens both kinds, and derives the same public key."""
    identities = [generate_identity(kind) for _ in SIZES]
    questions = [
        {
            "identity": identity.format(),
            "sealed": base64.b64encode(seal([identity.recipient], sample(size))).decode(),
        }
        for identity, size in zip(identities, SIZES, strict=True)
    ]
    answers = ask_node(OPEN, questions)
    assert [base64.b64decode(answer["plain"]) for answer in answers] == [
        sample(size) for size in SIZES
    ]
    assert [answer["recipient"] for answer in answers] == [
        identity.recipient.format() for identity in identities
    ]


@pytest.mark.timeout(180)  # the first of these installs the packages
@pytest.mark.parametrize("kind", ["hybrid", "x25519"])
def test_we_open_what_npm_age_encryption_seals(kind: KeyKind) -> None:
    """Both kinds, binary and armored."""
    identity = generate_identity(kind)
    recipient = identity.recipient.format()
    questions = [
        {"recipient": recipient, "plain": base64.b64encode(sample(size)).decode()} for size in SIZES
    ]
    for size, answer in zip(SIZES, ask_node(SEAL, questions), strict=True):
        sealed = base64.b64decode(answer["sealed"])
        assert open_whole(Opener([identity]), sealed) == sample(size)
        armored = answer["armored"].encode()
        assert open_file(Opener([identity]), armored, is_armored=True) == (sample(size), None)


@pytest.mark.timeout(180)  # the first of these installs the packages
def test_we_open_what_npm_age_encryption_seals_with_a_passphrase() -> None:
    """A passphrase opens its file, and another one does not."""
    question = {"passphrase": "correct horse", "plain": base64.b64encode(b"hello").decode()}
    sealed = base64.b64decode(ask_node(SEAL, [question])[0]["sealed"])
    assert open_whole(Opener([PassphraseIdentity("correct horse")]), sealed) == b"hello"
    released, error = open_file(Opener([PassphraseIdentity("battery staple")]), sealed)
    assert released == b""
    assert "no match" in str(error)


@pytest.mark.parametrize("size", SIZES)
def test_pyrage_and_we_open_each_others_files(size: int) -> None:
    """A third implementation, in Rust, agrees about X25519."""
    identity = generate_identity("x25519")
    theirs = pyrage.x25519.Identity.from_str(identity.format())
    assert str(theirs.to_public()) == identity.recipient.format()
    assert pyrage.decrypt(seal([identity.recipient], sample(size)), [theirs]) == sample(size)
    sealed = pyrage.encrypt(sample(size), [theirs.to_public()])
    assert open_whole(Opener([identity]), sealed) == sample(size)
