"""Every service of a relay, given what it needs: the one place where settings become objects.

Source: docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bistro.clock import Clock
from bistro.crypto.signing import SigningKey
from bistro.daemon.metrics import PartMetrics, new_registry
from bistro.net.session import Session
from bistro.storage.blobs import BlobStore
from bistro.storage.durable import SYSTEM_DISK, Disk
from bistro_relay.metrics import RelayMetrics
from bistro_relay.services.accounts import Accounts
from bistro_relay.services.arrivals import Arrivals
from bistro_relay.services.busy import BusyUploads
from bistro_relay.services.claims import ClaimDesk, IntakeLimits
from bistro_relay.services.collectors import CollectorDesk
from bistro_relay.services.crawling import Crawls
from bistro_relay.services.custody import Custody
from bistro_relay.services.ending import Ending
from bistro_relay.services.frames import Frames
from bistro_relay.services.handing import Handing
from bistro_relay.services.intake import Intake
from bistro_relay.services.keeper import Keeper
from bistro_relay.services.ledgers import CustodyLedgers
from bistro_relay.services.orders import HandingPace, StandingOrders
from bistro_relay.services.overview import Identity, Overview
from bistro_relay.services.pacing import Pacing
from bistro_relay.services.quotas import Quotas, UploadQuotas
from bistro_relay.services.receiving import Receiver
from bistro_relay.services.records import Records
from bistro_relay.services.recovery import Recovery
from bistro_relay.services.room import Gate, Room, SampledDisk
from bistro_relay.services.shelf_recovery import ShelfRecovery
from bistro_relay.services.sisters import Sisters
from bistro_relay.services.small_ends import SmallEnds
from bistro_relay.services.statement import Statements
from bistro_relay.services.takedowns import Takedowns
from bistro_relay.services.tending import Tending
from bistro_relay.services.terms_book import Pace, TermsBook
from bistro_relay.services.whole import WholeIntake
from bistro_relay.settings import LimitSettings, Settings
from bistro_relay.store.accounts import AccountStore
from bistro_relay.store.destinations import DestinationFiles
from bistro_relay.store.orders import OrdersFile
from bistro_relay.store.placing import PlacedUploads
from bistro_relay.store.segments import SegmentFiles
from bistro_relay.store.shared import SharedFiles
from bistro_relay.store.shelf import Shelf
from bistro_relay.store.spool import SpoolFile
from bistro_relay.store.takedowns import TakedownFiles
from bistro_relay.store.terms import NonceStore, TermsStore
from bistro_relay.store.uploads import UploadStore

REQUESTS: Final = "requests"
"""Folder of the signed releases that are kept."""


@dataclass(frozen=True)
class Surroundings:
    """What a test replaces.

    Attributes:
        clock: Tells and stamps time.
        disk: System calls of files; the database makes its own.
        free_disk: Bytes free where the data lies.
    """

    clock: Clock
    disk: Disk = SYSTEM_DISK
    free_disk: Callable[[], int] | None = None


class Services:
    """All services of one relay, each given what it needs.

    Args:
        settings: The relay's.
        around: Clock and disk.
        key: The relay's key.
        uploads: Rows of uploads.
        placed: The same rows, of fragments in shared segments.
        accounts: Rows of what came and left.
        terms: Rows of terms.
        nonces: Rows of nonces.
        session: Asks destinations.
    """

    def __init__(  # noqa: PLR0913 - the composition root
        self,
        settings: Settings,
        around: Surroundings,
        key: SigningKey,
        *,
        uploads: UploadStore,
        placed: PlacedUploads,
        accounts: AccountStore,
        terms: TermsStore,
        nonces: NonceStore,
        session: Session,
    ) -> None:
        directory, limits = settings.relay.data_path, settings.limits
        clock, disk = around.clock, around.disk
        self.settings = settings
        self.registry = new_registry()
        self.part_metrics = PartMetrics.register(self.registry)
        metrics = RelayMetrics.register(self.registry)
        files = SegmentFiles(directory, disk=disk)
        shared = SharedFiles(directory, disk=disk)
        self.uploads = uploads
        self.accounts = Accounts(
            accounts, clock, traffic_bytes=limits.traffic_bytes, metrics=metrics
        )
        self.room = Room(
            around.free_disk or SampledDisk(directory, clock),
            self.accounts,
            reserve_bytes=limits.reserve_bytes,
            fragments_count=limits.fragments_count,
            metrics=metrics,
        )
        self.quotas = Quotas(_quotas(limits), clock)
        self.orders = StandingOrders(
            OrdersFile(directory, disk=disk), _pace(settings), clock, metrics=metrics
        )
        pacing = Pacing(clock, self.orders, self.accounts, self.room)
        shelf = Shelf(shared, self.room.free_bytes)
        self.gate = Gate(
            limits.uploads_count,
            per_address=limits.uploads_per_address_count,
            per_s=limits.requests_per_address_per_s,
        )
        metrics.open_uploads.set_function(lambda: self.gate.count)
        self.arrivals = Arrivals()
        self.book = TermsBook(
            DestinationFiles(directory, disk=disk),
            terms,
            session,
            clock,
            pace=Pace(settings.terms.poll_s, settings.terms.refresh_s),
            count=lambda code: metrics.terms.labels(code).inc(),
        )
        self.ledgers = CustodyLedgers(
            directory,
            key,
            clock,
            error_limit_ms=settings.clock.error_limit_ms,
            report=metrics.count_batch,
            disk=disk,
        )
        custody = Custody(
            ledgers=self.ledgers,
            uploads=uploads,
            files=files,
            shelf=shelf,
            book=self.book,
            room=self.room,
            arrivals=self.arrivals,
            clock=clock,
            metrics=metrics,
        )
        self.takedowns = Takedowns(
            TakedownFiles(directory, disk=disk), key.verifier, placed, custody, clock
        )
        self.records = Records(uploads, self.ledgers)
        self.statements = Statements(key, self.accounts, self.room, clock)
        receiver = Receiver(
            uploads=uploads,
            files=files,
            room=self.room,
            quotas=self.quotas,
            clock=clock,
            metrics=metrics,
        )
        desk = self.claims = ClaimDesk(
            self.book,
            self.ledgers,
            self.orders,
            self.takedowns,
            clock,
            IntakeLimits(limits.fragment_bytes, limits.quota_bytes),
        )
        self.whole = WholeIntake(
            desk=desk,
            shelf=shelf,
            placed=placed,
            ledgers=self.ledgers,
            room=self.room,
            quotas=self.quotas,
            arrivals=self.arrivals,
            clock=clock,
            metrics=metrics,
        )
        self.crawls = Crawls(
            desk=desk,
            whole=self.whole,
            room=self.room,
            quotas=self.quotas,
            spool=SpoolFile(directory, disk=disk),
            clock=clock,
        )
        self.tending = Tending(shelf, placed, clock)
        self.intake = Intake(
            desk=desk,
            uploads=uploads,
            whole=self.whole,
            ends=SmallEnds(desk, self.whole, receiver, files),
            custody=custody,
            receiver=receiver,
            room=self.room,
            quotas=self.quotas,
            busy=BusyUploads(),
            clock=clock,
            metrics=metrics,
        )
        self.handing = Handing(
            uploads=uploads,
            placed=placed,
            frames=Frames(placed=placed, files=files, shelf=shelf, pacing=pacing),
            custody=custody,
            arrivals=self.arrivals,
            requests=BlobStore(directory / REQUESTS, disk=disk),
        )
        recovery = Recovery(
            uploads=uploads,
            files=files,
            shelf=ShelfRecovery(
                shelf=shelf, files=shared, placed=placed, ledgers=self.ledgers, clock=clock
            ),
            ledgers=self.ledgers,
            room=self.room,
            quotas=self.quotas,
            clock=clock,
        )
        self.keeper = Keeper(
            recovery=recovery,
            book=self.book,
            uploads=uploads,
            nonces=nonces,
            intake=self.intake,
            custody=custody,
            accounts=self.accounts,
            ending=Ending(
                ledgers=self.ledgers,
                uploads=uploads,
                book=self.book,
                requests=BlobStore(directory / REQUESTS, disk=disk),
                takedowns=TakedownFiles(directory, disk=disk),
                clock=clock,
            ),
            clock=clock,
        )
        self.identity = Identity(
            settings.relay.name,
            settings.relay.operator,
            settings.relay.region,
            key.verifier,
            settings.http.base_url,
            settings.relay.abuse_contact,
        )
        self.overview = Overview(
            self.identity,
            book=self.book,
            uploads=uploads,
            ledgers=self.ledgers,
            room=self.room,
            gate=self.gate,
            orders=self.orders,
            accounts=self.accounts,
            clock=clock,
            quota_bytes=limits.quota_bytes,
        )
        self.sisters = Sisters(key, self.book, self.overview, session, clock)
        self.desk = CollectorDesk(self.book, nonces, clock, base_url=settings.http.base_url)


def _quotas(limits: LimitSettings) -> UploadQuotas:
    return UploadQuotas(
        per_ticket_count=limits.uploads_per_ticket_count,
        per_destination_count=limits.uploads_per_destination_count,
        per_ticket_per_s=limits.fragments_per_ticket_per_s,
        per_destination_per_s=limits.fragments_per_destination_per_s,
        least_bytes_per_s=limits.least_bytes_per_s,
        patience_s=limits.idle_s,
    )


def _pace(settings: Settings) -> HandingPace:
    collection = settings.collection
    return HandingPace(collection.bytes_per_s, collection.quiet(), collection.quiet_bytes_per_s)
