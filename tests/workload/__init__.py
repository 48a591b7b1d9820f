"""Replays of real deadlines against a real server, with clients that wait for nobody.

Run as ``python -m tests.workload --profile C|D|F|G``.

Source: docs/reference/workload.md.
"""
