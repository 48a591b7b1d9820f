"""``bistro-server call``: create, show, list and close calls.

Source: docs/spec/commands.md; docs/spec/terms.md.
"""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import click

from bistro.crypto.timestamp.chain import fingerprints
from bistro.daemon.times import parse_time
from bistro.errors import FormatError, SettingsError
from bistro.ids import Origin
from bistro.instant import UnixMillis, format_duration
from bistro.protocol.deadline import latest_on_time
from bistro.wire.clauses import Authority, Spread
from bistro.wire.document import Json
from bistro.wire.terms import Filers, SealedUntil, SignedTerms, Terms
from bistro_server.cli.relays import find_relays
from bistro_server.cli.running import (
    dir_option,
    json_option,
    load,
    print_json,
    run,
    shown,
    system_clock,
)
from bistro_server.services.calls import Call, CallRegistry
from bistro_server.services.control import CallLog, open_log
from bistro_server.services.creating import Plan, create_call, load_terms_key, require_possible
from bistro_server.services.folder import ServerFolder
from bistro_server.services.notary import load_notary_certificates
from bistro_server.settings import ServerSettings

_DAY_MS = 86_400_000
_GIB = 1 << 30


@click.group()
def call() -> None:
    """Create, show, list and close calls."""


@call.command()
@click.argument("call_id", metavar="ID")
@click.option("--title", required=True, help="What people call it, one line.")
@click.option("--opens", default="+0s", help="From when tickets are given; now by default.")
@click.option("--closes", required=True, help="The deadline: RFC 3339, or +20s, +2h, +30d.")
@click.option("--grace-ms", type=int, default=1_000, show_default=True, help="Grace, ms.")
@click.option("--stage-by", help="Until when data must be at relays; 2 d after the deadline.")
@click.option("--repair-by", help="Until when lost data is replaced; 7 d after stage-by.")
@click.option(
    "--sealed-until",
    type=click.Choice(get_args(SealedUntil)),
    default="stage_by",
    show_default=True,
    help="What must have passed before anything is opened.",
)
@click.option("--time-zone", default="UTC", show_default=True, help="For display only.")
@click.option(
    "--recipient-kind",
    type=click.Choice(["hybrid", "x25519"]),
    default="hybrid",
    show_default=True,
    help="hybrid resists quantum computers; x25519 is opened by every age.",
)
@click.option("--envelope-limit", type=int, default=2 * _GIB, show_default=True, help="Bytes.")
@click.option("--files-limit", type=int, default=10_000, show_default=True, help="Files.")
@click.option("-k", "k", type=int, default=2, show_default=True, help="Fragments that restore.")
@click.option("-n", "n", type=int, default=3, show_default=True, help="Fragments there are.")
@click.option(
    "--filers",
    type=click.Choice(get_args(Filers)),
    default="anyone",
    show_default=True,
    help="Who may file: anyone, or those of bistro-server filers.",
)
@click.option(
    "--tickets-per-filer", type=click.IntRange(min=1), help="Most tickets of a registered filer."
)
@click.option("--relay", "relays", multiple=True, help="URL, or URL=VKEY offline; repeat.")
@click.option("--allow-http", is_flag=True, help="Ask relays over plain HTTP, too.")
@dir_option
@json_option
def create(folder: ServerFolder, call_id: str, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401
    """Sign version 1 of the terms of call ID and put it into the call's log."""
    settings = load(folder)
    signed = run(_create(folder, settings, call_id, options))
    if as_json:
        print_json(_document(signed, state="announced"))
    else:
        _print_terms(signed)
        click.echo(f"Keep {folder.call(call_id).identity} safe: it opens the envelopes.", err=True)


async def _create(
    folder: ServerFolder,
    settings: ServerSettings,
    call_id: str,
    options: dict[str, Any],
) -> SignedTerms:
    clock = system_clock(settings)
    try:
        origin = Origin(settings.name, call_id)
        spread = Spread(k=options["k"], n=options["n"])
        place = folder.call(call_id)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="correct the options") from exc
    require_possible(place)
    terms_key = load_terms_key(folder, name=settings.name)
    relays = await find_relays(options["relays"], allow_http=options["allow_http"])
    if len(relays) < spread.n:
        click.echo(
            f"warning: {len(relays)} relays for {spread.n} fragments: a relay that is lost "
            "may take several of one envelope",
            err=True,
        )
    now = clock.now()
    times = _times(options, now)
    try:
        return await create_call(
            place,
            Plan(
                origin=origin,
                title=options["title"],
                **times,
                grace_ms=options["grace_ms"],
                sealed_until=options["sealed_until"],
                time_zone=options["time_zone"],
                envelope_limit=options["envelope_limit"],
                files_limit=options["files_limit"],
                spread=spread,
                relays=relays,
                filers=options["filers"],
                tickets_per_filer=options["tickets_per_filer"],
                timestamping=_timestamping(settings),
            ),
            terms_key,
            clock,
            recipient_kind=options["recipient_kind"],
            error_limit_ms=settings.clock.error_limit_ms,
        )
    except FormatError as exc:
        raise SettingsError(exc.message, hint="correct the options of call create") from exc


def _timestamping(settings: ServerSettings) -> tuple[Authority, ...]:
    """Whom the settings name to stamp the call's log."""
    wanted = settings.anchoring
    if wanted.url is None or wanted.certificate_path is None:
        return ()
    (first, *_) = fingerprints(load_notary_certificates(wanted.certificate_path))
    return (Authority(first, wanted.url),)


