"""What a batch of entries needs many thousand times a second, over whole lists at once.

In C where that was compiled (``bulk_c``), else in Python, byte for byte the same and several
times slower. What each function does is said in ``bulk_python``.

Source: docs/decisions/0024-a-few-functions-in-c.md.
"""

from __future__ import annotations

__all__ = [
    "IS_COMPILED",
    "add_prints",
    "cut_alike",
    "joined_columns",
    "keyed_digests",
    "known_prints",
    "leaf_hashes",
    "piece_leaves",
    "proof_texts",
    "sorted_rows",
    "spelled_entries",
    "tree_levels",
]

IS_COMPILED = True
"""Whether these are the functions in C."""

try:
    from bistro.crypto._bulk import (
        add_prints,
        cut_alike,
        joined_columns,
        keyed_digests,
        known_prints,
        leaf_hashes,
        piece_leaves,
        proof_texts,
        sorted_rows,
        spelled_entries,
        tree_levels,
    )
except ImportError:
    from bistro.crypto.bulk_python import (
        add_prints,
        cut_alike,
        joined_columns,
        keyed_digests,
        known_prints,
        leaf_hashes,
        piece_leaves,
        proof_texts,
        sorted_rows,
        spelled_entries,
        tree_levels,
    )

    IS_COMPILED = False
