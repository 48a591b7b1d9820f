"""First contact, pinned keys, terms: whom the client believes, and what it tells the filer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bistro.crypto.signing import SigningKey, VerifierKey
from bistro.errors import (
    DeadlinePassedError,
    LimitExceededError,
    NotOpenError,
    RefusedError,
    SettingsError,
    StorageError,
    UnavailableError,
    UnknownObjectError,
    VerificationError,
)
from bistro.ids import Origin
from bistro.instant import UnixMillis
from bistro.wire.clauses import Spread
from bistro.wire.discovery import ServerDiscovery
from bistro.wire.entry import TermsEntry, TicketEntry
from bistro.wire.served_terms import ServedTerms
from bistro.wire.terms import Terms, build
from bistro.wire.ticket import TermsInForce, Ticket
from bistro_client.contact import Reception, Versions
from bistro_client.known_servers import KnownServers, Pin, follow
from tests.support.clocks import NOON, ManualClock
from tests.support.destinations import HOUR_MS, SPRING
from tests.support.promises import MemoryLedger
from tests.support.strategies import X25519_RECIPIENTS, call_keys, note_key
from tests.unit.client.worlds import Change, World, world


def pins(w: World) -> KnownServers:
    return KnownServers(w.home.known_servers)


def pinned_key(w: World) -> VerifierKey:
    pin = pins(w).find("permits.example")
    assert pin is not None
    return pin.terms_key


def showing(key: SigningKey) -> Change:
    """A discovery that shows another key."""

    def change(body: bytes) -> bytes:
        return replace(ServerDiscovery.decode(body), terms_key=key.verifier).encode()

    return change


async def test_the_first_contact_pins_the_key_and_shows_its_fingerprint(tmp_path: Path) -> None:
    """The filer can compare it; the second contact says nothing."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        key = w.destination.terms.keys.terms
        assert pinned_key(w) == key
        assert key.fingerprint() in w.listener.text("pinned")
        w.listener.notices.clear()
        await w.submitter().submit(w.wish())
        assert "pinned" not in w.listener.keys


async def test_a_changed_key_is_refused_showing_both(tmp_path: Path) -> None:
    """Exit 4, nothing is sent, the pin stays."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        other = note_key("permits.example", seed="other")
        w.wire.changes["bistro.json"] = showing(other)
        asked = len(w.wire.asked)
        with pytest.raises(VerificationError) as caught:
            await w.submitter().submit(w.wish())
        pinned = w.destination.terms.keys.terms
        assert pinned.fingerprint() in caught.value.message
        assert other.verifier.fingerprint() in caught.value.message
        assert "--trust" in caught.value.hint
        assert len(w.wire.asked) == asked + 1
        assert pinned_key(w) == pinned
        assert len(w.home.folders()) == 1


async def test_a_given_key_must_be_the_one_that_is_shown(tmp_path: Path) -> None:
    """``--trust`` beats everything: another key is refused at first contact, too."""
    async with world(tmp_path) as w:
        other = note_key("permits.example", seed="other").verifier
        with pytest.raises(VerificationError, match="not the trusted one"):
            await w.submitter().submit(w.wish(trust=other))
        assert pins(w).pins() == ()
        assert w.home.folders() == []
        await w.submitter().submit(w.wish(trust=w.destination.terms.keys.terms))
        assert len(pins(w).pins()) == 1


async def test_terms_that_the_shown_key_did_not_sign_are_refused(tmp_path: Path) -> None:
    """Discovery proves nothing: whoever changes the key there must also sign the terms."""
    async with world(tmp_path) as w:
        w.wire.changes["bistro.json"] = showing(note_key("permits.example", seed="other"))
        with pytest.raises(VerificationError):
            await w.submitter().submit(w.wish())
        assert w.home.folders() == []


async def test_a_server_that_changes_its_name_is_refused(tmp_path: Path) -> None:
    """The address was pinned under another name."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        other = note_key("evil.example")

        def change(body: bytes) -> bytes:
            found = ServerDiscovery.decode(body)
            return replace(found, name="evil.example", terms_key=other.verifier).encode()

        w.wire.changes["bistro.json"] = change
        with pytest.raises(VerificationError, match=r"permits\.example.*evil\.example"):
            await w.submitter().submit(w.wish())


@pytest.mark.parametrize(
    "url", ["ftp://permits.example", "permits.example", "http://permits.example", "https://u:p@x.y"]
)
async def test_a_wrong_url_is_refused_at_once(tmp_path: Path, url: str) -> None:
    """Exit 2, nothing is asked."""
    async with world(tmp_path) as w:
        with pytest.raises(SettingsError):
            await w.submitter().submit(replace(w.wish(), url=url))
        assert w.home.folders() == []


