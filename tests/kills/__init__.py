"""Kills the filer's program at random moments, many times, and counts what was promised.

See docs/reference/client-kills.md.
"""
