"""The journal on disk, version 1: canonical JSON, strict like everything that is kept.

Binary parts are base64 of their encodings, proofs and notes are texts verbatim.

Source: docs/spec/journal.md.
"""

from __future__ import annotations

import base64
from typing import Final, cast

from bistro.errors import FormatError
from bistro.ids import COMMITMENT_SIZE, MAX_ORIGIN_LENGTH, MAX_SLOT_LENGTH, Origin
from bistro.protocol.submission import (
    MAX_ATTEMPTS,
    MAX_MESSAGE_LENGTH,
    Attempt,
    Progress,
    Request,
    Sealed,
    Step,
    Submission,
    SubmissionState,
)
from bistro.wire.codec import Reader, Value, encode
from bistro.wire.document import Fields, Json, decode_json, encode_json
from bistro.wire.fragment import MAX_FRAGMENTS, Cut, Descriptor, Layout
from bistro.wire.header import Kind, SignedHeader

VERSION: Final = 1
MAX_JOURNAL_SIZE: Final = 16_777_216
_MAX_TEXT: Final = 1_000_000
_MAX_LINE: Final = 4_096
_MAX_SOURCES: Final = 10_000
_MAX_LOST: Final = 1_000
_KINDS: Final = ("submit", "amend", "withdraw")
_STATES: Final = tuple(state.value for state in SubmissionState)
_STEPS: Final = tuple(step.value for step in Step)


def encode_journal(submission: Submission) -> bytes:
    """The one encoding of a journal."""
    return encode_json(
        {
            "version": VERSION,
            "id": submission.id,
            "created_at": submission.created_at,
            "request": _request(submission.request),
            "state": submission.state.value,
            "sealed": None if submission.sealed is None else _sealed(submission.sealed),
            "ticket": submission.ticket,
            "refusal": submission.refusal,
            "fragments": [_progress(fragment) for fragment in submission.fragments],
            "status": submission.status,
            "outcome": submission.outcome,
            "outcome_note": submission.outcome_note,
            "repair_cursor": submission.repair_cursor,
            "attempts": [_attempt(attempt) for attempt in submission.attempts],
        }
    )


def decode_journal(data: bytes) -> Submission:
    """The journal that ``data`` encodes.

    Raises:
        FormatError: It encodes none, or one that contradicts itself.
    """
    fields = Fields("journal", data, max_size=MAX_JOURNAL_SIZE)
    fields.constant("version", VERSION)
    sealed = fields.optional_nested("sealed")
    submission = Submission(
        id=fields.text("id", _MAX_LINE, minimum=1),
        created_at=fields.instant("created_at"),
        request=_read_request(fields.nested("request")),
        state=SubmissionState(fields.choice("state", _STATES)),
        sealed=None if sealed is None else _read_sealed(sealed),
        ticket=fields.optional_text("ticket", _MAX_TEXT),
        refusal=fields.optional_text("refusal", _MAX_TEXT),
        fragments=tuple(
            _read_progress(item) for item in fields.objects("fragments", MAX_FRAGMENTS)
        ),
        status=fields.optional_text("status", _MAX_TEXT),
        outcome=fields.optional_text("outcome", _MAX_LINE),
        outcome_note=fields.optional_text("outcome_note", _MAX_TEXT),
        repair_cursor=fields.uint("repair_cursor"),
        attempts=tuple(_read_attempt(item) for item in fields.objects("attempts", MAX_ATTEMPTS)),
    )
    fields.end()
    return submission


def newer_version(data: bytes) -> int | None:
    """The version of a journal that a newer program wrote; ``None`` for anything else."""
    try:
        found = decode_json(data, MAX_JOURNAL_SIZE)
    except FormatError:
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return version if type(version) is int and version > VERSION else None


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _request(request: Request) -> dict[str, Json]:
    return {
        "sources": request.sources,
        "server_url": request.server_url,
        "terms_key": request.terms_key,
        "origin": str(request.origin),
        "slot": request.slot,
        "kind": request.kind,
        "previous": None if request.previous is None else request.previous.hex(),
        "form": request.form,
        "key_file": request.key_file,
    }


