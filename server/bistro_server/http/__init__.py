"""Handlers: each decodes, calls one method of a service, and encodes."""
