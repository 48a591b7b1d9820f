"""A ledger agrees with a list of entries, whatever is appended, published and reopened."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bistro.crypto.digest import leaf_hash
from bistro.crypto.merkle import BatchTree, Frontier, root_of, verify_consistency
from bistro.crypto.signing import SigningKey
from bistro.errors import StorageError, UnavailableError, UnknownObjectError
from bistro.instant import UnixMillis
from bistro.ledger.ledger import Ledger
from bistro.ledger.proofs import CheckpointSpeller, ProofTexts, format_proof
from bistro.ledger.tiles import TilePath, decode_bundle
from bistro.wire.checkpoint import Checkpoint, verify_checkpoint
from bistro.wire.proof import Proof
from tests.support.clocks import NOON
from tests.unit.ledger.drafts import (
    KEY,
    ORIGIN,
    append,
    commitment,
    entry,
    find,
    item,
    open_ledger,
    require_proven,
)


async def fill(ledger: Ledger, count: int, *, batch: int = 100) -> None:
    while ledger.size < count:
        begin = ledger.size
        numbers = range(begin, min(begin + batch, count))
        await append(ledger, [item(number) for number in numbers], last_time=NOON)


async def require_equal(ledger: Ledger, count: int) -> None:
    """The ledger holds entries 0 to ``count``, and proves them."""
    leaves = [leaf_hash(entry(number)) for number in range(count)]
    assert ledger.size == count
    assert list(ledger.entries()) == [entry(number) for number in range(count)]
    if count:
        checkpoint = verify_checkpoint(ledger.checkpoint() or b"", KEY.verifier)
        assert (checkpoint.size, checkpoint.root) == (count, root_of(leaves))
        assert ledger.last_time == NOON
    for number in {0, count // 2, count - 1} - {-1} if count else ():
        found = await find(ledger, number)
        assert (found.index, found.is_duplicate) == (number, True)
        require_proven(found, number)
    for old in {0, 1, count // 3, count} if count else ():
        path = await ledger.prove_consistency(old)
        verify_consistency(
            old_size=old,
            old_root=root_of(leaves[:old]),
            size=count,
            root=root_of(leaves),
            path=path,
        )
    assert await ledger.find(commitment(count)) is None


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 700])
async def test_entries_are_proven_before_and_after_publishing_and_reopening(
    tmp_path: Path, count: int
) -> None:
    """Whether they are in memory, in tiles, or in both."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, count)
    await require_equal(ledger, count)
    await ledger.publish()
    await require_equal(ledger, count)
    await ledger.close()
    ledger = await open_ledger(tmp_path / "l")
    await require_equal(ledger, count)
    report = await ledger.check()
    assert (report.size, report.tile_count) == (count, count // 256 * 2)
    await ledger.close()


async def test_a_second_tile_level_is_published_and_proven(tmp_path: Path) -> None:
    """65,536 entries complete a tile of level 1; memory holds only the edges."""
    count = 65_536 + 256 + 3
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, count, batch=5_000)
    await ledger.publish()
    assert len(ledger._parts.view.data) == 3
    assert [len(edge) for edge in ledger._parts.view.edges] == [1, 1]
    await require_equal(ledger, count)
    assert len(await ledger.tile("tile/1/000")) == 8_192
    assert len(await ledger.tile("tile/2/000.p/1")) == 32
    await ledger.close()
    ledger = await open_ledger(tmp_path / "l")
    assert [len(edge) for edge in ledger._parts.view.edges] == [1, 1]
    for number in (0, 65_535, 65_536, count - 1):
        require_proven(await find(ledger, number), number)
    assert (await ledger.check()).tile_count == 2 * 257 + 1
    await ledger.close()


