"""The relay: takes sealed fragments in, holds them as promised, and hands them to destinations.

Layers, each importing only what stands before it: ``settings``, ``store`` and ``metrics``,
``services``, ``http``, ``app``, ``cli``.
"""
