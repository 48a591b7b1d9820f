"""Hypothesis strategies for values on the wire, valid ones only.

Draw from ``HASHES``, ``ORIGINS``, ``HEADERS``, ``TERMS`` and so on; decode what they encode, and
change their bytes to get bad ones (``corrupted``).
"""

from __future__ import annotations

import unicodedata
from itertools import permutations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st

from bistro import ids
from bistro.crypto.age.hybrid import HybridIdentity
from bistro.crypto.age.x25519 import X25519Identity
from bistro.crypto.digest import sha256
from bistro.crypto.signing import SigningKey, VerifierKey, sign_message
from bistro.errors import FormatError
from bistro.ids import Origin
from bistro.instant import MAX_INSTANT, UnixMillis
from bistro.wire import clauses, codec, document, fragment
from bistro.wire.claim import Claim
from bistro.wire.fragment import Cut, Descriptor, Layout
from bistro.wire.header import SIGNATURE_PREFIX, Header, SignedHeader
from bistro.wire.manifest import File, Manifest, find_clash
from bistro.wire.officers import Officer, Officers
from bistro.wire.terms import Terms


def private_key(seed: str) -> Ed25519PrivateKey:
    """The same Ed25519 key in every run for the same ``seed``."""
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()))


def note_key(name: str, *, seed: str = "") -> SigningKey:
    """The same note key in every run for the same ``name`` and ``seed``."""
    return SigningKey(name, private_key(seed + name))


