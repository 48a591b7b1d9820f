"""Asks a relay what a destination asks, with requests signed by the call's collect key.

Each request has a fresh nonce, so a relay that saw one before refuses it; asking again signs
again.

Source: docs/spec/collection.md; RFC 9421.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

from yarl import URL

from bistro.api import media, message_signatures, routes
from bistro.clock import Clock
from bistro.crypto.signing import SigningKey
from bistro.errors import FormatError
from bistro.net.server_client import require_as_many
from bistro.net.session import Session, Stream
from bistro.wire.batches import (
    MAX_RELEASE_ANSWERS_SIZE,
    BatchItem,
    FrameHead,
    FrameReader,
    Release,
    ReleaseAnswer,
    decode_release_answers,
    encode_batch_request,
    encode_releases,
)
from bistro.wire.staging import MAX_STAGED_SIZE, StagedRow, decode_staged

Frame = FrameHead | bytes
"""A head, or bytes that belong to the head before."""

_MSGPACK = {"Content-Type": media.MSGPACK}
_NONCE_SIZE = 16


class CollectorClient:
    """A relay, as the collector of one call sees it.

    Args:
        session: An open session.
        base_url: The relay's URL in the terms.
        key: The call's collect key.
        clock: Dates signatures; a relay whose clock is far off refuses them.
    """

    def __init__(self, session: Session, base_url: str, *, key: SigningKey, clock: Clock) -> None:
        self._base = base_url
        self._session = session
        self._key = key
        self._clock = clock

    async def fetch_staged(
        self, *, after: int = 0, limit: int = 1_000, wait_s: int = 0
    ) -> tuple[StagedRow, ...]:
        """Rows with a cursor above ``after``, waiting up to ``wait_s`` for the first one."""
        query = {"after": after, "limit": limit, "wait_s": wait_s}
        url = routes.STAGED.url(self._base, query=query)
        usual = self._session.timeouts
        answer = await self._session.ask(
            "GET",
            url,
            headers=self._signed("GET", url),
            limit=MAX_STAGED_SIZE,
            timeouts=usual.streaming(read_s=usual.read_s + wait_s),
        )
        return decode_staged(answer.body)

    @contextlib.asynccontextmanager
    async def fetch_batch(
        self, items: Sequence[BatchItem], *, bytes_per_s: int | None = None
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """Fragments in one stream: iterate over heads and the bytes that follow each.

        Holds one piece of the network's at a time. Leaving early drops the connection; what
        was read is good, and the rest is asked for again from its offset.

        Args:
            items: 1 to 10,000 fragments, each from an offset to its end.
            bytes_per_s: The pace the relay is asked to keep.

        Raises:
            FormatError: While iterating: what comes is not what was asked for, in its order.
            UnavailableError: Also while iterating: the connection broke or went silent.
        """
        url = routes.BATCHES.url(self._base)
        body = encode_batch_request(items)
        headers = {**_MSGPACK, **self._signed("POST", url, body)}
        if bytes_per_s is not None:
            headers[routes.RATE] = str(bytes_per_s)
        async with self._session.stream("POST", url, headers=headers, body=body) as stream:
            media.require_media_type(stream.headers.get("Content-Type"), media.BATCH)
            async with contextlib.aclosing(_read_frames(stream, items)) as frames:
                yield frames

    async def release(self, releases: Sequence[Release]) -> tuple[ReleaseAnswer, ...]:
        """Tell that 1 to 10,000 fragments are durable here; one answer for each, in order."""
        url = routes.RELEASES.url(self._base)
        body = encode_releases(releases)
        answer = await self._session.ask(
            "POST",
            url,
            headers={**_MSGPACK, **self._signed("POST", url, body)},
            body=body,
            limit=MAX_RELEASE_ANSWERS_SIZE,
        )
        return require_as_many("release", releases, decode_release_answers(answer.body))

    def _signed(self, method: str, url: str, body: bytes = b"") -> Mapping[str, str]:
        target = URL(url, encoded=True)
        return message_signatures.sign_request(
            message_signatures.Request(
                method=method,
                authority=target.host_port_subcomponent or "",
                target=target.raw_path_qs,
                body=body,
            ),
            self._key,
            now=self._clock.now(),
            nonce=secrets.token_hex(_NONCE_SIZE),
        )


async def _read_frames(stream: Stream, items: Sequence[BatchItem]) -> AsyncGenerator[Frame, None]:
    reader = FrameReader()
    expected = iter(items)
    async with contextlib.aclosing(stream.chunks()) as chunks:
        async for chunk in chunks:
            for frame in reader.feed(chunk):
                if isinstance(frame, FrameHead):
                    _require_asked_for(frame, next(expected, None))
                yield frame
    reader.finish()
    if next(expected, None) is not None:
        raise FormatError(f"batch: expected {len(items)} frames, found fewer")


def _require_asked_for(head: FrameHead, item: BatchItem | None) -> None:
    if item is None or (head.commitment, head.index, head.offset) != (
        item.commitment,
        item.index,
        item.offset,
    ):
        raise FormatError("batch: expected the frames asked for in their order, found another")