async def test_any_tile_is_served_full_or_partial_as_far_as_the_ledger_goes(tmp_path: Path) -> None:
    """From files or memory, the same bytes; beyond the size there is nothing."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, 600)
    leaves = [leaf_hash(entry(number)) for number in range(600)]
    for _ in range(2):
        for number, width in [(0, 256), (0, 7), (1, 256), (1, 255), (2, 88), (2, 1)]:
            wanted = range(number * 256, number * 256 + width)
            tile = await ledger.tile(TilePath(0, number, width).format())
            assert tile == b"".join(leaves[at] for at in wanted)
            bundle = await ledger.tile(TilePath("entries", number, width).format())
            assert list(decode_bundle(bundle)) == [entry(at) for at in wanted]
        assert await ledger.tile("tile/1/000.p/2") == root_of(leaves[:256]) + root_of(
            leaves[256:512]
        )
        for missing in ("tile/0/002", "tile/0/002.p/89", "tile/1/000.p/3", "tile/2/000.p/1"):
            with pytest.raises(UnknownObjectError):
                await ledger.tile(missing)
        await ledger.publish()
    await ledger.close()


async def test_what_a_ledger_never_had_is_unknown(tmp_path: Path) -> None:
    """Indexes, sizes and ranges beyond its end."""
    ledger = await open_ledger(tmp_path / "l")
    assert ledger.checkpoint() is None
    await fill(ledger, 3)
    for attempt in (
        ledger.prove(3),
        ledger.prove_consistency(1, 4),
        ledger.prove_consistency(3, 2),
    ):
        with pytest.raises(UnknownObjectError):
            await attempt
    with pytest.raises(UnknownObjectError):
        list(ledger.entries(2, 4))
    assert list(ledger.entries(1, 2)) == [entry(1)]
    await ledger.close()


async def test_our_proof_text_is_the_one_of_the_wire_format(tmp_path: Path) -> None:
    """The fast formatting has no spelling of its own."""
    ledger = await open_ledger(tmp_path / "l")
    (first,) = await append(ledger, [item(0)], last_time=NOON)
    assert Proof.parse(first.proof).format() == first.proof
    path = (b"\1" * 32, b"\2" * 32)
    note = ledger.checkpoint() or b""
    proof = Proof(entry=b"e", index=2, path=path, checkpoint_note=note)
    assert format_proof(entry=b"e", index=2, path=path, note=note) == proof.format()
    await ledger.close()


async def test_a_ledger_never_has_two_writers(tmp_path: Path) -> None:
    """Not even within a process; closing lets the next one in."""
    ledger = await open_ledger(tmp_path / "l")
    assert (ledger.origin, ledger.directory) == (ORIGIN, tmp_path / "l")
    with pytest.raises(UnavailableError, match=f"ledger {ORIGIN} is in use"):
        await open_ledger(tmp_path / "l")
    await ledger.close()
    await ledger.close()
    with pytest.raises(UnavailableError, match="it was closed"):
        await append(ledger, [item(0)], last_time=NOON)
    await (await open_ledger(tmp_path / "l")).close()


async def test_the_publisher_works_when_it_is_due(tmp_path: Path) -> None:
    """And memory is trimmed, without anybody asking."""
    ledger = await open_ledger(tmp_path / "l", publish_after=300)
    part = asyncio.ensure_future(ledger.run_publisher())  # noqa: TID251
    await fill(ledger, 299)
    await asyncio.sleep(0)
    assert ledger._parts.view.published == 0
    await fill(ledger, 301)
    while ledger._parts.view.published == 0:  # noqa: ASYNC110 - the part has no event for it
        await asyncio.sleep(0.001)
    part.cancel()
    await asyncio.wait({part})
    assert len(ledger._parts.view.data) == len(ledger._parts.keys) == 301 - 256
    await ledger.close()


async def test_memory_does_not_grow_where_publishing_falls_behind(tmp_path: Path) -> None:
    """Appending waits for it instead, although no publisher runs."""
    ledger = await open_ledger(tmp_path / "l", publish_after=256)
    await fill(ledger, 9_000, batch=500)
    assert len(ledger._parts.view.data) <= 16 * 256 + 500
    await ledger.close()


async def test_views_do_not_change_while_the_ledger_goes_on(tmp_path: Path) -> None:
    """A reader in another thread sees one moment, whole."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, 300)
    entries, view = ledger.entries(), ledger._parts.view
    first = next(entries)
    await fill(ledger, 600)
    await ledger.publish()
    assert [first, *entries] == [entry(number) for number in range(300)]
    assert view.size == 300
    assert len(view.inclusion_path(299)) > 0
    await ledger.close()


async def test_a_key_that_is_none_is_never_found(tmp_path: Path) -> None:
    """Such entries are new each time."""
    ledger = await open_ledger(tmp_path / "l")
    plain = item(1)._replace(key=None)
    await append(ledger, [plain] * 300, last_time=NOON)
    await ledger.publish()
    assert await ledger.find(commitment(1)) is None
    await ledger.close()
    ledger = await open_ledger(tmp_path / "l")
    assert (await ledger.check()).size == 300
    await ledger.close()


async def test_another_key_or_origin_does_not_open_a_ledger(tmp_path: Path) -> None:
    """Continuing under another name or key would be a fork."""
    ledger = await open_ledger(tmp_path / "l")
    await fill(ledger, 300)
    await ledger.close()
    with pytest.raises(
        StorageError, match=r"expected ledger b\.example/x from entry 0, found tenders"
    ):
        await open_ledger(tmp_path / "l", key=SigningKey.generate("b.example/x"))
    for _ in range(2):
        with pytest.raises(StorageError, match="expected a signature by"):
            await open_ledger(tmp_path / "l", key=SigningKey.generate(ORIGIN))
        ledger = await open_ledger(tmp_path / "l")
        await ledger.publish()
        await ledger.close()


