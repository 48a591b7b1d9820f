"""The relay's settings: ``bistro-relay.toml`` in its folder.

Source: docs/reference/settings.md.
"""

from __future__ import annotations

from datetime import tzinfo
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from bistro.daemon.settings import (
    ClockSettings,
    HttpSettings,
    LocalPath,
    LogSettings,
    Section,
    load,
)
from bistro.errors import FormatError
from bistro.ids import require_base_url, require_host_name
from bistro.protocol.quiet_hours import QuietHours

FILE_NAME: Final = "bistro-relay.toml"
PREFIX: Final = "BISTRO_RELAY"
DEFAULT_PORT: Final = 8_441


class RelaySettings(Section):
    """``[relay]``: who this relay is, and where it keeps things."""

    name: str = Field(description="Host name of this relay; it is part of every receipt")
    operator: str = Field(
        min_length=1, max_length=200, description="Who runs this relay, as destinations see it"
    )
    region: str = Field(
        default="", max_length=64, description="Where it stands, for people; may be empty"
    )
    abuse_contact: str = Field(
        default="", max_length=200, description="Whom to tell of abuse: mail address or URL"
    )
    key_path: LocalPath = Field(
        default=Path("keys/relay.key"), description="File of the relay's private key, mode 0600"
    )
    data_path: LocalPath = Field(
        default=Path(), description="Folder of fragments, database, ledgers and destinations"
    )

    @field_validator("name")
    @classmethod
    def _require_name(cls, name: str) -> str:
        try:
            require_host_name(name, what="relay name")
        except FormatError as exc:
            raise ValueError(exc.message) from exc
        return name


class LimitSettings(Section):
    """``[limits]``: how much is taken, so that nobody is ever surprised by a full machine."""

    uploads_count: int = Field(
        default=4_096, gt=0, description="Upload requests answered at the same time"
    )
    uploads_per_address_count: int = Field(
        default=256, gt=0, description="Of these, requests of one network address"
    )
    collectors_count: int = Field(
        default=64, gt=0, description="Collector requests answered at the same time"
    )
    fragment_bytes: int = Field(default=2**38, gt=0, description="Largest fragment taken, in bytes")
    quota_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Bytes held for a destination that was allowed without its own quota",
    )
    fragments_count: int | None = Field(
        default=None, gt=0, description="Fragments held for one destination, finished or not"
    )
    uploads_per_destination_count: int = Field(
        default=65_536, gt=0, description="Uploads of one destination begun and not ended"
    )
    uploads_per_ticket_count: int = Field(
        default=64, gt=0, description="Uploads of one ticket begun and not ended"
    )
    fragments_per_destination_per_s: int | None = Field(
        default=None, gt=0, description="New fragments of one destination in a second"
    )
    fragments_per_ticket_per_s: int = Field(
        default=16, gt=0, description="New fragments of one ticket in a second"
    )
    requests_per_address_per_s: int | None = Field(
        default=None, gt=0, description="Upload requests of one network address in a second"
    )
    least_bytes_per_s: int = Field(
        default=100,
        ge=0,
        description="Bytes a second that an upload brings on average, or it is cut off",
    )
    reserve_bytes: int = Field(
        default=268_435_456, ge=0, description="Bytes of the disk never given to fragments"
    )
    traffic_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Bytes of fragments that may come and leave in a calendar month",
    )
    idle_s: float = Field(
        default=30,
        gt=0,
        description="Seconds without a byte after which an upload, or a reader, is cut off",
    )


class CollectionSettings(Section):
    """``[collection]``: how fast destinations get what is held for them."""

    bytes_per_s: int | None = Field(
        default=None, gt=0, description="Bytes a second of all batch streams together"
    )
    quiet_hours: tuple[str, ...] = Field(
        default=(), description="Spans of the day with another rate, such as 08:00-18:00"
    )
    time_zone: str = Field(default="UTC", description="In which quiet hours are meant")
    quiet_bytes_per_s: int = Field(
        default=0, ge=0, description="The rate in quiet hours; 0: nothing is handed over then"
    )

    @model_validator(mode="after")
    def _require_spans(self) -> CollectionSettings:
        try:
            self.quiet()
        except FormatError as exc:
            raise ValueError(f"quiet_hours: {exc.message}") from exc
        return self

    def quiet(self) -> QuietHours:
        """The quiet hours, or ``FormatError``."""
        return QuietHours.parse(self.quiet_hours, zone(self.time_zone))


def zone(name: str) -> tzinfo:
    """The time zone of that name, or ``FormatError``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise FormatError(f"expected a time zone such as Europe/Berlin, found {name!r}") from exc


class ProtocolSettings(Section):
    """``[protocols]``: how uploads may be asked for, besides tus 1.0."""

    resumable_upload_draft: bool = Field(
        default=False,
        description="Whether the IETF draft of resumable uploads is spoken, interop versions 5, 6",
    )


class TermsSettings(Section):
    """``[terms]``: how terms of the allowed destinations are fetched."""

    poll_s: float = Field(default=30, gt=0, le=60, description="Seconds between two polls")
    refresh_s: float = Field(
        default=2, ge=0, description="Least seconds between two fetches asked for by uploads"
    )
    allow_http: bool = Field(
        default=False, description="Whether destinations may be asked over plain HTTP"
    )
    ca_path: LocalPath | None = Field(
        default=None, description="PEM file with a private certificate authority"
    )


class Settings(Section):
    """The whole file."""

    relay: RelaySettings
    http: HttpSettings
    limits: LimitSettings = LimitSettings()
    collection: CollectionSettings = CollectionSettings()
    protocols: ProtocolSettings = ProtocolSettings()
    terms: TermsSettings = TermsSettings()
    clock: ClockSettings = ClockSettings()
    log: LogSettings = LogSettings()

    @field_validator("http")
    @classmethod
    def _require_base_url(cls, http: HttpSettings) -> HttpSettings:
        try:
            require_base_url(http.base_url)
        except FormatError as exc:
            raise ValueError(exc.message) from exc
        return http


def load_settings(directory: Path) -> Settings:
    """The settings of the relay in ``directory``, with the environment's overrides.

    Raises:
        SettingsError: With every problem at once.
    """
    return load(Settings, directory / FILE_NAME, prefix=PREFIX)
