"""A receipt to print: what was filed, when, and what proves it, on one page without network.

It proves nothing by itself, and says so: the proof is the evidence file, whose ticket stands at
the end of the page letter by letter.

Source: docs/spec/commands.md, receipt.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from bistro.crypto.keyfile import filer_fingerprint
from bistro.errors import UnknownObjectError
from bistro.instant import UnixMillis, format_rfc3339
from bistro.protocol.submission import Submission
from bistro.storage.durable import read_file
from bistro.wire.header import Kind
from bistro.wire.manifest import MAX_MANIFEST_SIZE, Manifest
from bistro.wire.receipt import Receipt
from bistro.wire.terms import SignedTerms, Terms
from bistro.wire.ticket import Ticket
from bistro_client import messages
from bistro_client.home import Folder
from bistro_client.times import show
from bistro_client.wording import say

_STYLE: Final = (
    "body{font:11pt/1.4 sans-serif;margin:2cm auto;max-width:19cm;color:#000}"
    "h1{font-size:16pt}h2{font-size:12pt;margin-top:1.5em}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:2pt 6pt;border-bottom:1px solid #999}"
    "code,pre{font:8pt/1.3 monospace;overflow-wrap:anywhere;white-space:pre-wrap}"
    "@media print{body{margin:0}tr,pre{break-inside:avoid}}"
)


def _title(kind: Kind) -> str:
    match kind:
        case "submit":
            return say("printing.receipt-for-submission")
        case "amend":
            return say("printing.receipt-for-an")
        case "withdraw":
            return say("printing.receipt-for-withdrawal")


def receipt_page(folder: Folder, submission: Submission) -> str:
    """The page, as HTML that needs nothing else.

    Raises:
        RefusedError: There is no ticket, and so nothing to confirm.
    """
    sealed = submission.sealed
    if submission.ticket is None or sealed is None:
        raise messages.nothing_to_print(submission.id)
    terms = SignedTerms.parse(sealed.terms.encode()).terms
    ticket = Ticket.parse(submission.ticket)
    parts = [
        f"<h1>{_title(submission.request.kind)}</h1>",
        _table(_facts(folder, submission, terms, ticket)),
        f"<h2>{say('printing.files')}</h2>",
        _table(_files(folder), head=("file", "bytes", "SHA-256")),
        f"<h2>{say('printing.who')}</h2>",
        _table(
            _held(submission, terms),
            head=("fragment", "relay", "received", say("printing.holds-until")),
        ),
        f"<h2>{say('printing.ticket')}</h2>",
        f"<p>{_how_to_check(folder, terms)}</p>",
        f"<pre>{escape(submission.ticket)}</pre>",
    ]
    title = escape(f"{submission.id}: {terms.title}")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _how_to_check(folder: Folder, terms: Terms) -> str:
    return say(
        "printing.check",
        signer=escape(terms.keys.log.name),
        fingerprint=f"<code>{terms.keys.log.fingerprint()}</code>",
        command=f"<code>bistro verify {escape(folder.evidence.name)}</code>",
    )


def _facts(
    folder: Folder, submission: Submission, terms: Terms, ticket: Ticket
) -> Iterable[tuple[str, ...]]:
    header = None if submission.sealed is None else submission.sealed.signed.header
    commitment = b"" if submission.sealed is None else submission.sealed.commitment
    yield "call", f"{terms.origin}: {terms.title}"
    yield say("printing.on-time"), _moment(ticket.effective_at, terms)
    yield "deadline", _moment(terms.closes, terms)
    yield "state", submission.outcome or submission.state.value
    yield "submission", submission.id
    yield "slot", submission.request.slot
    if submission.request.form is not None:
        yield "form", submission.request.form
    if submission.request.previous is not None:
        yield "changes", submission.request.previous.hex()
    if header is not None:
        yield "filer's key", filer_fingerprint(header.filer_key)
    yield "commitment", commitment.hex()
    yield say("printing.entry-log"), str(ticket.index)
    yield "destination's key", terms.keys.terms.fingerprint()
    yield "evidence", str(folder.evidence)


def _moment(at: UnixMillis, terms: Terms) -> str:
    return f"{show(at, terms.time_zone)}; {format_rfc3339(at)}"


def _files(folder: Folder) -> Iterable[tuple[str, ...]]:
    data = read_file(folder.manifest, max_size=MAX_MANIFEST_SIZE)
    if data is None:
        raise UnknownObjectError(say("printing.manifest-missing", manifest=folder.manifest))
    for file in Manifest.decode(data).files:
        yield file.path, f"{file.size:,}", file.sha256.hex()


def _held(submission: Submission, terms: Terms) -> Iterable[tuple[str, ...]]:
    for one in submission.fragments:
        if one.receipt is None:
            yield str(one.index), say("printing.nobody-yet"), "", ""
            continue
        receipt = Receipt.parse(one.receipt)
        times = (receipt.entry.time, receipt.hold_until)
        yield str(one.index), one.relay or "", *(show(at, terms.time_zone) for at in times)


def _table(rows: Iterable[tuple[str, ...]], *, head: tuple[str, ...] = ()) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    ]
    return f"<table>{''.join(lines if head else lines[1:])}</table>"
