"""What a relay keeps: one SQLite file, segment files, signed requests, allowed destinations.

The custody ledgers are the truth about promises; rows here follow them.
"""
