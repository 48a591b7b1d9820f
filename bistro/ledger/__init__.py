"""The append-only logs behind every promise: write-ahead file, tiles, index, sequencer.

A promise is an entry. Entries that wait together form one batch: appended to the write-ahead
file with the checkpoint that covers them, made durable, and only then answered. Everything
else here (tiles, bundles, index, snapshot) is derived from that file and can be made again.
"""
