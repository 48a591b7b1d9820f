"""Measurements: each beside a floor that is measured in the same run, on the same cores.

Run as ``python -m tests.bench [--only ticket|relay|client|collect] [--json bench.json]``.

Source: docs/reference/benchmarks.md.
"""
