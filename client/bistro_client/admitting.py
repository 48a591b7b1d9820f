"""The admission of a submission to a registered call: signed once, kept, sent as it is.

Source: docs/spec/admission.md; docs/spec/journal.md, folder.
"""

from __future__ import annotations

from collections.abc import Callable

from bistro.errors import FormatError
from bistro.protocol.submission import Sealed
from bistro.storage.durable import SYSTEM_DISK, Disk, read_file, write_atomically
from bistro.wire.admission import MAX_ADMISSION_SIZE, Admission
from bistro.wire.terms import Terms
from bistro_client import messages
from bistro_client.home import Folder
from bistro_client.keyring import FilerKey


def needs_admission(terms: Terms) -> bool:
    """Whether tickets of this call are for registered filers only."""
    return terms.filers == "registered"


def admit(folder: Folder, sealed: Sealed, key: FilerKey, *, disk: Disk = SYSTEM_DISK) -> Admission:
    """Sign for what is sealed, durably, before anybody is asked.

    Raises:
        StorageError: The disk failed.
    """
    header = sealed.signed.header
    admission = Admission.sign(
        key.private, commitment=sealed.commitment, terms_hash=header.terms_hash, slot=header.slot
    )
    # A crash here leaves a signature that nobody has; the same one is made again.
    write_atomically(folder.admission, admission.encode(), disk=disk)
    return admission


def find_admission(
    folder: Folder, sealed: Sealed, key: Callable[[], FilerKey], *, disk: Disk = SYSTEM_DISK
) -> Admission:
    """The admission that was kept; signed anew where it is gone.

    Raises:
        SettingsError: It is gone, and the key is not the one that signed the submission.
        StorageError: The disk failed.
    """
    data = read_file(folder.admission, max_size=MAX_ADMISSION_SIZE, disk=disk)
    try:
        if data is not None:
            return Admission.decode(data)
    except FormatError:
        pass  # damaged: as good as gone
    found = key()
    if found.public != sealed.signed.header.filer_key:
        raise messages.another_key(found.path, sealed.signed.header.filer_key)
    return admit(folder, sealed, found, disk=disk)


def kept_admission(folder: Folder) -> bytes | None:
    """The bytes of the admission, for the evidence; ``None`` where none was needed."""
    return read_file(folder.admission, max_size=MAX_ADMISSION_SIZE)