async def test_an_address_where_nobody_answers_is_given_up_soon(tmp_path: Path) -> None:
    """Exit 5 after seconds: it is more likely wrong than down."""
    async with world(tmp_path) as w:
        began = w.clock.now()
        with pytest.raises(UnavailableError):
            await w.submitter(limit_ms=None).submit(replace(w.wish(), url="http://127.0.0.1:9"))
        assert w.clock.now() - began < 10_000
        assert w.home.folders() == []


async def test_another_web_server_is_no_destination(tmp_path: Path) -> None:
    """The message says what was looked for; nothing is sent."""
    async with world(tmp_path) as w:
        w.wire.changes["bistro.json"] = lambda _: b"<html>It works!</html>"
        with pytest.raises(UnavailableError, match="no Bistro server answers"):
            await w.submitter().submit(w.wish())


async def test_an_unknown_call_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    """Exit 3, and the hint lists them."""
    async with world(tmp_path) as w:
        with pytest.raises(UnknownObjectError) as caught:
            await w.submitter().submit(w.wish(call="summer"))
        assert "spring (open)" in caught.value.hint
        assert w.home.folders() == []


async def test_the_only_open_call_need_not_be_named(tmp_path: Path) -> None:
    """And where none is open, the hint lists what there is."""
    async with world(tmp_path) as w:

        def nothing_open(body: bytes) -> bytes:
            found = ServerDiscovery.decode(body)
            calls = tuple(replace(call, state="closed") for call in found.calls)
            return replace(found, calls=calls).encode()

        w.wire.changes["bistro.json"] = nothing_open
        with pytest.raises(SettingsError) as caught:
            await w.submitter().submit(w.wish())
        assert "spring (closed)" in caught.value.hint


async def test_limits_are_known_before_anything_is_read(tmp_path: Path) -> None:
    """Too many files and too many bytes are exit 3, with nothing begun."""
    async with world(tmp_path, files_limit=2, envelope_limit=10_000) as w:
        with pytest.raises(LimitExceededError, match="at most 2 files"):
            await w.submitter().submit(w.wish(w.files(10, 10, 10)))
        (w.root / "filing" / "report-2.pdf").unlink()
        (w.root / "filing" / "report-1.pdf").write_bytes(b"x" * 20_000)
        with pytest.raises(LimitExceededError, match="at most 10,000 bytes"):
            await w.submitter().submit(w.wish(w.root / "filing"))
        assert w.home.folders() == []


async def test_a_call_that_opens_later_is_not_asked(tmp_path: Path) -> None:
    """Exit 3, and the message says when."""
    async with world(tmp_path, opens=UnixMillis(NOON + 60_000)) as w:
        with pytest.raises(NotOpenError, match="12:01:00"):
            await w.submitter().submit(w.wish(call="spring"))
        assert w.home.folders() == []


async def test_a_clock_an_hour_off_changes_nothing_but_a_warning(tmp_path: Path) -> None:
    """Only the destination's time counts, an hour behind or ahead."""
    for number, skew_ms in enumerate((-HOUR_MS, HOUR_MS - 60_000)):
        root = tmp_path / str(number)
        root.mkdir()
        async with world(root) as w:
            clock = ManualClock(UnixMillis(NOON + skew_ms))
            done = await w.submitter(clock=clock).submit(w.wish())
            assert "on-time" in w.listener.keys
            assert done.state == "staged"
            text = w.listener.text("clock-is-off")
            assert ("behind" if skew_ms < 0 else "ahead") in text


async def test_a_right_clock_is_not_talked_about(tmp_path: Path) -> None:
    """No warning without need."""
    async with world(tmp_path) as w:
        await w.submitter().submit(w.wish())
        assert "clock-is-off" not in w.listener.keys


async def test_the_deadline_is_shown_in_the_zone_of_the_call(tmp_path: Path) -> None:
    """And in the filer's own, where that is another."""
    async with world(tmp_path, time_zone="America/New_York") as w:
        await w.submitter().submit(w.wish())
        text = w.listener.text("deadline")
        assert "08:00:00 America/New_York" in text
        assert "in 59 min 59 s" in text


def test_damaged_pins_are_not_overwritten(tmp_path: Path) -> None:
    """A list that cannot be read is no empty list: exit 1, and the file stays."""
    path = tmp_path / "known-servers.json"
    path.write_bytes(b"{}")
    with pytest.raises(StorageError, match="damaged"):
        KnownServers(path).pins()
    assert path.read_bytes() == b"{}"


def test_trust_follows_signed_rotations_only() -> None:
    """Old key signs the new one's terms; a note by a stranger leads nowhere."""
    old, new = note_key("permits.example"), note_key("permits.example", seed="new")
    stranger = note_key("permits.example", seed="stranger")
    keys = replace(call_keys(SPRING), terms=new.verifier)
    terms = replace(_terms(), keys=keys, version=2, supersedes=_terms().hash)
    rotation = build(terms, old, new).encode().decode()
    assert follow(old.verifier, [rotation]) == new.verifier
    assert follow(stranger.verifier, [rotation, "no note at all"]) == stranger.verifier
    assert follow(new.verifier, [rotation]) == new.verifier


