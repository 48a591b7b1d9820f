"""The age v1 file format: keys, header, payload, armor.

``bistro.crypto.sealing`` is the door; nothing outside this package needs more.

Source: C2SP age specification (c2sp.org/age); docs/spec/filing.md.
"""
