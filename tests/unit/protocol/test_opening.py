"""Which submissions count, and an outcome for each."""

from __future__ import annotations

import random  # noqa: TID251 - seeded in every test
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.digest import sha256
from bistro.instant import UnixMillis
from bistro.protocol.opening import Candidate, Fault, Outcome, Resolution, judge_header, resolve
from bistro.wire.header import SignedHeader
from tests.unit.protocol.builders import make_header, sign_header


def mark(index: int) -> bytes:
    return sha256(f"commitment {index}".encode())


def candidate(  # noqa: PLR0913 - a test names only what matters to it
    index: int,
    who: str = "ada",
    *,
    kind: str = "submit",
    of: int | None = None,
    slot: str = "main",
    time: int | None = None,
    fault: Fault | None = None,
) -> Candidate:
    previous = None if of is None else mark(of)
    return Candidate(
        commitment=mark(index),
        index=index,
        time=UnixMillis(index * 10 if time is None else time),
        header=make_header(who, kind=kind, previous=previous, slot=slot),
        fault=fault,
    )


def unread(index: int, fault: Fault) -> Candidate:
    return Candidate(mark(index), index, UnixMillis(index * 10), fault=fault)


def outcomes(*candidates: Candidate) -> str:
    decisions = resolve(candidates)
    assert [d.commitment for d in decisions] == [c.commitment for c in candidates]
    return " ".join(decision.outcome for decision in decisions)


def test_the_last_submission_of_a_filer_and_slot_wins() -> None:
    """Others' submissions and other slots are not touched."""
    found = outcomes(
        candidate(1), candidate(2, "bob"), candidate(3, slot="annex"), candidate(4), candidate(5)
    )
    assert found == "superseded opened opened superseded opened"


def test_who_replaced_it_is_named() -> None:
    """A filer can see which of its submissions counts."""
    first, second = resolve([candidate(1), candidate(2)])
    assert (first.replaced_by, second.replaced_by) == (mark(2), None)


def test_order_is_by_time_before_index() -> None:
    """A postmarked entry comes later in the log than it was made."""
    assert outcomes(candidate(1, time=100), candidate(2, time=50)) == "opened superseded"
    assert outcomes(candidate(1, time=50), candidate(2, time=50)) == "superseded opened"


def test_an_amendment_replaces_what_it_names() -> None:
    """It is a complete filing of the same filer and slot."""
    assert outcomes(candidate(1), candidate(2, kind="amend", of=1)) == "superseded opened"


@pytest.mark.parametrize(
    "intruder",
    [
        candidate(2, "eve", kind="amend", of=1),
        candidate(2, "eve", kind="withdraw", of=1),
        candidate(2, kind="withdraw", of=1, slot="annex"),
        candidate(2, kind="amend", of=9),
        candidate(2, kind="withdraw", of=2),
        candidate(2, kind="amend", of=1, time=1),
    ],
)
def test_nobody_touches_what_is_not_theirs(intruder: Candidate) -> None:
    """Another key, another slot, an unknown, its own or a later commitment do not count."""
    first, second = resolve([candidate(1), intruder])
    assert first.outcome is Outcome.OPENED
    assert second.outcome is Outcome.REJECTED
    assert second.reasons[0].code == "unknown-previous"


def test_a_withdrawal_takes_back_what_stands() -> None:
    """Whatever earlier submission of the slot it names; a later submission stands again."""
    chain = [candidate(1), candidate(2, kind="amend", of=1), candidate(3, kind="withdraw", of=1)]
    assert outcomes(*chain) == "superseded withdrawn withdrawn"
    assert resolve(chain)[1].replaced_by == mark(3)
    assert outcomes(*chain, candidate(4)) == "superseded withdrawn withdrawn opened"
    assert outcomes(*chain, candidate(4, kind="withdraw", of=1)).endswith("withdrawn withdrawn")


def test_a_fault_lets_the_one_before_stand() -> None:
    """The last *valid* submission wins, also when the fault is found while unpacking."""
    broken = Fault.rejected("manifest-mismatch", "a file's hash differs")
    first, second = candidate(1), candidate(2)
    assert outcomes(first, second) == "superseded opened"
    assert outcomes(first, replace(second, fault=broken)) == "opened rejected"


def test_a_rejected_filing_of_ones_own_may_be_amended() -> None:
    """Content that replaces a rejected filing gets its own ticket."""
    broken = Fault.rejected("malformed", "not an archive")
    assert (
        outcomes(candidate(1, fault=broken), candidate(2, kind="amend", of=1)) == "rejected opened"
    )


@pytest.mark.parametrize("lost", [Fault.lapsed(), Fault.lost()])
def test_what_could_not_be_read_may_be_amended(lost: Fault) -> None:
    """Who sends a lapsed filing again as its amendment must not lose that one, too."""
    first = unread(1, lost)
    assert outcomes(first, candidate(2, kind="amend", of=1)).endswith("opened")
    assert outcomes(first, candidate(2, kind="withdraw", of=1)).endswith("withdrawn")


def test_an_amendment_of_what_could_not_be_read_touches_its_own_slot_only() -> None:
    """Nobody gains by naming somebody else's lost filing."""
    others = [candidate(1), unread(2, Fault.lapsed())]
    assert outcomes(*others, candidate(3, "eve", kind="withdraw", of=2)) == (
        "opened lapsed withdrawn"
    )
    later = candidate(3, "eve", kind="amend", of=4)
    assert outcomes(*others, later, unread(4, Fault.lapsed())) == "opened lapsed rejected lapsed"