def corrupted(encodings: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Encodings with one byte changed, cut off, put in or left out."""

    def change(drawn: tuple[bytes, int, int, str]) -> bytes:
        data, at, byte, how = drawn
        at %= len(data) + 1
        tail = {"change": data[at + 1 :], "put in": data[at:], "leave out": data[at + 1 :]}
        middle = b"" if how in {"leave out", "cut off"} else bytes([byte])
        return data[:at] + middle + tail.get(how, b"")

    how = st.sampled_from(["change", "put in", "leave out", "cut off"])
    return st.tuples(encodings, st.integers(0, 2**20), st.integers(0, 255), how).map(change)


def _is_path(path: str) -> bool:
    try:
        ids.require_file_path(path)
    except FormatError:
        return False
    return True


HASHES = st.binary(min_size=32, max_size=32)
SIGNATURES = st.binary(min_size=64, max_size=64)
INSTANTS = st.integers(0, MAX_INSTANT).map(UnixMillis)
UNICODE = st.characters(codec="utf-8")


def _host_name(text: str) -> str:
    """Two to four labels of the characters of ``text``, as many as its length says."""
    count = 2 + len(text) % 3
    parts = (text[at * len(text) // count : (at + 1) * len(text) // count] for at in range(count))
    return ".".join(part.strip("-") or "a" for part in parts)


def _code(text: str) -> str:
    words = [word[:12] for word in text.split("-") if word]
    return "-".join(words[:4]) or "a"


# One text is drawn and made to fit, for a regular expression is drawn sign by sign.
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_DIGITS = "0123456789"
_LABEL_TEXTS = st.text(_LOWER + _DIGITS + "-", min_size=1, max_size=63)
HOST_NAMES = _LABEL_TEXTS.map(_host_name)
CALL_IDS = _LABEL_TEXTS.map(lambda text: text.strip("-") or "a").filter(
    lambda call: call not in {"collect", "custody", "postmarks", "refusals", "status"}
)
ORIGINS = st.builds(Origin, HOST_NAMES, CALL_IDS)
SLOTS = st.text(_LOWER + _LOWER.upper() + _DIGITS + "._-", min_size=1, max_size=64).map(
    lambda text: text.lstrip("._-") or "0"
)
LINES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "),
    min_size=1,
    max_size=60,
)
_SEGMENTS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters='<>:"|?*\\/'),
    min_size=1,
    max_size=30,
).map(lambda text: unicodedata.normalize("NFC", text))
FILE_PATHS = st.lists(_SEGMENTS, min_size=1, max_size=4).map("/".join).filter(_is_path)
CODES = st.text(_LOWER + "-", min_size=1, max_size=60).map(_code)
PROMISES = st.text(st.characters(codec="ascii"), min_size=1, max_size=600)

CODEC_VALUES: st.SearchStrategy[codec.Value] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, codec.MAX_UINT)
    | st.binary(max_size=300)
    | st.text(UNICODE, max_size=80),
    lambda children: st.lists(children, max_size=20),
    max_leaves=20,
)
JSON_VALUES: st.SearchStrategy[document.Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-document.MAX_INTEGER, document.MAX_INTEGER)
    | st.text(UNICODE, max_size=80),
    lambda children: (
        st.lists(children, max_size=5) | st.dictionaries(st.text(UNICODE), children, max_size=5)
    ),
    max_leaves=20,
)

_KINDS_WITH_PREVIOUS = st.one_of(
    st.tuples(st.just("submit"), st.none()),
    st.tuples(st.sampled_from(["amend", "withdraw"]), HASHES),
)


@st.composite
def headers(draw: st.DrawFn, filer: VerifierKey | None = None) -> Header:
    """A header of any kind, of ``filer`` if one is given."""
    kind, previous = draw(_KINDS_WITH_PREVIOUS)
    return Header(
        terms_hash=draw(HASHES),
        manifest_sha256=draw(HASHES),
        filer_key=draw(HASHES) if filer is None else filer.public,
        slot=draw(SLOTS),
        kind=kind,  # type: ignore[arg-type]
        previous=previous,
        nonce=draw(HASHES),
    )


@st.composite
def signed_headers(draw: st.DrawFn) -> SignedHeader:
    """A header that its filer signed."""
    key = private_key(draw(st.sampled_from(["ada", "grace"])))
    header = draw(headers(VerifierKey("filer", key.public_key().public_bytes_raw())))
    return SignedHeader(header, sign_message(key, SIGNATURE_PREFIX, header.encode()))


@st.composite
def cuts(draw: st.DrawFn, max_n: int = 20) -> Cut:
    """A layout with the descriptors of all its fragments."""
    n = draw(st.integers(1, max_n))
    layout = Layout(
        envelope_hash=draw(HASHES),
        envelope_size=draw(st.integers(1, 2**32)),
        k=draw(st.integers(1, n)),
        n=n,
    )
    seed = draw(st.binary(max_size=4))
    return Cut(
        layout,
        tuple(
            Descriptor(index, layout.fragment_size, sha256(seed + bytes([index])))
            for index in range(n)
        ),
    )


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    """A claim whose path leads from its descriptor to the root; its promise is any text."""
    cut = draw(cuts())
    index = draw(st.integers(0, cut.layout.n - 1))
    return Claim(
        origin=draw(ORIGINS),
        promise=draw(PROMISES),
        layout=cut.layout,
        header_leaf=draw(HASHES),
        descriptor=cut.descriptors[index],
        path=cut.path(index),
    )


FILES = st.builds(
    File,
    path=FILE_PATHS,
    size=st.integers(0, 2**40),
    type=st.sampled_from(["application/pdf", "text/csv", "application/vnd.x+xml"]),
    sha256=HASHES,
)


def _beside_each_other(files: list[File]) -> tuple[File, ...]:
    """Those of ``files`` that can be unpacked together, in the order of a manifest."""
    kept: dict[str, File] = {}
    for file in files:
        if find_clash([*kept, file.path]) is None:
            kept[file.path] = file
    return tuple(kept[path] for path in sorted(kept, key=str.encode))


MANIFESTS = st.builds(
    Manifest,
    files=st.lists(FILES, max_size=6, unique_by=lambda file: file.path).map(_beside_each_other),
    form=st.none() | st.text(UNICODE, min_size=1, max_size=128),
    references=st.lists(st.text(UNICODE, min_size=1, max_size=40), max_size=3).map(tuple),
    notes=st.none() | st.text(UNICODE, min_size=1, max_size=200),
)

HEADERS = headers()
SIGNED_HEADERS = signed_headers()
CUTS = cuts()
CLAIMS = claims()
LAYOUTS = CUTS.map(lambda cut: cut.layout)
DESCRIPTORS = st.builds(
    Descriptor,
    index=st.integers(0, fragment.MAX_FRAGMENTS - 1),
    size=st.integers(1, fragment.MAX_ENVELOPE_SIZE),
    fragment_hash=HASHES,
)

HYBRID_RECIPIENTS = [HybridIdentity(sha256(bytes([i]))).recipient.format() for i in range(2)]
X25519_RECIPIENTS = [X25519Identity(sha256(bytes([i]))).recipient.format() for i in range(3)]
RECIPIENTS = st.sampled_from(
    [
        chosen
        for keys in (HYBRID_RECIPIENTS, X25519_RECIPIENTS)
        for count in range(1, len(keys) + 1)
        for chosen in permutations(keys, count)
    ]
)
BASE_URLS = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https"]),
    HOST_NAMES | st.sampled_from(["localhost", "127.0.0.1", "[::1]"]),
    st.just("") | st.integers(1, 65_535).map(":{}".format),
    st.sampled_from(["", "/bistro", "/a/b-c"]),
)


def relay_named(name: str, **changes: object) -> clauses.Relay:
    """A relay with this name and a key of its own; ``changes`` are other fields."""
    fields: dict[str, object] = {
        "name": name,
        "operator": f"operator of {name}"[:200],
        "url": f"https://{name}",
        "vkey": note_key(name).verifier,
        "region": "eu",
        "weight": 100,
    }
    return clauses.Relay(**(fields | changes))  # type: ignore[arg-type]


RELAYS = st.builds(
    relay_named,
    HOST_NAMES,
    operator=LINES,
    url=BASE_URLS,
    region=st.just("") | LINES,
    weight=st.integers(1, clauses.MAX_WEIGHT),
)


def call_keys(origin: Origin, *, terms_seed: str = "") -> clauses.Keys:
    """The keys of a call, the same in every run; ``note_key(name)`` signs for them."""
    return clauses.Keys(
        terms=note_key(origin.server, seed=terms_seed).verifier,
        log=note_key(str(origin)).verifier,
        collect=note_key(origin.collect).verifier,
        status=note_key(origin.status).verifier,
    )


def _outages(times: list[int]) -> tuple[clauses.Outage, ...]:
    times.sort()
    pairs = zip(times[::2], times[1::2], strict=False)
    return tuple(clauses.Outage(UnixMillis(since), UnixMillis(until)) for since, until in pairs)


_POSTMARKS = st.none() | st.builds(clauses.Postmark, st.integers(2, 255))
_RELAY_LISTS = st.lists(RELAYS, max_size=3, unique_by=lambda relay: relay.name).map(tuple)
_OUTAGES = st.lists(st.integers(0, 2**42), max_size=4, unique=True).map(_outages)
_AUTHORITIES = st.lists(
    st.builds(clauses.Authority, HASHES, BASE_URLS),
    max_size=3,
    unique_by=lambda authority: authority.certificate,
).map(tuple)
_OFFICERS = st.sampled_from(
    [None, Officers(2, tuple(Officer(f"Officer {key[-6:]}", key) for key in X25519_RECIPIENTS))]
)


@st.composite
def terms(draw: st.DrawFn) -> Terms:
    """Terms of any call that obey every rule; sign with ``note_key(origin.server)``."""
    origin = draw(ORIGINS)
    version = draw(st.integers(1, 5))
    opens = draw(st.integers(0, 2**42))
    closes = opens + draw(st.integers(1, 2**40))
    grace_ms = draw(st.integers(1_000, 86_400_000))
    stage_by = closes + grace_ms + draw(st.integers(0, 2**35))
    n = draw(st.integers(1, 255))
    filers = draw(st.sampled_from(["anyone", "registered"]))
    postmark = draw(_POSTMARKS)
    sealed = ["stage_by", "none"] if postmark else ["stage_by", "none", "closes"]
    return Terms(
        origin=origin,
        version=version,
        supersedes=None if version == 1 else draw(HASHES),
        title=draw(LINES),
        opens=UnixMillis(opens),
        closes=UnixMillis(closes),
        grace_ms=grace_ms,
        stage_by=UnixMillis(stage_by),
        repair_by=UnixMillis(stage_by + draw(st.integers(0, 2**35))),
        sealed_until=draw(st.sampled_from(sealed)),
        time_zone=draw(st.sampled_from(["UTC", "Europe/Lisbon", "America/Port-au-Prince"])),
        recipients=draw(RECIPIENTS),
        envelope_limit=draw(st.integers(1, fragment.MAX_ENVELOPE_SIZE)),
        files_limit=draw(st.integers(1, 100_000)),
        spread=clauses.Spread(draw(st.integers(1, n)), n),
        padding=draw(st.sampled_from(["none", "padme"])),
        filers=filers,  # type: ignore[arg-type]
        tickets_per_filer=draw(st.none() | st.integers(1, 9)) if filers == "registered" else None,
        keys=call_keys(origin),
        relays=draw(_RELAY_LISTS),
        postmark=postmark,
        outages=draw(_OUTAGES),
        timestamping=draw(_AUTHORITIES),
        officers=draw(_OFFICERS),
    )


TERMS = terms()
