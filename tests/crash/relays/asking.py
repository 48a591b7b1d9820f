"""Requests to a relay, and what its answers say: one object for everybody who asks.

Source: docs/spec/staging.md; docs/spec/collection.md; tus 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import ssl
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from bistro.api import media, message_signatures, routes
from bistro.clock import SystemClock
from bistro.crypto.signing import SigningKey
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT
from bistro.wire.batches import (
    BatchItem,
    FrameHead,
    FrameReader,
    Release,
    ReleaseAnswer,
    decode_release_answers,
    encode_batch_request,
    encode_releases,
)
from bistro.wire.batches import (
    Released as ReleasedAnswer,
)
from bistro.wire.staging import StagedRow, decode_staged
from tests.crash.connections import HOST, Answer, Asked, Connection, GoneError
from tests.crash.relays.memory import Ended, Held, RelayMemory, Released, Told
from tests.crash.relays.town import AUTHORITY, Fragment

_TUS: Final = {routes.TUS_RESUMABLE: routes.TUS_VERSION}
_BYTES: Final = {**_TUS, "Content-Type": media.TUS_BYTES}
_NONCE_SIZE: Final = 16


def encode(method: str, path: str, fields: Mapping[str, str | int], body: bytes = b"") -> bytes:
    """A request."""
    every = {"Host": HOST, "Content-Length": len(body), **fields}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in every.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


@dataclass
class RelayClients:
    """Asks, and remembers what was answered.

    Attributes:
        origin: The call.
        collect_key: Signs what its destination asks for.
        memory: What was told.
        answers: How many of which kind.
        problems: What cannot be right.
        tls: With which they connect, if they do.
        takes_until: When the relay may stop to take new fragments.
    """

    origin: Origin
    collect_key: SigningKey
    memory: RelayMemory
    answers: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    tls: ssl.SSLContext | None = None
    takes_until: int = MAX_INSTANT

    # --- filers ---

    @property
    def is_late(self) -> bool:
        """Whether nobody promised that a new fragment is still taken."""
        return SystemClock().now() > self.takes_until

    def creation(self, fragment: Fragment, body: bytes | None) -> bytes:
        """The request that begins an upload, with its first bytes or all."""
        now = SystemClock().now()
        self.memory.asked_at.setdefault(fragment.key, now)
        claim = base64.b64encode(fragment.claim).decode()
        fields: dict[str, str | int] = {
            **(_TUS if body is None else _BYTES),
            routes.LENGTH: len(fragment.data),
            routes.METADATA: f"{routes.CLAIM_KEY} {claim}",
        }
        return encode("POST", routes.UPLOAD_CREATION.path(), fields, body or b"")

    async def create(
        self, connection: Connection, fragment: Fragment, body: bytes | None = None
    ) -> str | None:
        """Begin an upload; its path, if there is one now."""
        answer, asked = await self._exchange(connection, self.creation(fragment, body))
        if answer.status != 201:
            return None
        path = urlsplit(answer.fields["location"]).path
        self._take(fragment, path, answer, asked)
        return path

    def piece(
        self, fragment: Fragment, path: str, *, at: int, size: int, has_checksum: bool = False
    ) -> bytes:
        """The request that continues an upload."""
        self.memory.asked_at.setdefault(fragment.key, SystemClock().now())
        data = fragment.data[at : at + size]
        fields: dict[str, str | int] = {**_BYTES, routes.OFFSET: at}
        if has_checksum:
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            fields[routes.CHECKSUM] = f"sha256 {digest}"
        return encode("PATCH", path, fields, data)

    async def append(
        self, connection: Connection, fragment: Fragment, path: str, request: bytes
    ) -> int:
        """Continue an upload; the status."""
        answer, asked = await self._exchange(connection, request)
        if answer.status == 204:
            self._take(fragment, path, answer, asked)
        return answer.status

    @staticmethod
    def head(path: str) -> bytes:
        """The request for an upload's offset."""
        return encode("HEAD", path, _TUS)

    async def look(self, connection: Connection, fragment: Fragment, path: str) -> int | None:
        """The offset of an upload; ``None``: it is not told, or there is no such upload."""
        known = self._known_offset(path)
        answer, asked = await self._exchange(connection, self.head(path), is_head=True)
        if answer.status != 200:
            return None
        offset = int(answer.fields["upload-offset"])
        if offset < known:
            self.problems.append(f"{path}: at {offset}, when {known} was known")
        self._take(fragment, path, answer, asked)
        return offset

    def _known_offset(self, path: str) -> int:
        return max((one.offset for one in self.memory.told if one.upload == path), default=0)

    async def terminate(self, connection: Connection, path: str) -> None:
        """Give an upload up."""
        self.memory.end_wanted.add(path)
        answer, asked = await self._exchange(connection, encode("DELETE", path, _TUS))
        if answer.status == 204:
            self.memory.ended.append(Ended(path, asked))

    async def fetch_receipt(
        self, connection: Connection, fragment: Fragment, path: str
    ) -> str | None:
        """The receipt's text as it is served by itself."""
        answer, asked = await self._exchange(connection, encode("GET", f"{path}/receipt", {}))
        if answer.status != 200:
            return None
        text = answer.body.decode()
        self.memory.held.append(Held(fragment, path, text, asked))
        return text

    def _take(self, fragment: Fragment, path: str, answer: Answer, asked: Asked) -> None:
        """Remember a receipt, or else an offset."""
        receipt = answer.fields.get("bistro-receipt")
        if receipt is not None:
            text = base64.b64decode(receipt).decode()
            self.memory.held.append(Held(fragment, path, text, asked))
        else:
            offset = int(answer.fields["upload-offset"])
            self.memory.told.append(Told(fragment, path, offset, asked))

    # --- the collector ---

    async def knows_terms(self, connection: Connection) -> bool:
        """Whether the relay serves the terms of the call."""
        origin = self.origin
        path = routes.RELAY_TERMS.path(server=origin.server, call=origin.call)
        answer, _ = await self._exchange(connection, encode("GET", path, {}))
        return answer.status == 200

    async def staged(
        self, connection: Connection, *, after: int
    ) -> tuple[tuple[StagedRow, ...], Asked] | None:
        """Rows above a cursor."""
        path = routes.STAGED.path(query={"after": after, "limit": 1_000, "wait_s": 0})
        answer, asked = await self._exchange(connection, self._signed("GET", path))
        return None if answer.status != 200 else (decode_staged(answer.body), asked)

    async def pull(
        self, connection: Connection, items: Sequence[BatchItem]
    ) -> list[tuple[FrameHead, bytes]]:
        """Fragments, or why they are not had.

        Raises:
            GoneError: The stream was cut, or refused.
        """
        body = encode_batch_request(items)
        request = self._signed("POST", routes.BATCHES.path(), body)
        answer, _ = await self._exchange(connection, request)
        if answer.status != 200:
            raise GoneError(f"batches: status {answer.status}: {answer.body[:200]!r}")
        reader, found = FrameReader(), list[tuple[FrameHead, bytes]]()
        for frame in reader.feed(answer.body):
            if isinstance(frame, FrameHead):
                found.append((frame, b""))
            else:
                head, data = found[-1]
                found[-1] = (head, data + bytes(frame))
        reader.finish()
        return found

    async def release(
        self, connection: Connection, fragments: Sequence[Fragment]
    ) -> Sequence[ReleaseAnswer] | None:
        """Say that fragments are durable at the destination."""
        self.memory.release_wanted.update(one.key for one in fragments)
        body = encode_releases(
            [Release(self.origin, *one.key, fragment_hash=one.fragment_hash) for one in fragments]
        )
        request = self._signed("POST", routes.RELEASES.path(), body)
        answer, asked = await self._exchange(connection, request)
        if answer.status != 200:
            return None
        answers = decode_release_answers(answer.body)
        for fragment, one in zip(fragments, answers, strict=True):
            if isinstance(one, ReleasedAnswer):
                self.memory.released.append(Released(fragment, asked))
        return answers

    def _signed(self, method: str, target: str, body: bytes = b"") -> bytes:
        fields = message_signatures.sign_request(
            message_signatures.Request(method, AUTHORITY, target, body),
            self.collect_key,
            now=SystemClock().now(),
            nonce=secrets.token_hex(_NONCE_SIZE),
        )
        if body:
            fields["Content-Type"] = media.MSGPACK
        return encode(method, target, fields, body)

    async def _exchange(
        self, connection: Connection, request: bytes, *, is_head: bool = False
    ) -> tuple[Answer, Asked]:
        sent_at = SystemClock().now()
        answer = await connection.exchange(request, is_head=is_head)
        asked = connection.asked(self.memory.life, sent_at)
        self.answers[f"status {answer.status}"] += 1
        return answer, asked