def _terms() -> Terms:
    return Terms(
        origin=SPRING,
        title="Spring",
        opens=NOON,
        closes=UnixMillis(NOON + HOUR_MS),
        grace_ms=1_000,
        stage_by=UnixMillis(NOON + 2 * HOUR_MS),
        repair_by=UnixMillis(NOON + 3 * HOUR_MS),
        recipients=tuple(X25519_RECIPIENTS[:1]),
        envelope_limit=10_000,
        files_limit=10,
        spread=Spread(2, 3),
        keys=call_keys(SPRING),
        relays=(),
    )


@pytest.mark.parametrize(("late_ms", "is_fine"), [(0, True), (1_000, True), (1_001, False)])
def test_a_ticket_after_the_last_moment_proves_nothing(late_ms: int, *, is_fine: bool) -> None:
    """Though signed, it does not make anybody be on time."""
    terms = _terms()
    signed = build(terms, note_key("permits.example"))
    ledger = MemoryLedger(note_key(str(SPRING)))
    entry = TermsEntry(origin=str(SPRING), time=NOON, digest=signed.hash)
    versions = Versions((ServedTerms(signed, TermsInForce.parse(ledger.promise(entry))),))
    at = UnixMillis(terms.closes + late_ms)
    stamped = TicketEntry(origin=str(SPRING), time=at, digest=bytes(32))
    ticket = Ticket.parse(ledger.promise(stamped))
    if is_fine:
        versions.require_on_time(ticket)
        return
    with pytest.raises(VerificationError, match="after the last moment"):
        versions.require_on_time(ticket)


async def test_a_closed_call_is_asked_for_a_signed_refusal(tmp_path: Path) -> None:
    """The filer is told that it is late, and gets proof of the attempt."""
    async with world(tmp_path) as w:
        w.clock.advance(HOUR_MS + 5_000)
        with pytest.raises(DeadlinePassedError):
            await w.submitter().submit(w.wish(call="spring"))
        assert "closed" in w.listener.text("deadline")


def _served(terms: Terms, ledger: MemoryLedger, *keys: SigningKey) -> ServedTerms:
    signed = build(terms, *keys)
    entry = TermsEntry(origin=str(SPRING), time=NOON, digest=signed.hash)
    return ServedTerms(signed, TermsInForce.parse(ledger.promise(entry)))


async def test_all_versions_of_the_terms_are_fetched_and_verified(tmp_path: Path) -> None:
    """Back to the first by the hash each one names, also past a change of the terms key."""
    old, new = note_key("permits.example"), note_key("permits.example", seed="new")
    first = _terms()
    keys = replace(first.keys, terms=new.verifier)
    second = replace(
        first, version=2, supersedes=first.hash, closes=UnixMillis(first.closes + 1_000), keys=keys
    )
    ledger = MemoryLedger(note_key(str(SPRING)))
    served = _served(first, ledger, old), _served(second, ledger, old, new)
    async with world(tmp_path) as w:
        w.wire.changes["bistro.json"] = showing(new)
        w.wire.answers["/terms"] = served[1].encode()
        w.wire.answers[f"/terms/{first.hash.hex()}"] = served[0].encode()
        reception = Reception(w.session, pins(w), w.clock, w.listener)
        found = await reception.reach(w.url)
        versions = await found.fetch_versions(SPRING)
        assert [one.signed.terms.version for one in versions.served] == [1, 2]
        assert versions.terms == second

        shorter = replace(second, closes=UnixMillis(first.closes - 1))
        w.wire.answers["/terms"] = _served(shorter, ledger, old, new).encode()
        with pytest.raises(VerificationError, match="closes may not go"):
            await found.fetch_versions(SPRING)

        w.wire.answers["/terms"] = served[0].encode()
        with pytest.raises(VerificationError):
            await found.fetch_versions(SPRING)
        w.wire.changes["bistro.json"] = showing(old)
        found = await reception.reach(w.url, given=old.verifier)
        with pytest.raises(VerificationError, match="expected those of"):
            await found.fetch_versions(Origin("permits.example", "summer"))


async def test_a_server_of_another_protocol_is_named(tmp_path: Path) -> None:
    """A newer program is needed, not another try."""
    async with world(tmp_path) as w:
        w.wire.changes["bistro.json"] = lambda body: replace(
            ServerDiscovery.decode(body), protocols=(2, 3)
        ).encode()
        with pytest.raises(RefusedError, match="speaks protocol 1, found 2, 3"):
            await w.submitter().submit(w.wish())


def test_pins_of_several_processes_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """Each one reads, adds and writes under a lock."""
    path = tmp_path / "known-servers.json"

    def pin(number: int) -> None:
        name = f"s{number}.example"
        key = note_key(name).verifier
        KnownServers(path).save(Pin(name, key, NOON, f"https://{name}"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(pin, range(24)))
    assert len(KnownServers(path).pins()) == 24
