"""Shows that nobody is starved: a greedy filer, a forger, and an office behind one address.

Run as ``python -m tests.fairness``, or ``make fairness``; what it found is in
docs/reference/fairness.md.
"""
