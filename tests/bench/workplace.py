"""A folder on a real file system, and the few requests that set a benchmark up."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tests.bench.measuring import NotMeasured
from tests.bench.proc import file_system

IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_TIMEOUT_S: Final = 30.0
_LARGE: Final = 1 << 20


def root() -> Path:
    """Where benchmarks keep their files: the first usual place whose data survives."""
    places = [Path(tempfile.gettempdir()), Path.cwd()]
    return next((place for place in places if file_system(place) not in IN_MEMORY), places[0])


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder whose large files are gone after the block, and the others with the process.

    For minutes after many deletions ext4 takes many times as long to make a file (it looks for an
    inode that was not used lately): what one case leaves must not be measured in the next one.
    """
    folder = Path(tempfile.mkdtemp(prefix="bistro-bench-", dir=root()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    try:
        yield folder
    finally:
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size >= _LARGE:
                path.unlink()


def ask(
    url: str,
    *,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    ca: Path | None = None,
) -> bytes:
    """The body of a good answer; over TLS, ``ca`` is the authority to trust.

    Raises:
        NotMeasured: There was another answer, or none.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
    if parts.scheme == "https":
        context = ssl.create_default_context(cafile=ca)
        connection = http.client.HTTPSConnection(parts.netloc, timeout=_TIMEOUT_S, context=context)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    try:
        connection.request(method, target, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        data = answer.read()
    except OSError as exc:
        raise NotMeasured(f"{url}: {exc}") from exc
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise NotMeasured(f"{url}: HTTP {answer.status}: {data[:300]!r}")
    return data


def ask_raw(port: int, request: bytes) -> bytes:
    """The whole answer to a request, head and body as they were sent.

    Raises:
        NotMeasured: There was another than a good one, or none.
    """
    answer, size = b"", -1
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_S) as connection:
        connection.sendall(request)
        while size < 0 or len(answer) < size:
            piece = connection.recv(1 << 16)
            if not piece:
                break
            answer += piece
            head, end, _ = answer.partition(b"\r\n\r\n")
            length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
            size = len(head) + len(end) + int(length or 0) if end else -1
    if not answer.startswith(b"HTTP/1.1 200 ") or len(answer) != size:
        raise NotMeasured(f"port {port}: expected a good answer, found {answer[:300]!r}")
    return answer
