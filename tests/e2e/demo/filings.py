"""Generates the filings: the same seed gives the same sizes, files, bytes and arrival times.

Sizes spread evenly over their orders of magnitude, from 1 kB to 20 MB. Arrivals thicken towards
the deadline as 1/(time left + c). Whatever a person could read carries a mark: every name of a
file or folder, every slot, and every 4 KiB of every file, so that one search of a relay's disk
for a few marks is a search for all of it.
"""

from __future__ import annotations

import hashlib
import math
import random  # noqa: TID251 - seeded
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SMALLEST: Final = 1_000
LARGEST: Final = 20_000_000
NAME_MARK: Final = "quillwort-7f3a"
"""Stands in every name of a file or folder, and in every slot."""
TEXT_MARK: Final = b"thornapple-c41d"
"""Stands at the beginning of every file, and in each 4 KiB of it."""
FILERS: Final = (
    "harbour-office",
    "city-clinic",
    "river-authority",
    "north-school",
    "old-brewery",
    "solar-park",
    "ferry-company",
    "museum-trust",
    "night-courier",
)
"""Who files; the last one comes too late."""
WORKERS: Final = len(FILERS) - 1
_TURNS: Final = 4
_BLOCK: Final = 4_096
_RUSH_C_S: Final = 12.0
_FIRST_S: Final = 0.4
_MANY_EVERY: Final = 8
_HEAVY_EVERY: Final = 6
_NAMES: Final = ("annual-report.pdf", "accounts.csv", "declaration.xml", "übersicht.json")
_FOLDERS: Final = ("annexes", "plans", "letters")


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a filing: where it stands and how many bytes it has."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Filing:
    """One filing to be.

    Attributes:
        number: From 1, in the order of arrival.
        filer: Index of the client that files it.
        arrives_s: Seconds after the start at which its filer gets to it.
        is_late: Whether it is to come after the deadline.
        by_command: Whether it is filed with ``bistro submit``, a process of its own; the others
            go through their filer's client that stays.
        files: In the order of their paths.
    """

    number: int
    filer: int
    arrives_s: float
    is_late: bool
    by_command: bool
    files: tuple[PlannedFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def slot(self) -> str:
        """The slot that it is filed in; it names its filer."""
        return f"{FILERS[self.filer]}.{NAME_MARK}.{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many filings there are, and when.

    Attributes:
        count: All filings, the late one among them.
        closes_s: Seconds from the start to the deadline.
        rush_s: Seconds from the start within which the filers come.
    """

    count: int = 40
    closes_s: int = 20
    rush_s: float = 12.0


def plan(seed: int, shape: Shape) -> tuple[Filing, ...]:
    """The filings in the order of their arrival; the last one is late."""
    chance = random.Random(seed)
    on_time = shape.count - 1
    sizes = _sizes(chance, shape.count)
    late_size = sizes.pop(len(sizes) // 2)
    filings = [
        Filing(
            number=number,
            filer=(number - 1) % WORKERS,
            arrives_s=arrives_s,
            is_late=False,
            by_command=_is_by_command(number),
            files=_files(chance, number, size),
        )
        for number, (arrives_s, size) in enumerate(
            zip(_arrivals(chance, on_time, shape), _mixed(chance, sizes), strict=True), 1
        )
    ]
    late = Filing(
        number=shape.count,
        filer=WORKERS,
        arrives_s=float(shape.closes_s),
        is_late=True,
        by_command=True,
        files=_files(chance, shape.count, late_size),
    )
    return (*filings, late)


def write(filing: Filing, folder: Path, *, seed: int) -> None:
    """Write the filing's files below ``folder``; nothing is made durable."""
    chance = random.Random(f"{seed}/{filing.number}")
    for file in filing.files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(chance, file))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below ``folder`` by its path, as hexadecimal digits."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _is_by_command(number: int) -> bool:
    """One filing of each filer, not all at the beginning."""
    filer, turn = (number - 1) % WORKERS, (number - 1) // WORKERS
    return turn == filer % _TURNS


def _sizes(chance: random.Random, count: int) -> list[int]:
    """Ascending; the smallest and the largest size exactly, one in each step between."""
    step = math.log(LARGEST / SMALLEST) / (count - 2)
    inner = [SMALLEST * math.exp(step * (i + chance.random())) for i in range(count - 2)]
    return [SMALLEST, *(int(size) for size in inner), LARGEST]


def _mixed(chance: random.Random, ascending: list[int]) -> list[int]:
    """In the order of arrival: heavy ones come all the time, not by chance all at once."""
    heavy_count = len(ascending) // _HEAVY_EVERY
    light, heavy = ascending[:-heavy_count], ascending[-heavy_count:]
    chance.shuffle(light)
    chance.shuffle(heavy)
    mixed = light
    for place, size in enumerate(heavy):
        mixed.insert(place * _HEAVY_EVERY + _HEAVY_EVERY // 2, size)
    return mixed


def _arrivals(chance: random.Random, count: int, shape: Shape) -> list[float]:
    """Ascending seconds with the density 1/(time left + c), one in each of ``count`` parts."""
    end = shape.closes_s + _RUSH_C_S
    span = math.log((end - _FIRST_S) / (end - shape.rush_s))
    parts = [(place + chance.random()) / count for place in range(count)]
    return [end - (end - _FIRST_S) * math.exp(-span * part) for part in parts]


def _files(chance: random.Random, number: int, size: int) -> tuple[PlannedFile, ...]:
    """Cut ``size`` into files: most filings have a few, every eighth has many, in folders."""
    many = number % _MANY_EVERY == 2
    count = chance.randint(40, 90) if many else chance.randint(1, 3)
    count = min(count, max(1, size // 200))
    cuts = sorted(chance.randrange(size + 1) for _ in range(count - 1))
    sizes = [end - begin for begin, end in zip([0, *cuts], [*cuts, size], strict=True)]
    paths = [_path(chance, place, many=many) for place in range(count)]
    files = (PlannedFile(path, size) for path, size in zip(paths, sizes, strict=True))
    return tuple(sorted(files, key=lambda file: file.path.encode()))


def _path(chance: random.Random, place: int, *, many: bool) -> str:
    name = f"{place + 1:02d}-{NAME_MARK}-{chance.choice(_NAMES)}"
    if not many:
        return name
    return f"{chance.choice(_FOLDERS)}-{NAME_MARK}/{place % 3}-{NAME_MARK}/{name}"


def _content(chance: random.Random, file: PlannedFile) -> bytes:
    """Random bytes, marked in each block; a file too short for the mark has what fits."""
    data = bytearray(chance.randbytes(file.size))
    for at in range(0, file.size, _BLOCK):
        room = min(len(TEXT_MARK), file.size - at)
        data[at : at + room] = TEXT_MARK[:room]
    return bytes(data)