def test_every_commitment_gets_an_outcome() -> None:
    """Also those nobody could read: the minutes leave out nobody."""
    found = resolve(
        [
            unread(1, Fault.lapsed()),
            unread(2, Fault.lost()),
            unread(3, Fault.void("inconsistent", "fragments of different envelopes")),
            candidate(4, kind="amend", of=9),
        ]
    )
    assert [d.outcome for d in found] == ["lapsed", "void", "void", "rejected"]
    assert [d.reasons[0].code for d in found] == [
        "not-staged",
        "not-collected",
        "inconsistent",
        "unknown-previous",
    ]


def test_a_candidate_needs_a_header_or_a_fault() -> None:
    """Nothing is left without a reason."""
    with pytest.raises(ValueError, match="header or a fault"):
        Candidate(mark(1), 1, UnixMillis(1))


KINDS = st.sampled_from(["submit", "amend", "withdraw"])
STEPS = st.tuples(
    st.sampled_from(["ada", "bob"]),
    KINDS,
    st.integers(0, 7),
    st.integers(0, 5),
    st.sampled_from([None, None, None, Fault.lapsed(), Fault.rejected("signature", "bad")]),
)


@given(st.lists(STEPS, max_size=8), st.randoms(use_true_random=False))
def test_any_log_is_resolved_completely_and_the_same_way(
    steps: list[tuple[str, str, int, int, Fault | None]], chance: random.Random
) -> None:
    """One outcome each, in log order, at most one opened a slot, however they are given."""
    candidates = [
        candidate(i, who, kind=kind, of=None if kind == "submit" else of, time=time, fault=fault)
        for i, (who, kind, of, time, fault) in enumerate(steps)
    ]
    decisions = resolve(candidates)
    assert [d.index for d in decisions] == list(range(len(candidates)))
    opened = [c.header for c, d in zip(candidates, decisions, strict=True) if d.outcome == "opened"]
    assert len({(h.filer_key, h.slot) for h in opened if h}) == len(opened)
    assert all(h is not None and h.kind != "withdraw" for h in opened)
    for decision in decisions:
        fault = candidates[decision.index].fault
        if fault is not None:
            assert decision.outcome is fault.outcome
    shuffled = list(candidates)
    chance.shuffle(shuffled)
    assert resolve(shuffled) == decisions


@given(st.lists(STEPS, max_size=12), st.data())
def test_faults_of_unpacking_give_what_deciding_anew_would_give(
    steps: list[tuple[str, str, int, int, Fault | None]], data: st.DataObject
) -> None:
    """Whichever of those that count turn out to be bad, in whatever order."""
    candidates = [
        candidate(i, who, kind=kind, of=None if kind == "submit" else of, time=time, fault=fault)
        for i, (who, kind, of, time, fault) in enumerate(steps)
    ]
    resolution = Resolution(candidates)
    bad = Fault.rejected("malformed", "no archive")
    for _ in range(data.draw(st.integers(0, len(candidates)))):
        if not resolution.standing:
            break
        commitment = data.draw(st.sampled_from(resolution.standing))
        before = set(resolution.standing)
        again = resolution.reject(commitment, bad)
        assert set(resolution.standing) - before == ({again} if again else set())
        candidates = [
            replace(one, fault=bad) if one.commitment == commitment else one for one in candidates
        ]
        assert resolution.decisions == resolve(candidates)
    opened = {one.commitment for one in resolution.decisions if one.outcome is Outcome.OPENED}
    assert set(resolution.standing) == opened


def test_many_faults_of_one_slot_cost_one_step_each() -> None:
    """A filer who hands in rubbish a thousand times does not hold up the opening."""
    candidates = [candidate(index) for index in range(1_000)]
    resolution = Resolution(candidates)
    bad = Fault.rejected("malformed", "no archive")
    order = []
    waiting = list(resolution.standing)
    while waiting:
        order.append(waiting.pop())
        again = resolution.reject(order[-1], bad)
        waiting += [again] if again else []
    assert order == [mark(index) for index in reversed(range(1_000))]
    assert {one.outcome for one in resolution.decisions} == {Outcome.REJECTED}


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_only_what_stands_can_be_found_faulty(index: int) -> None:
    """Superseded, withdrawn, withdrawing, unknown: none of these is ever unpacked."""
    resolution = Resolution(
        [candidate(0), candidate(1), candidate(2, kind="withdraw", of=1), candidate(4, "bob")]
    )
    with pytest.raises(ValueError, match="expected one that stands"):
        resolution.reject(mark(index), Fault.rejected("malformed", "no archive"))


def test_a_header_is_judged_by_commitment_terms_and_signature() -> None:
    """Each check has its reason code; a good header has none."""
    header = make_header()
    signed, hashes = sign_header(header), {header.terms_hash}
    assert judge_header(signed, header_leaf=header.leaf, terms_hashes=hashes) is None
    cases = {
        "header-mismatch": judge_header(signed, header_leaf=bytes(32), terms_hashes=hashes),
        "unknown-terms": judge_header(signed, header_leaf=header.leaf, terms_hashes=set()),
        "signature": judge_header(
            SignedHeader(header, bytes(64)), header_leaf=header.leaf, terms_hashes=hashes
        ),
    }
    for code, fault in cases.items():
        assert fault is not None
        assert (fault.outcome, fault.reason.code) == (Outcome.REJECTED, code)
