"""The floors of ``relay.*`` and ``collect.pull``: bare ``aiohttp`` and ``uvloop``.

| request | does |
|---|---|
| ``POST /uploads`` | hashes, verifies and makes one signature, writes one file, fdatasync |
| ``POST /large`` | hashes and writes the body as it comes, fdatasync before the answer |
| ``GET /stream`` | streams a file |
| ``GET /fragments/{number}`` | answers with one small file, read in one of 16 threads |
| ``GET /signed/{number}`` | the same, and verifies one signature before |
| ``DELETE /stored`` | unlinks everything that was written |

Small files are written by 16 threads; signatures are Ed25519.

Run as ``python -m tests.bench.floors.relay PORT FOLDER [--file FILE]``; with ``--certificate PEM
--key PEM`` it speaks TLS.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Final

import click
import uvloop
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

THREADS: Final = 16
BUFFER_SIZE: Final = 524_288
PIECE_SIZE: Final = 262_144
_CHECKPOINT: Final = b"bench.example/spring\n100000\n" + b64encode(bytes(32)) + b"\n"
"""About as long as what the signature in a claim is over."""


class Floor:
    """Handlers; what they write lies in ``folder``."""

    def __init__(self, folder: Path, file: Path | None) -> None:
        self._folder = folder
        self._file = file
        self._numbers = count()
        self._threads = ThreadPoolExecutor(THREADS)
        self._key = Ed25519PrivateKey.generate()
        self._public = self._key.public_key()
        self._signature = self._key.sign(_CHECKPOINT)

    def app(self) -> web.Application:
        """The app with all routes."""
        app = web.Application()
        app.router.add_post("/uploads", self.take_small)
        app.router.add_post("/large", self.take_large)
        app.router.add_get("/stream", self.stream)
        app.router.add_get(r"/fragments/{number:\d+}", self.fragment)
        app.router.add_get(r"/signed/{number:\d+}", self.signed_fragment)
        app.router.add_delete("/stored", self.delete_all)
        return app

    async def take_small(self, request: web.Request) -> web.Response:
        """One fragment in one request."""
        body = await request.read()
        digest = hashlib.sha256(body).digest()
        self._public.verify(self._signature, _CHECKPOINT)
        receipt = b64encode(self._key.sign(digest)).decode()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, _write, self._next_path(), body)
        return web.Response(status=201, headers={"Bistro-Receipt": receipt})

    async def take_large(self, request: web.Request) -> web.Response:
        """One fragment, streamed."""
        digest = hashlib.sha256()
        with self._next_path().open("wb", buffering=0) as file:
            async for chunk in request.content.iter_any():
                digest.update(chunk)
                file.write(chunk)
            await asyncio.to_thread(os.fdatasync, file.fileno())
        return web.Response(status=201, headers={"Bistro-Receipt": digest.hexdigest()})

    async def stream(self, request: web.Request) -> web.Response:
        """The file, in pieces."""
        return web.Response(body=self._pieces())

    async def fragment(self, request: web.Request) -> web.Response:
        """One small file."""
        path = self._folder / request.match_info["number"]
        loop = asyncio.get_running_loop()
        return web.Response(body=await loop.run_in_executor(self._threads, path.read_bytes))

    async def signed_fragment(self, request: web.Request) -> web.Response:
        """One small file, for whoever may have it."""
        self._public.verify(self._signature, _CHECKPOINT)
        return await self.fragment(request)

    async def delete_all(self, request: web.Request) -> web.Response:
        """Unlink what was written."""
        names = list(self._folder.iterdir())
        for path in names:
            path.unlink()
        return web.Response(text=str(len(names)))

    def _next_path(self) -> Path:
        return self._folder / str(next(self._numbers))

    async def _pieces(self) -> AsyncIterator[bytes]:
        assert self._file is not None
        with self._file.open("rb", buffering=0) as file:
            while piece := file.read(PIECE_SIZE):
                yield piece


def _write(path: Path, body: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        os.write(file, body)
        os.fdatasync(file)
    finally:
        os.close(file)


async def _serve(port: int, floor: Floor, tls: ssl.SSLContext | None) -> None:
    runner = web.AppRunner(floor.app(), access_log=None, read_bufsize=BUFFER_SIZE)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1_024, ssl_context=tls).start()
    await asyncio.Event().wait()


@click.command()
@click.argument("port", type=int)
@click.argument("folder", type=click.Path(path_type=Path, exists=True))
@click.option("--file", type=click.Path(path_type=Path, exists=True))
@click.option("--certificate", type=click.Path(path_type=Path, exists=True))
@click.option("--key", type=click.Path(path_type=Path, exists=True))
def main(
    port: int, folder: Path, file: Path | None, certificate: Path | None, key: Path | None
) -> None:
    """Serve until stopped."""
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
    uvloop.run(_serve(port, Floor(folder, file), tls))


if __name__ == "__main__":
    main()
