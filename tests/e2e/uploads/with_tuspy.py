"""Uploads one file with tuspy, and says what was taken: a program of its own.

It keeps the addresses of uploads in a file, so that started again it goes on where it was.
"""

from __future__ import annotations

import sys
from base64 import b64decode
from typing import Any

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage


def main(file: str, endpoint: str, metadata: str, storage: str) -> None:
    """Upload ``file``; the claim is binary, so its metadata are Latin-1."""
    claim = b64decode(metadata.removeprefix("claim "))
    uploader = TusClient(endpoint).uploader(
        file_path=file,
        chunk_size=1_000_000,
        metadata={"claim": claim.decode("latin-1")},
        metadata_encoding="latin-1",
        retries=50,
        retry_delay=1,
        store_url=True,
        url_storage=FileStorage(storage),
        upload_checksum=True,
    )
    size = uploader.get_file_size()
    sys.stdout.write(f"taken {uploader.offset}\n")
    while uploader.offset < size:
        uploader.upload_chunk()
        request: Any = uploader.request  # declared to be None, for ever
        receipt = request.response_headers.get("bistro-receipt", "")
        sys.stdout.write(f"taken {uploader.offset}\nreceipt {receipt}\n")
        sys.stdout.flush()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
