"""Says beforehand how long a submission takes, and until when it may be begun.

Asks the destination for the terms and the relays how they are, seals a sample on this disk and
throws it away. Nothing is sent, pinned or kept.

Source: docs/spec/commands.md, forecast.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.clock import Clock
from bistro.crypto.keyfile import generate_filer_key
from bistro.crypto.signing import VerifierKey
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.net.session import Session
from bistro.protocol.deadline import latest_on_time
from bistro.protocol.fragmenting import fragment_size
from bistro.protocol.submission import Request
from bistro.storage.durable import make_directories
from bistro.wire.terms import SignedTerms, Terms
from bistro_client.contact import Destination, Reception
from bistro_client.gathering import Source, gather, require_fits
from bistro_client.home import Folder, Home
from bistro_client.keyring import FilerKey
from bistro_client.known_servers import KnownServers
from bistro_client.listening import Listener
from bistro_client.probing import Probed, probe_all
from bistro_client.sealing import Order, seal

SAMPLE_SIZE: Final = 33_554_432
TICKET_MS: Final = 5_000
"""What asking for the ticket may take on a bad line, with tries that are lost."""
MARGIN: Final = 2
"""A machine may be half as fast in the last minutes as it was for the sample."""
_FILE_OVERHEAD: Final = 2_048
_CHUNK: Final = 4_096
_BITS: Final = 8
_MS_PER_S: Final = 1_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is known before a submission.

    Attributes:
        terms: The latest.
        now: The destination's time.
        offset_ms: Its clock minus ours; None if it does not say.
        file_count: Files.
        size: Their bytes.
        sealing_ms: How long sealing them takes here, as a sample shows.
        free_size: Bytes that are free on the disk of the home.
        relays: All of the call, as they are now.
    """

    terms: Terms
    now: UnixMillis
    offset_ms: int | None
    file_count: int
    size: int
    sealing_ms: int
    free_size: int
    relays: tuple[Probed, ...]

    @property
    def latest_start(self) -> UnixMillis:
        """The last moment to begin to seal and be on time, with a margin."""
        needed_ms = self.sealing_ms * MARGIN + TICKET_MS
        return UnixMillis(max(0, latest_on_time(self.terms) - needed_ms))

    @property
    def is_in_time(self) -> bool:
        """Whether that moment is still to come."""
        return self.now <= self.latest_start

    @property
    def fragment_size(self) -> int:
        """Bytes of one fragment, about."""
        overhead = self.file_count * _FILE_OVERHEAD + self.size // _CHUNK + _CHUNK
        return fragment_size(self.size + overhead, self.terms.spread.k)

    @property
    def needed_size(self) -> int:
        """Bytes that must have reached relays to be staged."""
        return self.fragment_size * self.terms.spread.k

    @property
    def disk_size(self) -> int:
        """Bytes that are kept on this disk until they are collected: parity is computed."""
        return self.fragment_size * self.terms.spread.k

    def staging_ms(self, line_bits: int) -> int:
        """How long it takes until staged over a line of so many bits a second."""
        return self.needed_size * _BITS * _MS_PER_S // max(1, line_bits)

    @property
    def least_line_bits(self) -> int:
        """Bits a second without which it cannot be staged in time, if sealed now."""
        left_ms = self.terms.stage_by - self.now - self.sealing_ms
        return -(-self.needed_size * _BITS * _MS_PER_S // max(1, left_ms))

    def is_staged_in_time(self, line_bits: int) -> bool:
        """Whether a line of so many bits a second is enough, if sealed now."""
        done = self.now + self.sealing_ms + self.staging_ms(line_bits)
        return done <= self.terms.stage_by


async def forecast(  # noqa: PLR0913 - where, what and with what
    home: Home,
    session: Session,
    clock: Clock,
    listener: Listener,
    *,
    paths: Sequence[Path],
    url: str,
    call: str | None = None,
    trust: VerifierKey | None = None,
) -> Forecast:
    """Look at everything that decides whether ``paths`` will be on time at ``url``.

    Raises:
        LimitExceededError: More or larger files than the terms allow.
        SettingsError: Something cannot be filed.
        UnavailableError: The destination cannot be reached.
        VerificationError: It is not the one that is trusted.
    """
    sources = await asyncio.to_thread(gather, paths)
    reception = Reception(session, KnownServers(home.known_servers), clock, listener)
    destination = await reception.reach(url, given=trust, may_pin=False)
    origin = destination.choose_call(call)
    versions = await destination.fetch_versions(origin)
    require_fits(sources, versions.terms)
    relays = await probe_all(session, versions.terms, clock)
    signed = versions.latest.signed
    sealing_ms = await asyncio.to_thread(_seal_sample, home, sources, signed, origin, clock)
    return _facts(destination, signed.terms, sources, sealing_ms, relays, home)


def _facts(
    destination: Destination,
    terms: Terms,
    sources: Sequence[Source],
    sealing_ms: int,
    relays: tuple[Probed, ...],
    home: Home,
) -> Forecast:
    return Forecast(
        terms=terms,
        now=destination.time.now(),
        offset_ms=destination.time.offset_ms,
        file_count=len(sources),
        size=sum(source.size for source in sources),
        sealing_ms=sealing_ms,
        free_size=shutil.disk_usage(home.root).free,
        relays=relays,
    )


def _seal_sample(
    home: Home, sources: Sequence[Source], terms: SignedTerms, origin: Origin, clock: Clock
) -> int:
    """Milliseconds for all, measured with as many random bytes on the same disk; blocks."""
    size = sum(source.size for source in sources)
    sample_size = max(1, min(size, SAMPLE_SIZE))
    make_directories(home.root)
    with tempfile.TemporaryDirectory(prefix=".forecast-", dir=home.root) as name:
        folder = Folder(Path(name) / "sample")
        folder.path.mkdir()
        sample = Path(name) / "sample.bin"
        sample.write_bytes(secrets.token_bytes(sample_size))
        request = Request((str(sample),), "", "", origin, "main")
        key = FilerKey(sample, generate_filer_key())
        source = Source("sample.bin", sample, sample_size)
        order = Order.new(request, (source,), terms, key)
        began_ms = clock.monotonic_ms()
        seal(order, folder)
        took_ms = clock.monotonic_ms() - began_ms
    return took_ms * max(size, sample_size) // sample_size
