"""Throws away a submission that was promised to nobody: it was never sealed."""

from __future__ import annotations

import shutil
from contextlib import suppress

from bistro.errors import ConflictError, StorageError
from bistro.protocol.submission import SubmissionState
from bistro.storage.durable import delete_file
from bistro_client.journal import Journal
from bistro_client.sealing import clear_spool
from bistro_client.wording import say


def discard(journal: Journal) -> None:
    """Delete the folder of a submission whose sealing failed; blocks.

    The journal goes last: a crash before leaves a submission that ``resume`` seals anew.

    Raises:
        ConflictError: It was sealed; nothing is deleted.
    """
    if journal.submission.state is not SubmissionState.SEALING:
        raise ConflictError(say("discarding.submission-expected-one"))
    folder = journal.folder
    # A disk that failed to seal may fail here too; the filer is told about the first failure.
    with suppress(StorageError):
        clear_spool(folder, disk=journal.disk)
        delete_file(folder.journal, disk=journal.disk)
    journal.close()
    if not folder.journal.exists():
        shutil.rmtree(folder.path, ignore_errors=True)
