"""A rehearsal: canned filings, good and bad, sent to a destination's test call.

A filer sees before the day whether network, clock, disk and relays do, and what refusals look
like; a destination whether its call takes what it should. The good ones are withdrawn again.
Everything is kept in a home of its own that is deleted afterwards.

Source: docs/spec/commands.md, rehearse.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bistro.errors import BistroError
from bistro.protocol.submission import SubmissionState
from bistro.wire.terms import Terms
from bistro_client.changing import amendment, withdrawal
from bistro_client.home import Home
from bistro_client.submitting import Submitter, Wish
from bistro_client.wording import say

_MANY: Final = 200
_LARGE: Final = 3_000_000


@dataclass(frozen=True, slots=True)
class Canned:
    """One filing.

    Attributes:
        name: What it shows, in words.
        make: Writes its files into an empty folder; what to submit.
        refused_as: The code of the error that it must lead to; empty if it must be staged.
    """

    name: str
    make: Callable[[Path], list[Path]]
    refused_as: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one: whether that is as it must be, and the words for it."""

    name: str
    is_as_expected: bool
    text: str


def _small(folder: Path) -> list[Path]:
    path = folder / "form.txt"
    path.write_text("rehearsal\n", encoding="utf-8")
    return [path]


def _nested(folder: Path) -> list[Path]:
    root = folder / "Anträge"
    for name in ("a/ß.txt", "a/b/empty.txt", "日本語.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if "empty" in name else name.encode())
    return [root]


def _many(folder: Path) -> list[Path]:
    for number in range(_MANY):
        (folder / f"page-{number:04}.txt").write_text(str(number), encoding="ascii")
    return [folder]


def _large(folder: Path) -> list[Path]:
    path = folder / "scan.bin"
    path.write_bytes(bytes(range(256)) * (_LARGE // 256))
    return [path]


def _missing(folder: Path) -> list[Path]:
    return [folder / "nothing-here.pdf"]


def _empty(folder: Path) -> list[Path]:
    (folder / "empty").mkdir()
    return [folder / "empty"]


def _twice(folder: Path) -> list[Path]:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "form.txt").write_text(name, encoding="ascii")
    return [folder / "one" / "form.txt", folder / "two" / "form.txt"]


def canned(terms: Terms) -> list[Canned]:
    """All filings of a rehearsal that the terms allow, and what is beyond them."""

    def too_large(folder: Path) -> list[Path]:
        path = folder / "huge.bin"
        with path.open("wb") as file:
            # Sparse: it takes no room, and is refused before it is read.
            file.truncate(terms.envelope_limit + 1)
        return [path]

    good = [
        Canned(say("rehearsing.one-small-file"), _small),
        Canned(say("rehearsing.folders-empty-files"), _nested),
        Canned(say("rehearsing.some-megabytes"), _large),
    ]
    if terms.files_limit >= _MANY:
        good.append(Canned(f"{_MANY} files", _many))
    return [
        *good,
        Canned(say("rehearsing.file-does-not"), _missing, "settings"),
        Canned(say("rehearsing.folder-without-files"), _empty, "settings"),
        Canned(say("rehearsing.two-files-under"), _twice, "settings"),
        Canned(say("rehearsing.more-bytes-than"), too_large, "limit-exceeded"),
    ]


async def rehearse(
    submitter: Submitter, home: Home, terms: Terms, wish: Callable[[list[Path], str], Wish]
) -> AsyncIterator[Verdict]:
    """File everything, one after the other; amend one, and withdraw all that was staged.

    Args:
        submitter: At work in ``home``.
        home: Of the rehearsal.
        terms: Of the test call.
        wish: What to submit, from paths and a slot.
    """
    staged: list[str] = []
    for number, one in enumerate(canned(terms)):
        folder = home.root / "rehearsal" / str(number)
        folder.mkdir(parents=True)
        try:
            done = await submitter.submit(wish(one.make(folder), f"rehearsal-{number}"))
        except BistroError as exc:
            is_meant = exc.code == one.refused_as
            yield Verdict(one.name, is_meant, f"refused ({exc.code}): {exc.message}")
            continue
        staged.append(done.id)
        is_good = not one.refused_as and done.state is SubmissionState.STAGED
        yield Verdict(one.name, is_good, say("rehearsing.on-time-2", state=done.state))
    if staged:
        first = home.folder(staged[0])
        changed = home.root / "rehearsal" / "amended"
        changed.mkdir()
        yield await _change(
            submitter, say("rehearsing.an-amendment"), amendment(first, _small(changed))
        )
    for name in staged:
        yield await _change(submitter, "a withdrawal", withdrawal(home.folder(name)))


async def _change(submitter: Submitter, name: str, wish: Wish) -> Verdict:
    try:
        done = await submitter.submit(wish)
    except BistroError as exc:
        return Verdict(name, is_as_expected=False, text=f"refused ({exc.code}): {exc.message}")
    is_good = done.state is SubmissionState.STAGED
    return Verdict(name, is_good, say("rehearsing.on-time", state=done.state))