class LedgerMachine(RuleBasedStateMachine):
    """Random appends, passes, restarts and losses against a count of entries."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.directory = Path(self.folder.name) / "l"
        self.count = 0
        self.opened: list[Ledger] = []

    @precondition(lambda self: not self.opened)
    @rule()
    def open(self) -> None:
        self.opened.append(self.runner.run(open_ledger(self.directory)))

    @precondition(lambda self: self.opened)
    @rule(count=st.sampled_from([1, 2, 100, 256, 300]))
    def append(self, count: int) -> None:
        items = [item(number) for number in range(self.count, self.count + count)]
        appended = self.runner.run(append(self.opened[0], items, last_time=NOON))
        for at in range(0, count, 50):
            require_proven(appended[at], self.count + at)
        self.count += count

    @precondition(lambda self: self.opened)
    @rule()
    def publish(self) -> None:
        self.runner.run(self.opened[0].publish())

    @precondition(lambda self: self.opened)
    @rule()
    def close(self) -> None:
        self.runner.run(self.opened.pop().close())

    @precondition(lambda self: not self.opened)
    @rule(lost=st.sampled_from([["snapshot"], ["index"], ["snapshot", "index"]]))
    def lose_what_is_derived(self, lost: list[str]) -> None:
        if "snapshot" in lost:
            (self.directory / "snapshot").unlink(missing_ok=True)
        if "index" in lost:
            shutil.rmtree(self.directory / "index", ignore_errors=True)
        if lost == ["snapshot"] and (self.directory / "wal" / f"{0:016d}").exists():
            shutil.rmtree(self.directory / "tile", ignore_errors=True)

    @invariant()
    def it_is_what_was_appended(self) -> None:
        for ledger in self.opened:
            self.runner.run(require_equal(ledger, self.count))

    def teardown(self) -> None:
        for ledger in self.opened:
            self.runner.run(ledger.check())
            self.runner.run(ledger.close())
        self.runner.close()
        self.folder.cleanup()


def test_random_histories() -> None:
    """Whatever is appended, published, restarted and lost, in any order."""
    run_state_machine_as_test(
        LedgerMachine, settings=settings(max_examples=12, stateful_step_count=15, deadline=None)
    )


async def test_the_last_time_is_kept(tmp_path: Path) -> None:
    """Over publishing and reopening."""
    ledger = await open_ledger(tmp_path / "l")
    late = UnixMillis(NOON + 5)
    items = [item(number, NOON) for number in range(255)] + [item(255, late)]
    await append(ledger, items, last_time=late)
    await ledger.publish()
    await ledger.close()
    ledger = await open_ledger(tmp_path / "l")
    assert (ledger.size, ledger.last_time) == (256, late)
    assert (await ledger.prove(255)).time == late
    await ledger.close()


@given(st.integers(1, 2**53 - 1), st.binary(min_size=32, max_size=32))
def test_checkpoints_are_spelled_as_the_wire_format_has_them(size: int, root: bytes) -> None:
    """Byte for byte, the text and the note."""
    checkpoint = Checkpoint(origin=ORIGIN, size=size, root=root)
    speller = CheckpointSpeller(KEY.verifier)
    text = speller.text(size, root)
    assert text == checkpoint.text()
    signature = KEY.sign(text)
    assert speller.signed(text, signature) == checkpoint.signed(KEY.verifier, signature)


@given(start=st.integers(0, 1_200), count=st.integers(1, 9), data=st.data())
def test_proofs_of_a_batch_are_spelled_as_single_ones(
    start: int, count: int, data: st.DataObject
) -> None:
    """Byte for byte, behind what depends on their size and behind numbers."""
    entries = [entry(number) for number in range(start, start + count)]
    frontier = Frontier.empty().extend([leaf_hash(entry(number)) for number in range(start)])
    tree = BatchTree(frontier, list(map(leaf_hash, entries)))
    note = b"note with 100 % of its lines\n"
    texts = ProofTexts(entries, start, tree.levels, note)
    begin = data.draw(st.integers(0, count - 1))
    end = data.draw(st.integers(begin + 1, count))
    expected = [
        format_proof(entry=one, index=index, path=tree.inclusion_path(index), note=note)
        for index, one in enumerate(entries, start)
    ]
    assert [texts[at] for at in range(count)] == expected
    spelled = texts.spell(begin, end, lambda size: b"%d bytes: " % size)
    assert spelled == [b"%d bytes: %b" % (len(one), one) for one in expected[begin:end]]
    numbered = texts.spell(begin, end, lambda size: b":%d:" % size, numbered=b"100%-")
    assert numbered == [
        b"100%%-%04x:%d:%b" % (number, len(one), one)
        for number, one in enumerate(expected[begin:end])
    ]


def test_a_spelled_proof_is_one_of_the_wire_format() -> None:
    """It parses, and says what it was made of."""
    path = [commitment(1), commitment(2)]
    note = CheckpointSpeller(KEY.verifier)
    text = note.text(4, bytes(32))
    proof = Proof.parse(
        format_proof(entry=entry(0), index=2, path=path, note=note.signed(text, KEY.sign(text)))
    )
    assert (proof.entry, proof.index, list(proof.path)) == (entry(0), 2, path)
