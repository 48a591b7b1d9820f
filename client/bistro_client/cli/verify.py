"""``bistro verify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, VerificationError
from bistro.protocol.findings import State
from bistro.wire.document import Json
from bistro_client.cli.options import Frame, framed, parse_vkeys
from bistro_client.known_servers import KnownServers
from bistro_client.verifying import Trust, Verdict, verify_file

_STYLES = {State.OK: "green", State.ABSENT: "dim", State.OPEN: "yellow", State.FAILED: "bold red"}


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    multiple=True,
    metavar="VKEY",
    help="The destination's terms key as you know it; for a bare ticket, refusal or "
    "receipt also the log's or the relay's key. May be given several times.",
)
@click.option(
    "--evidence",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Evidence with the terms that name the keys, for a bare ticket or receipt.",
)
@framed
def command(frame: Frame, *, file: Path, trust: tuple[str, ...], evidence: Path | None) -> None:
    """Check evidence, a ticket, a receipt or a refusal, without network.

    Says in plain words what is proven and by whom, what is absent, and what the file alone
    cannot decide. Trust begins with one key, the destination's terms key: give it with --trust,
    or it is the one that you pinned; without either the file proves only what that key says.

    A bare ticket, refusal or receipt names no keys: they are taken from evidence that lies
    beside it or is named with --evidence, or given with --trust.

    \b
    Examples:
      bistro verify 2026-11-22-173000-spring-3f2a91.evidence.json
      bistro verify evidence.json --trust permits.example+6cb4364f+AYE5dw6o…
      bistro verify receipts/0-relay.example.receipt --evidence spring.evidence.json

    \b
    Exit codes:
      0  everything that the file claims holds
      2  no such file, or no key to check it with
      4  something does not hold: do not rely on the file
    """  # noqa: D301 - click reads the backspace
    verdict = verify_file(
        file,
        Trust(parse_vkeys(trust), _pinned(frame)),
        beside=evidence,
        now=SystemClock().now(),
    )
    frame.output.result(_document(verdict), None)
    if not frame.output.as_json:
        _show(frame, verdict)
    if not verdict.holds:
        sys.exit(VerificationError.exit_code)


def _pinned(frame: Frame) -> tuple[VerifierKey, ...]:
    try:
        return tuple(pin.terms_key for pin in KnownServers(frame.home.known_servers).pins())
    except BistroError as exc:
        # Whoever checks a file need not have pins at all.
        frame.output.err.print(f"warning: {exc.message}", style="yellow")
        return ()


def _show(frame: Frame, verdict: Verdict) -> None:
    output = frame.output
    output.line(f"{verdict.kind}: {verdict.path}", "bold")
    for finding in verdict.report.findings:
        output.line(
            f"  {finding.state.value:7}{finding.part}: {finding.text}", _STYLES[finding.state]
        )
        if finding.by:
            output.line(f"         shown by {finding.by}", "dim")
    if verdict.holds:
        output.line("HOLDS: everything that this file claims is proven as said above", "bold green")
        return
    failed = ", ".join(dict.fromkeys(one.part for one in verdict.report.failures))
    output.failure(
        VerificationError.code,
        f"{verdict.path} does NOT hold: {failed or 'a part that is needed is missing'}",
        "do not rely on it; ask whoever gave it for the original, and keep this one",
    )


def _document(verdict: Verdict) -> dict[str, Json]:
    return {
        "file": str(verdict.path),
        "kind": verdict.kind,
        "holds": verdict.holds,
        "findings": [
            {"state": one.state.value, "part": one.part, "text": one.text, "by": one.by}
            for one in verdict.report.findings
        ],
    }
