"""Durable files, blobs, segments and the embedded database: where promises are kept."""