def _times(options: dict[str, Any], now: UnixMillis) -> dict[str, UnixMillis]:
    """The four times; what is not given follows from the deadline."""
    opens = parse_time(options["opens"], now=now, option="--opens")
    closes = parse_time(options["closes"], now=now, option="--closes")
    if closes <= now:
        raise SettingsError(
            f"--closes: expected a time to come, found {shown(closes)}, it is {shown(now)}"
        )
    stage_by = UnixMillis(closes + options["grace_ms"] + 2 * _DAY_MS)
    if options["stage_by"]:
        stage_by = parse_time(options["stage_by"], now=now, option="--stage-by")
    repair_by = UnixMillis(stage_by + 7 * _DAY_MS)
    if options["repair_by"]:
        repair_by = parse_time(options["repair_by"], now=now, option="--repair-by")
    return {"opens": opens, "closes": closes, "stage_by": stage_by, "repair_by": repair_by}


@call.command()
@click.argument("call_id", metavar="ID")
@dir_option
@json_option
def show(folder: ServerFolder, call_id: str, *, as_json: bool) -> None:
    """Show the terms of call ID and where it stands."""
    settings = load(folder)
    found = _load(folder, call_id)
    state = run(_state(folder, settings, found))
    if as_json:
        print_json(_document(found.latest, state=state))
    else:
        click.echo(f"state         {state}")
        _print_terms(found.latest)


@call.command("list")
@dir_option
@json_option
def list_calls(folder: ServerFolder, *, as_json: bool) -> None:
    """List all calls with their states."""
    settings = load(folder)
    rows = run(_states(folder, settings))
    if as_json:
        calls: list[Json] = [_document(found.latest, state=state) for found, state in rows]
        print_json({"calls": calls})
        return
    for found, state in rows:
        terms = found.terms
        click.echo(f"{found.id}  {state}  closes {shown(terms.closes)}  {terms.title}")
    if not rows:
        click.echo("There are no calls yet: see bistro-server call create --help.", err=True)


@call.command()
@click.argument("call_id", metavar="ID")
@dir_option
@json_option
def close(folder: ServerFolder, call_id: str, *, as_json: bool) -> None:
    """Write the closed entry of call ID now, if its time has come.

    Closing earlier would shorten a deadline, so it is refused. Usually serve has done it.
    """
    settings = load(folder)
    found = _load(folder, call_id)

    async def work() -> tuple[int, UnixMillis]:
        async with _log_of(folder, settings, found) as log:
            closed = await log.append_closed()
            return closed.index, closed.time

    index, time = run(work())
    if as_json:
        print_json({"call": call_id, "closed_at": time, "index": index})
    else:
        click.echo(f"call {call_id} closed at {shown(time)}, entry {index} of its log")


def _load(folder: ServerFolder, call_id: str) -> Call:
    try:
        return CallRegistry(folder).load(call_id)
    except FormatError as exc:
        raise SettingsError(exc.message, hint="see bistro-server call list") from exc


def _log_of(folder: ServerFolder, settings: ServerSettings, found: Call) -> Any:  # noqa: ANN401
    limit_ms = settings.clock.error_limit_ms
    return open_log(folder, found, system_clock(settings), error_limit_ms=limit_ms)


async def _states(folder: ServerFolder, settings: ServerSettings) -> list[tuple[Call, str]]:
    calls = await asyncio.to_thread(CallRegistry(folder).load_all)
    return [(found, await _state(folder, settings, found)) for found in calls]


async def _state(folder: ServerFolder, settings: ServerSettings, found: Call) -> str:
    log: CallLog
    async with _log_of(folder, settings, found) as log:
        if await log.find_opening() is not None:
            return "opened"
        if await log.find_closed() is not None:
            return "closed"
    return "open" if system_clock(settings).now() >= found.terms.opens else "announced"


def _document(signed: SignedTerms, *, state: str) -> Json:
    return {
        "origin": str(signed.origin),
        "state": state,
        "terms": signed.terms.document(),
        "terms_hash": signed.hash.hex(),
    }


def _shown_filers(terms: Terms) -> str:
    if terms.tickets_per_filer is None:
        return terms.filers
    return f"{terms.filers}, at most {terms.tickets_per_filer} tickets each"


def _print_terms(signed: SignedTerms) -> None:
    terms = signed.terms
    rows = [
        ("call", str(terms.origin)),
        ("title", terms.title),
        ("terms", f"version {terms.version}, {signed.hash.hex()}"),
        ("opens", shown(terms.opens)),
        ("closes", f"{shown(terms.closes)}, grace {format_duration(terms.grace_ms)}"),
        ("on time", f"until {shown(latest_on_time(terms))}"),
        ("stage by", shown(terms.stage_by)),
        ("repair by", shown(terms.repair_by)),
        ("sealed until", terms.sealed_until),
        ("filers", _shown_filers(terms)),
        ("fragments", f"any {terms.spread.k} of {terms.spread.n} restore an envelope"),
        ("limits", f"{terms.envelope_limit} bytes, {terms.files_limit} files"),
        *(("relay", f"{relay.name} {relay.url}") for relay in terms.relays),
    ]
    for name, value in rows:
        click.echo(f"{name:<13} {value}")