def _read_request(fields: Fields) -> Request:
    request = Request(
        sources=fields.texts("sources", _MAX_SOURCES, longest=_MAX_LINE),
        server_url=fields.text("server_url", _MAX_LINE),
        terms_key=fields.text("terms_key", _MAX_LINE, minimum=1),
        origin=Origin.parse(fields.text("origin", MAX_ORIGIN_LENGTH)),
        slot=fields.text("slot", MAX_SLOT_LENGTH),
        kind=cast("Kind", fields.choice("kind", _KINDS)),
        previous=fields.optional_hex("previous", COMMITMENT_SIZE),
        form=fields.optional_text("form", _MAX_LINE),
        key_file=fields.optional_text("key_file", _MAX_LINE, minimum=1),
    )
    fields.end()
    return request


def _sealed(sealed: Sealed) -> dict[str, Json]:
    descriptors: list[Value] = [descriptor.encode() for descriptor in sealed.cut.descriptors]
    return {
        "commitment": sealed.commitment.hex(),
        "submission": _base64(sealed.signed.encode()),
        "layout": _base64(sealed.cut.layout.encode()),
        "descriptors": _base64(encode(descriptors)),
        "terms": sealed.terms,
    }


def _read_sealed(fields: Fields) -> Sealed:
    commitment = fields.hex("commitment", COMMITMENT_SIZE)
    layout = Layout.decode(fields.blob("layout", _MAX_LINE))
    items = Reader("journal, descriptors", fields.blob("descriptors", _MAX_TEXT))
    descriptors = tuple(Descriptor.decode(items.blob(_MAX_LINE)) for _ in range(layout.n))
    items.end()
    sealed = Sealed(
        signed=SignedHeader.decode(fields.blob("submission", _MAX_LINE)),
        cut=Cut(layout, descriptors),
        terms=fields.text("terms", _MAX_TEXT),
    )
    fields.end()
    if sealed.commitment != commitment:
        raise FormatError(
            f"journal: expected the commitment {sealed.commitment.hex()}, found {commitment.hex()}"
        )
    return sealed


def _progress(fragment: Progress) -> dict[str, Json]:
    return {
        "index": fragment.index,
        "relay": fragment.relay,
        "upload_url": fragment.upload_url,
        "receipt": fragment.receipt,
        "is_presented": fragment.is_presented,
        "failed": fragment.failed,
        "lost": fragment.lost,
    }


def _read_progress(fields: Fields) -> Progress:
    fragment = Progress(
        index=fields.uint("index", MAX_FRAGMENTS),
        relay=fields.optional_text("relay", _MAX_LINE, minimum=1),
        upload_url=fields.optional_text("upload_url", _MAX_LINE, minimum=1),
        receipt=fields.optional_text("receipt", _MAX_TEXT, minimum=1),
        is_presented=fields.boolean("is_presented"),
        failed=fields.texts("failed", _MAX_LOST, longest=_MAX_LINE),
        lost=fields.texts("lost", _MAX_LOST, longest=_MAX_TEXT),
    )
    fields.end()
    return fragment


def _attempt(attempt: Attempt) -> dict[str, Json]:
    return {
        "at": attempt.at,
        "step": attempt.step.value,
        "peer": attempt.peer,
        "code": attempt.code,
        "message": attempt.message,
    }


def _read_attempt(fields: Fields) -> Attempt:
    attempt = Attempt(
        at=fields.instant("at"),
        step=Step(fields.choice("step", _STEPS)),
        peer=fields.text("peer", _MAX_LINE),
        code=fields.text("code", _MAX_LINE),
        message=fields.text("message", MAX_MESSAGE_LENGTH),
    )
    fields.end()
    return attempt
