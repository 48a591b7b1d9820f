"""What the server keeps besides its ledgers: one SQLite file, and signed status files.

The ledgers are the truth about tickets; rows here follow them and may lag behind.
"""
