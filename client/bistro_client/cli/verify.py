"""``bistro verify``."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import click

from bistro.clock import SystemClock
from bistro.crypto.signing import VerifierKey
from bistro.errors import BistroError, VerificationError
from bistro.protocol.findings import Finding, State
from bistro.wire.document import Json
from bistro_client.cli.options import Frame, framed, parse_vkeys
from bistro_client.known_servers import KnownServers
from bistro_client.verifying import Trust, Verdict, read_authorities, verify_file
from bistro_client.wording import say

_STYLES = {
    State.OK: "green",
    State.ABSENT: "dim",
    State.OPEN: "yellow",
    State.FAILED: "bold red",
}


@click.command("verify")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option(
    "--trust",
    multiple=True,
    metavar="VKEY",
    help="The destination's terms key as you know it; for a bare ticket, refusal or receipt also "
    "the log's or the relay's key. May be given several times.",
)
@click.option(
    "--no-trust",
    is_flag=True,
    help="Take the key from the file itself: shows only what the holder of that key has signed.",
)
@click.option(
    "--evidence",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Evidence with the terms that name the keys, for a bare ticket or receipt.",
)
@click.option(
    "--authority",
    "authorities",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Certificate, PEM or DER, of a time-stamp authority that you trust besides those that the "
    "terms name, or of its issuer. May be given several times.",
)
@click.option("--verbose", is_flag=True, help="Say of each absent part what its absence means.")
@framed
def command(  # noqa: PLR0913 - one argument for each option
    frame: Frame,
    *,
    files: tuple[Path, ...],
    trust: tuple[str, ...],
    no_trust: bool,
    evidence: Path | None,
    authorities: tuple[Path, ...],
    verbose: bool,
) -> None:
    """Check evidence, a ticket, a receipt or a refusal, without network.

    Says in plain words what is proven and by whom, what is absent, and what the file alone
    cannot decide. Trust begins with one key, the destination's terms key: give it with --trust,
    or it is the one that you pinned. Without either the file cannot show whose promises it
    holds, and does not pass, unless you say --no-trust.

    A bare ticket, refusal or receipt names no keys: they are taken from evidence that lies
    beside it or is named with --evidence, or given with --trust.

    Several files are checked one after the other; the exit code is that of the worst.

    \b
    Examples:
      bistro verify 2026-11-22-173000-spring-3f2a91.evidence.json
      bistro verify inbox/spring/*/evidence.json --trust permits.example+6cb4364f+AYE5dw6o…
      bistro verify evidence.json --trust permits.example+6cb4364f+AYE5dw6o…
      bistro verify receipts/0-relay.example.receipt --evidence spring.evidence.json

    \b
    Exit codes:
      0  everything that the file claims holds, by a key that you trust
      2  no such file, or no key to check it with
      4  something does not hold, or no key is trusted: do not rely on the file
    """  # noqa: D301 - click reads the backspace
    if no_trust and trust:
        raise click.UsageError(say("verify.expected-trust-or"))
    stamping = frozenset(one for path in authorities for one in read_authorities(path))
    keys = Trust() if no_trust else Trust(parse_vkeys(trust), _pinned(frame))
    keys = replace(keys, authorities=stamping)
    reader = _Reader(frame, keys, beside=evidence, needs_trust=not no_trust, is_verbose=verbose)
    if len(files) == 1:
        code, document = reader.judge(files[0])
        frame.output.result(document, None)
        sys.exit(code)
    found = [reader.judge_one_of_many(file) for file in files]
    frame.output.result({"files": [document for _, document in found]}, None)
    failed = [code for code, _ in found if code]
    if not frame.output.as_json:
        style = "bold red" if failed else "bold green"
        frame.output.line(
            say("verify.files-hold", found=len(found) - len(failed), found_2=len(found)), style
        )
    is_untrue = VerificationError.exit_code in failed
    sys.exit(VerificationError.exit_code if is_untrue else next(iter(failed), 0))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Who reads the files, and what they make of each."""

    frame: Frame
    trust: Trust
    beside: Path | None
    needs_trust: bool
    is_verbose: bool

    def judge(self, file: Path) -> tuple[int, Json]:
        """The exit code for a file and what to say of it in JSON; text is shown at once."""
        verdict = verify_file(file, self.trust, beside=self.beside, now=SystemClock().now())
        is_good = verdict.holds and (verdict.is_trusted or not self.needs_trust)
        if not self.frame.output.as_json:
            _show(self.frame, verdict, is_verbose=self.is_verbose)
            _conclude(self.frame, verdict, is_good=is_good)
        code = 0 if is_good else VerificationError.exit_code
        return code, _document(verdict, is_good=is_good)

    def judge_one_of_many(self, file: Path) -> tuple[int, Json]:
        """As ``judge``; a file that cannot be read does not hide the others."""
        try:
            return self.judge(file)
        except BistroError as exc:
            if not self.frame.output.as_json:
                self.frame.output.error(exc)
            error: Json = {"code": exc.code, "message": exc.message, "hint": exc.hint}
            return exc.exit_code, {"file": str(file), "holds": False, "error": error}


def _pinned(frame: Frame) -> tuple[VerifierKey, ...]:
    try:
        return tuple(pin.terms_key for pin in KnownServers(frame.home.known_servers).pins())
    except BistroError as exc:
        # Whoever checks a file need not have pins at all.
        frame.output.err.print(say("verify.warning", exc=exc.message), style="yellow")
        return ()


def _show(frame: Frame, verdict: Verdict, *, is_verbose: bool) -> None:
    output = frame.output
    output.line(f"{verdict.path.name}: {verdict.kind}", "bold")
    output.line(verdict.summary)
    output.line("")
    absent: list[str] = []
    for finding in verdict.report.findings:
        if finding.state is State.ABSENT and not is_verbose:
            absent.append(finding.part)
            continue
        _show_finding(frame, finding)
    if absent:
        output.line(say("verify.not-in-this", absent=", ".join(dict.fromkeys(absent))), "dim")
    output.line("")


def _show_finding(frame: Frame, finding: Finding) -> None:
    out, style = frame.output.out, _STYLES[finding.state]
    out.print(f"{finding.state.value:7}", style=style, end="")
    out.print(f"{finding.part}: ", style="bold", end="")
    out.print(finding.text, style="dim" if finding.state is State.ABSENT else "")
    if finding.by:
        out.print(say("verify.shown-by", by=finding.by), style="dim")


def _conclude(frame: Frame, verdict: Verdict, *, is_good: bool) -> None:
    output = frame.output
    if is_good:
        words = say("verify.holds-everything-this")
        style = "bold green"
        if not verdict.is_trusted:
            words += say("verify.if-key-in")
            style = "bold yellow"
        output.line(words, style)
    elif verdict.holds:
        output.failure(
            VerificationError.code,
            say("verify.holds-together-but", verdict=verdict.path),
            say("verify.compare-fingerprint-above"),
        )
    else:
        failed = ", ".join(dict.fromkeys(one.part for one in verdict.report.failures))
        output.failure(
            VerificationError.code,
            say(
                "verify.does-not-hold",
                verdict=verdict.path,
                failed=failed or say("verify.part-needed-missing"),
            ),
            say("verify.do-not-rely"),
        )


def _document(verdict: Verdict, *, is_good: bool) -> dict[str, Json]:
    return {
        "file": str(verdict.path),
        "kind": verdict.kind,
        "summary": verdict.summary,
        "holds": is_good,
        "is_trusted": verdict.is_trusted,
        "findings": [
            {"state": one.state.value, "part": one.part, "text": one.text, "by": one.by}
            for one in verdict.report.findings
        ],
    }
