"""TLS on loopback: certificates of an authority of its own, and the processes that end it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import NamedTuple

import trustme


class Issued(NamedTuple):
    """Files of a server called ``localhost``.

    Attributes:
        chain: Its certificate.
        key: Its private key.
        ca: The certificate of the authority that a client trusts.
    """

    chain: Path
    key: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        """What a client connects with."""
        return ssl.create_default_context(cafile=self.ca)


def issue(authority: trustme.CA, root: Path) -> Issued:
    """Write a new certificate of ``authority``, over an older one if there is any."""
    certificate = authority.issue_cert("localhost")
    issued = Issued(root / "chain.pem", root / "key.pem", root / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(issued.chain)
    certificate.private_key_pem.write_to_path(issued.key)
    authority.cert_pem.write_to_path(issued.ca)
    return issued


def workers_of_this_process() -> list[int]:
    """The children that end TLS, by their pids."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"bistro.daemon.worker" in _command_of(pid)]


def _command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # It ended since it was listed.
