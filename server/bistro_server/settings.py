"""The settings of ``bistro-server``, from ``bistro-server.toml`` and the environment.

Source: docs/reference/settings.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, IPvAnyNetwork, field_validator, model_validator

from bistro.crypto.timestamp.der import encode_object
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

PREFIX: Final = "BISTRO_SERVER"
DEFAULT_PORT: Final = 8_440
DEFAULT_POLICY: Final = "2.25.312015433782341952892851618126410201302"
"""The rules of docs/spec/timestamps.md."""


class TicketSettings(Section):
    """``[tickets]``: how much may wait at the ticket desk."""

    plain_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="TCP port where ticket requests alone are also taken over plain HTTP",
    )
    address_count: int = Field(
        default=10_000,
        gt=0,
        description="Ticket requests of one network address that may wait at the same time",
    )
    address_rate_per_s: float = Field(
        default=1_000,
        gt=0,
        description="Tickets that one network address may ask for a second, for any time",
    )
    address_burst_count: int = Field(
        default=10_000,
        ge=1_000,
        description="Tickets that one network address may ask for at once; at least one array",
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        default=("127.0.0.1", "::1"),
        validate_default=True,
        description="Networks of proxies whose X-Forwarded-For counts; without one they are free",
    )
    filer_rate_per_s: float = Field(
        default=10, gt=0, description="Tickets that one registered filer may ask for a second"
    )
    filer_burst_count: int = Field(
        default=1_000, ge=1, description="Tickets that one registered filer may ask for at once"
    )


class CallSettings(Section):
    """``[calls]``: how often the server looks after its calls."""

    poll_ms: int = Field(
        default=250,
        gt=0,
        le=1_000,
        description="Milliseconds between two looks for new calls, closing times and statuses",
    )


def _require_object(text: str) -> str:
    try:
        encode_object(text)
    except FormatError as exc:
        raise ValueError(exc.message) from exc
    return text


class TimestampSettings(Section):
    """``[timestamps]``: the authority behind RFC 3161 time stamps."""

    key_path: LocalPath | None = Field(
        default=None, description="PEM file with the authority's P-256 key; keys/tsa.key if unset"
    )
    certificate_path: LocalPath | None = Field(
        default=None,
        description="PEM file with its certificate, then those above it; tsa.crt if unset",
    )
    policy: str = Field(
        default=DEFAULT_POLICY,
        description="Object identifier of the policy under which time stamps are given",
    )

    @field_validator("policy")
    @classmethod
    def _require_policy(cls, policy: str) -> str:
        return _require_object(policy)

    @model_validator(mode="after")
    def _require_both_or_none(self) -> TimestampSettings:
        if (self.certificate_path is None) != (self.key_path is None):
            raise ValueError("certificate_path and key_path are given both or not at all")
        return self


class AnchorSettings(Section):
    """``[anchoring]``: an authority that is not ours and stamps checkpoints."""

    url: str | None = Field(
        default=None, description="Where an RFC 3161 authority answers; nobody is asked if unset"
    )
    certificate_path: LocalPath | None = Field(
        default=None,
        description="PEM file with its certificate, or with that of its issuer; given with url",
    )
    policy: str | None = Field(
        default=None, description="Object identifier that its stamps must have; any if unset"
    )
    interval_s: int = Field(
        default=3_600, gt=0, description="Seconds between two stamps of a log that grows"
    )
    timeout_s: float = Field(
        default=15.0, gt=0, description="Seconds after which an answer is not waited for"
    )

    @field_validator("url")
    @classmethod
    def _require_url(cls, url: str | None) -> str | None:
        if url is not None:
            try:
                require_base_url(url)
            except FormatError as exc:
                raise ValueError(exc.message) from exc
        return url

    @field_validator("policy")
    @classmethod
    def _require_policy(cls, policy: str | None) -> str | None:
        return None if policy is None else _require_object(policy)

    @model_validator(mode="after")
    def _require_both_or_none(self) -> AnchorSettings:
        if (self.certificate_path is None) != (self.url is None):
            raise ValueError("certificate_path and url are given both or not at all")
        return self


class DiskSettings(Section):
    """``[disk]``: when the disk counts as full."""

    min_free_bytes: int = Field(
        default=268_435_456,
        ge=0,
        description="Free bytes below which the server is not ready and doctor complains; "
        "collect and open leave as many to the ledgers of serve",
    )


class ServerSettings(Section):
    """Everything in ``bistro-server.toml``."""

    name: str = Field(
        description="Name of this server: a host name with a dot; it begins the name of every call"
    )
    http: HttpSettings
    log: LogSettings = LogSettings()
    clock: ClockSettings = ClockSettings()
    tickets: TicketSettings = TicketSettings()
    calls: CallSettings = CallSettings()
    timestamps: TimestampSettings = TimestampSettings()
    anchoring: AnchorSettings = AnchorSettings()
    disk: DiskSettings = DiskSettings()

    @field_validator("name")
    @classmethod
    def _require_name(cls, name: str) -> str:
        try:
            require_host_name(name)
        except FormatError as exc:
            raise ValueError(exc.message) from exc
        return name


def load_settings(file: Path) -> ServerSettings:
    """The settings in ``file`` with the environment's overrides.

    Raises:
        SettingsError: With every problem, one a line.
    """
    return load(ServerSettings, file, prefix=PREFIX)


def initial_settings(*, name: str, host: str, port: int, base_url: str) -> str:
    """The text of a new settings file, with what an operator may want to change as comments."""
    return f"""\
# Settings of bistro-server. Every key is described in docs/reference/settings.md.
# A variable such as {PREFIX}_HTTP__PORT=8441 overrides port in [http].

# The name under which this server signs; it cannot be changed once a call exists.
name = "{name}"

[http]
host = "{host}"
port = {port}
# How others reach this server, without a slash at the end.
base_url = "{base_url}"
# TLS ends here if both are given; otherwise put a reverse proxy in front.
# certificate_path = "tls/certificate.pem"
# key_path = "tls/key.pem"

[clock]
# Nothing is stamped while the clock may be wrong by more than this.
# error_limit_ms = 100
# Where the kernel does not know its clock's error: the error to assume, openly.
# assumed_error_ms = 50

[timestamps]
# RFC 3161 time stamps of an authority that others know: its P-256 key and its certificate chain.
# key_path = "tls/tsa.key"
# certificate_path = "tls/tsa-chain.pem"
# policy = "1.2.3.4"

[anchoring]
# An authority of somebody else that stamps this server's logs now and then, and when they close.
# url = "https://stamps.example/tsr"
# certificate_path = "tls/stamps-ca.pem"

[log]
# output_format = "auto"
# level = "info"
"""
