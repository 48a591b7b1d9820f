"""The subject ``bistro-relay serve``: its receipts, offsets and answers to releases."""
