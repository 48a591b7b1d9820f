"""Hands a ticketed submission to somebody else's uploader: a folder that needs no Bistro.

The folder holds the fragments as files, and ``uploads.json``, which says where each may go and
what header field lets it in. A courier, or any tus client, does the rest; nothing in the folder
can be read, and nothing can be changed without being noticed.

A crash leaves a folder without ``uploads.json``, which is written last.

Source: docs/spec/staging.md, uploading without Bistro.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from bistro.api import routes
from bistro.crypto.treehash import TreeHash
from bistro.errors import ConflictError, SettingsError
from bistro.instant import format_rfc3339
from bistro.protocol.submission import Submission
from bistro.storage.durable import (
    SYSTEM_DISK,
    AppendFile,
    Disk,
    make_directories,
    sync_directory,
    write_atomically,
)
from bistro.wire.clauses import Relay
from bistro.wire.document import Json, encode_json
from bistro.wire.terms import Terms
from bistro_client import messages
from bistro_client.claiming import claim_of
from bistro_client.fragments import open_fragment
from bistro_client.home import Folder
from bistro_client.wording import say

FILE_NAME: Final = "uploads.json"
VERSION: Final = 1
_CHUNK_SIZE: Final = 262_144


def require_empty(out: Path) -> None:
    """Refuse a folder that holds something, before anything is sealed.

    Raises:
        SettingsError: It does, or it is no folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SettingsError(
            say("courier.expected-new-or", out=out), hint=say("courier.name-another-one")
        )


def hand_out(
    folder: Folder, submission: Submission, terms: Terms, out: Path, *, disk: Disk = SYSTEM_DISK
) -> None:
    """Write the fragments and ``uploads.json`` into ``out``; all durable. Blocks.

    Args:
        folder: Of the submission.
        submission: With its ticket.
        terms: Name the relays.
        out: New or empty.
        disk: The system calls to use.

    Raises:
        ConflictError: There is no ticket yet.
        StorageError: A fragment is damaged, or the disk is full or failed.
    """
    if submission.sealed is None:
        raise ConflictError(say("courier.claim-expected-sealed"))
    layout = submission.sealed.cut.layout
    make_directories(out, disk=disk)
    for index in range(layout.n):
        _copy(folder, submission, index, out / _name(index), disk)
    sync_directory(out, disk=disk)
    write_atomically(out / FILE_NAME, encode_json(_listed(submission, terms)), disk=disk)


def _copy(folder: Folder, submission: Submission, index: int, path: Path, disk: Disk) -> None:
    assert submission.sealed is not None  # noqa: S101 - looked at before
    layout = submission.sealed.cut.layout
    size = layout.fragment_size
    digest = TreeHash()
    with (
        open_fragment(folder, layout, index, disk=disk) as fragment,
        AppendFile.create(path, disk=disk) as file,
    ):
        at = 0
        while at < size:
            chunk = fragment.read(offset=at, size=min(_CHUNK_SIZE, size - at))
            if not chunk:
                raise messages.lost_fragment(fragment.path)
            digest.update(chunk)
            file.append(chunk)
            at += len(chunk)
        # Whoever carries it cannot tell, and relays would refuse it when it may be too late.
        if digest.digest() != submission.sealed.cut.descriptors[index].fragment_hash:
            raise messages.lost_fragment(fragment.path)
        file.sync()


def _listed(submission: Submission, terms: Terms) -> dict[str, Json]:
    assert submission.sealed is not None  # noqa: S101 - looked at before
    layout = submission.sealed.cut.layout
    return {
        "version": VERSION,
        "submission": submission.id,
        "call": str(submission.request.origin),
        "commitment": submission.sealed.commitment.hex(),
        "stage_by": format_rfc3339(terms.stage_by),
        "needed": layout.k,
        "relays": [{"name": one.name, "endpoint": _endpoint(one)} for one in terms.relays],
        "fragments": [_fragment(submission, terms, index) for index in range(layout.n)],
    }


def _fragment(submission: Submission, terms: Terms, index: int) -> dict[str, Json]:
    claim = claim_of(submission, index)
    # One after the other, so that no relay gets more than it must.
    relay = terms.relays[index % len(terms.relays)]
    value = base64.b64encode(claim.encode()).decode()
    return {
        "file": _name(index),
        "index": index,
        "size": claim.descriptor.size,
        "endpoint": _endpoint(relay),
        "headers": {routes.METADATA: f"{routes.CLAIM_KEY} {value}"},
    }


def _endpoint(relay: Relay) -> str:
    return routes.UPLOAD_CREATION.url(relay.url)


def _name(index: int) -> str:
    return f"{index}.fragment"
