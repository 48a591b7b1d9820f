"""What evidence must settle first: whose terms they are, and which submission it is about.

Everything else in a file is checked with the keys of the terms and against the commitment.

Source: docs/spec/evidence.md, checks 1, 2 and 4 to 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bistro.crypto.digest import sha256
from bistro.crypto.signing import Note, VerifierKey, verify_note
from bistro.errors import VerificationError
from bistro.instant import UnixMillis, format_duration, format_rfc3339
from bistro.protocol.deadline import terms_in_force
from bistro.protocol.findings import Findings
from bistro.protocol.succession import verify_successor
from bistro.wire.clauses import Relay
from bistro.wire.evidence import Evidence
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.header import Header, SignedHeader
from bistro.wire.manifest import Manifest
from bistro.wire.terms import SignedTerms, Terms
from bistro.wire.ticket import TermsInForce


@dataclass(frozen=True, slots=True)
class TermsInLog:
    """A version of the terms and the proof that it came into force."""

    signed: SignedTerms
    proof: TermsInForce

    @property
    def terms(self) -> Terms:
        """The version."""
        return self.signed.terms


@dataclass(frozen=True, slots=True)
class Case:
    """What the rest of a file is checked against."""

    evidence: Evidence
    versions: tuple[TermsInLog, ...]
    header: Header
    cut: Cut
    commitment: bytes

    @property
    def latest(self) -> Terms:
        """The last version in the file."""
        return self.versions[-1].terms

    @property
    def log_key(self) -> VerifierKey:
        """The key of the call's log, fixed for the call."""
        return self.latest.keys.log

    @property
    def status_key(self) -> VerifierKey:
        """The key of status and minutes, fixed for the call."""
        return self.latest.keys.status

    @property
    def destination(self) -> str:
        """The destination's log, as one who vouches."""
        return f"{self.evidence.origin} (log key {self.log_key.fingerprint()})"

    def in_force(self, index: int) -> Terms:
        """The terms that rule over log entry ``index``.

        Raises:
            VerificationError: The entry stands before all terms.
        """
        if index <= self.versions[0].proof.index:
            raise VerificationError(f"log entry {index} stands before the first terms")
        return terms_in_force(
            index, [(version.proof.index, version.terms) for version in self.versions]
        )

    def in_force_at(self, at: UnixMillis) -> Terms:
        """The version whose entry is the last not after ``at``; the first, if none is."""
        known = [version.terms for version in self.versions if version.proof.time <= at]
        return known[-1] if known else self.versions[0].terms

    def relay(self, name: str, verify: Callable[[VerifierKey], object]) -> Relay:
        """The relay of this name that made a promise, whichever version of the terms names it.

        Promises outlive the list of relays: a later version may name another key for the same
        relay, and must not be able to undo what was promised under the one before.

        Args:
            name: As the promise gives it.
            verify: Checks the promise with a relay's key.

        Raises:
            VerificationError: No version names the relay, or the promise holds under none of
                its keys.
        """
        known = (version.terms.relay(name) for version in reversed(self.versions))
        relays = [relay for relay in known if relay is not None]
        for relay in relays[:-1]:
            try:
                verify(relay.vkey)
            except VerificationError:
                continue
            return relay
        if not relays:
            raise VerificationError(f"relay {name} is in no version of the terms")
        verify(relays[-1].vkey)
        return relays[-1]


def read_case(evidence: Evidence, findings: Findings, trust: VerifierKey | None) -> Case | None:
    """The case, or None where terms or submission do not hold; findings say why."""
    versions: tuple[TermsInLog, ...] = ()
    with findings.checking("terms"):
        versions = _read_versions(evidence)
        _verify_trust(evidence, versions, findings, trust)
        _tell_terms(evidence, versions, findings)
    if findings.has_failed("terms"):
        return None
    case: Case | None = None
    with findings.checking("header"):
        case = _read_submission(evidence, versions, findings)
    if case is not None and evidence.manifest is not None:
        with findings.checking("manifest"):
            _verify_manifest(evidence.manifest, case.header, findings)
    return case


def _read_versions(evidence: Evidence) -> tuple[TermsInLog, ...]:
    """All versions, each signed, following the one before, and in the log."""
    versions = tuple(
        TermsInLog(SignedTerms.parse(version.note.encode()), TermsInForce.parse(version.proof))
        for version in evidence.terms
    )
    first = versions[0]
    first.signed.verify(first.terms.keys.terms)
    if first.terms.version != 1 or first.proof.index != 0:
        raise VerificationError(
            f"expected version 1 at index 0, found version {first.terms.version} "
            f"at index {first.proof.index}"
        )
    for old, new in pairwise(versions):
        verify_successor(old.terms, new.terms)
        new.signed.verify(old.terms.keys.terms)
        if new.proof.index <= old.proof.index:
            raise VerificationError(
                f"version {new.terms.version} is entry {new.proof.index} of the log, version "
                f"{old.terms.version} before it is entry {old.proof.index}"
            )
    for version in versions:
        if version.signed.origin != evidence.origin:
            raise VerificationError(
                f"expected terms of {evidence.origin}, found those of {version.signed.origin}"
            )
        version.proof.verify(first.terms.keys.log, evidence.origin, version.signed.hash)
    return versions


