"""The demo: the whole path once, with real processes on loopback, and every promise checked.

``python -m tests.e2e.demo`` starts one destination and three relays, files 40 generated filings
by several clients before a deadline 20 s away, kills a relay in the middle of an upload, files
one too late, collects, opens, verifies all evidence offline, and writes ``demo-report.html``.
"""
