"""Hashes fragments by reading them back, on all cores.

The first unit of an envelope is sealed last, and SHA-256 runs from the first byte: so hashes
are taken from the spool. What is read is held against a checksum of what was written. A disk or
memory that errs makes sealing fail now; the commitment would else be true to the error, and the
filing void.

Source: docs/spec/fragments.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final

from bistro.crypto.treehash import TreeHash
from bistro.protocol.fragmenting import fragment_size
from bistro.wire.fragment import UNIT_SIZE, Cut, Descriptor, Layout
from bistro_client.spool import SpoolFile

_PIECE_SIZE: Final = 4 * UNIT_SIZE


@dataclass(frozen=True, slots=True)
class ReadingBack:
    """The files of a spool, all written.

    Attributes:
        files: One for each fragment.
        k: Fragments that restore the envelope.
        done: Told of every few bytes that were hashed; may raise to stop.
    """

    files: Sequence[SpoolFile]
    envelope_size: int
    k: int
    done: Callable[[int], None]

    @property
    def total(self) -> int:
        """Bytes that ``done`` will be told of."""
        fragments = len(self.files) * self._fragment_size
        return fragments + (self.envelope_size if self.k > 1 else 0)

    def cut(self) -> Cut:
        """What the commitment says about the envelope and its fragments.

        Raises:
            StorageError: A fragment is not what was written.
        """
        n = len(self.files)
        with ThreadPoolExecutor(min(n + 1, _core_count())) as pool:
            # The envelope takes longest, so it is the first to begin.
            envelope = pool.submit(self._hash_envelope) if self.k > 1 else None
            fragments = [pool.submit(self._hash_fragment, file) for file in self.files]
            envelope = envelope or fragments[0]  # for k = 1 they are the same bytes
            try:
                wait([envelope, *fragments], return_when=FIRST_EXCEPTION)
                layout = Layout(envelope.result(), self.envelope_size, self.k, n)
                descriptors = tuple(
                    Descriptor(index, layout.fragment_size, fragment.result())
                    for index, fragment in enumerate(fragments)
                )
            finally:
                pool.shutdown(cancel_futures=True)
        return Cut(layout, descriptors)

    @property
    def _fragment_size(self) -> int:
        return fragment_size(self.envelope_size, self.k)

    def _hash_fragment(self, file: SpoolFile) -> bytes:
        digest = TreeHash()
        for piece in file.pieces(self._fragment_size, at_most=_PIECE_SIZE):
            digest.update(piece)
            self.done(len(piece))
        return digest.digest()

    def _hash_envelope(self) -> bytes:
        digest = TreeHash()
        left = self.envelope_size
        data = [
            file.pieces(self._fragment_size, at_most=UNIT_SIZE) for file in self.files[: self.k]
        ]
        for row in zip(*data, strict=True):
            before = left
            for unit in row:
                digest.update(unit[:left])
                left -= min(len(unit), left)
            self.done(before - left)
        return digest.digest()


def _core_count() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
