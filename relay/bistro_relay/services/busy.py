"""One request at a time for each upload.

Source: docs/spec/staging.md, continuing; tus 1.0 leaves concurrent requests to the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class UploadBusyError(Exception):
    """Another request writes to the upload; no ``BistroError``, because tus answers it 423."""


class UploadEndedError(Exception):
    """The upload expired, was given up or dropped; tus answers it 410."""


class BusyUploads:
    """Which uploads a request, or the part that expires them, works on."""

    def __init__(self) -> None:
        self._ids: set[str] = set()

    def __contains__(self, upload_id: object) -> bool:
        """Whether somebody works on it."""
        return upload_id in self._ids

    @contextmanager
    def held(self, upload_id: str) -> Iterator[None]:
        """Work on an upload for as long as the block runs.

        Raises:
            UploadBusyError: Somebody else does.
        """
        if upload_id in self._ids:
            raise UploadBusyError(upload_id)
        self._ids.add(upload_id)
        try:
            yield
        finally:
            self._ids.discard(upload_id)
