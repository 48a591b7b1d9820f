"""Reads a call's whole log as any monitor can: checkpoint and entry bundles over HTTP."""

from __future__ import annotations

from typing import Final

from bistro.api import routes
from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import root_of
from bistro.crypto.signing import VerifierKey
from bistro.errors import VerificationError
from bistro.ledger.tiles import WIDTH, TilePath, decode_bundle
from bistro.wire.checkpoint import verify_checkpoint
from tests.bench.workplace import ask

_PREFIX: Final = "tile/"


def read_log(url: str, *, call: str, key: VerifierKey) -> list[bytes]:
    """Every entry up to the newest checkpoint, whose root is computed from them again.

    Args:
        url: Where the server answers.
        call: The call's id.
        key: The call's log key, named as its origin.

    Raises:
        NotMeasured: The server did not answer.
        BistroError: What it serves is not the log that it signed.
    """
    note = ask(routes.LOG_CHECKPOINT.url(url, call=call))
    checkpoint = verify_checkpoint(note, key)
    entries: list[bytes] = []
    while len(entries) < checkpoint.size:
        width = min(WIDTH, checkpoint.size - len(entries))
        path = TilePath("entries", len(entries) // WIDTH, width).format().removeprefix(_PREFIX)
        found = list(decode_bundle(ask(routes.LOG_TILE.url(url, call=call, tile=path))))
        if len(found) != width:
            raise VerificationError(f"bundle {path}: expected {width} entries, found {len(found)}")
        entries += found
    if root_of([leaf_hash(entry) for entry in entries]) != checkpoint.root:
        raise VerificationError(f"log of {checkpoint.size} entries: not what was signed")
    return entries