def _has_signed(note: Note, key: VerifierKey) -> bool:
    try:
        verify_note(note, key)
    except VerificationError:
        return False
    return True


def _verify_trust(
    evidence: Evidence,
    versions: Sequence[TermsInLog],
    findings: Findings,
    trust: VerifierKey | None,
) -> None:
    """Check that the trusted key, or one that it passed trust on to, signed a version.

    One version is enough: it names those before it by hash, and those after it needed the
    signature of the key before.
    """
    pinned = VerifierKey.parse(evidence.terms_key)
    keys = [pinned if trust is None else trust]
    # A signature says nothing about a call of another server, whoever is trusted there.
    for key in (*keys, pinned):
        if key.name != evidence.origin.server:
            raise VerificationError(
                f"expected a terms key of {evidence.origin.server}, found one of {key.name}"
            )
    for text in evidence.rotations:
        rotation = SignedTerms.parse(text.encode())
        # Notes from before the trusted key say nothing about it. Trust runs forward only: a
        # new key's signature does not vouch for whoever else signed the same note.
        if rotation.terms.keys.terms not in keys and _has_signed(rotation.note, keys[-1]):
            rotation.verify(keys[-1])
            keys.append(rotation.terms.keys.terms)
    if pinned not in {*keys, *(version.terms.keys.terms for version in versions)}:
        raise VerificationError(
            f"the file says that key {pinned.fingerprint()} was pinned, which neither signed "
            f"its terms nor follows from key {keys[0].fingerprint()}"
        )
    if not any(_has_signed(version.signed.note, key) for version in versions for key in keys):
        signer = versions[0].terms.keys.terms
        raise VerificationError(
            f"expected terms signed by {keys[0].name} with key {keys[0].fingerprint()}, "
            f"found key {signer.fingerprint()} of {signer.name}"
        )
    if trust is None:
        findings.open(
            "trust",
            f"The key of {keys[0].name} was taken from this file itself. Compare its fingerprint "
            f"{keys[0].fingerprint()} with one that you know otherwise: until then this "
            "shows only what the holder of that key has signed.",
        )
        return
    how = "with that key" if len(keys) == 1 else "with a key that it passed on to"
    findings.ok("trust", f"The terms are signed {how}.", by=f"you, who trust {_named(trust)}")


def _named(key: VerifierKey) -> str:
    return f"{key.name} (key {key.fingerprint()})"


def _tell_terms(evidence: Evidence, versions: Sequence[TermsInLog], findings: Findings) -> None:
    latest = versions[-1].terms
    count = f"{len(versions)} versions" if len(versions) > 1 else "1 version"
    findings.ok(
        "terms",
        f"The call {evidence.origin} ({latest.title}) was published in {count}. By the last one "
        f"it opens {format_rfc3339(latest.opens)} and closes {format_rfc3339(latest.closes)}, "
        f"with a grace of {format_duration(latest.grace_ms)}.",
        by=_named(latest.keys.terms),
    )


def _read_submission(
    evidence: Evidence, versions: Sequence[TermsInLog], findings: Findings
) -> Case:
    """Header, layout and descriptors, and what they commit to."""
    signed = SignedHeader.decode(evidence.submission)
    signed.verify()
    header = signed.header
    cut = Cut(
        Layout.decode(evidence.layout),
        tuple(Descriptor.decode(descriptor) for descriptor in evidence.descriptors),
    )
    terms = _terms_of(header, versions)
    _require_allowed(cut.layout, terms)
    commitment = cut.commitment(header.leaf)
    key = header.filer_key.hex()
    findings.ok(
        "header",
        f"The holder of filer key {key} signed this submission ({header.kind}, slot "
        f"{header.slot}) under version {terms.version} of the terms; header, layout and "
        f"{cut.layout.n} fragments give commitment {commitment.hex()}.",
        by=f"filer key {key}",
    )
    return Case(evidence, tuple(versions), header, cut, commitment)


def _terms_of(header: Header, versions: Sequence[TermsInLog]) -> Terms:
    for version in versions:
        if version.signed.hash == header.terms_hash:
            return version.terms
    raise VerificationError(
        f"the header names terms {header.terms_hash.hex()}, which are none of this call's"
    )


def _require_allowed(layout: Layout, terms: Terms) -> None:
    spread = terms.spread
    if (layout.k, layout.n) != (spread.k, spread.n):
        raise VerificationError(
            f"expected {spread.k} of {spread.n} fragments as in the terms, "
            f"found {layout.k} of {layout.n}"
        )
    if layout.envelope_size > terms.envelope_limit:
        raise VerificationError(
            f"expected an envelope of at most {terms.envelope_limit} bytes, "
            f"found {layout.envelope_size}"
        )


def _verify_manifest(data: bytes, header: Header, findings: Findings) -> None:
    manifest = Manifest.decode(data)
    found = sha256(data)
    if found != header.manifest_sha256:
        raise VerificationError(
            f"expected the manifest {header.manifest_sha256.hex()} that the header names, "
            f"found {found.hex()}"
        )
    count, size = len(manifest.files), sum(file.size for file in manifest.files)
    files = "1 file" if count == 1 else f"{count} files"
    findings.ok(
        "manifest",
        f"The manifest lists {files} of {size} bytes with their hashes: whoever has the "
        "files can compare them.",
        by=f"filer key {header.filer_key.hex()}",
    )
