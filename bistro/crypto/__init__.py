"""Bytes in, bytes out: hashes, trees, signatures, envelopes and the erasure code."""
