"""Amending and withdrawing: a new submission that names an earlier one of the same filer.

Both are submissions like any other, with a ticket and receipts of their own. They count only
under the key and slot of the one that they change.

Source: docs/spec/filing.md, header; docs/spec/opening.md, slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bistro.crypto.signing import VerifierKey
from bistro.wire.header import Kind
from bistro_client import messages
from bistro_client.home import Folder
from bistro_client.journal import read_journal
from bistro_client.submitting import Wish


def amendment(folder: Folder, paths: Sequence[Path], *, form: str | None = None) -> Wish:
    """What to submit so that ``paths`` take the place of an earlier submission's files.

    Args:
        folder: Of the earlier submission.
        paths: All files of the new filing: an amendment is complete.
        form: Form type; that of the earlier submission where none is given.

    Raises:
        RefusedError: There is nothing to amend: the earlier one has no ticket.
    """
    return _change(folder, "amend", paths, form)


def withdrawal(folder: Folder) -> Wish:
    """What to submit so that nothing of the slot counts any more; arguments as above."""
    return _change(folder, "withdraw", (), None)


def _change(folder: Folder, kind: Kind, paths: Sequence[Path], form: str | None) -> Wish:
    earlier = read_journal(folder)
    if earlier.ticket is None or earlier.sealed is None:
        raise messages.nothing_to_change(folder.id, kind)
    request, header = earlier.request, earlier.sealed.signed.header
    return Wish(
        paths=paths,
        url=request.server_url,
        call=request.origin.call,
        slot=request.slot,
        form=form or (request.form if kind == "amend" else None),
        key_file=None if request.key_file is None else Path(request.key_file),
        trust=VerifierKey.parse(request.terms_key),
        kind=kind,
        previous=earlier.sealed.commitment,
        filer_key=header.filer_key,
    )
