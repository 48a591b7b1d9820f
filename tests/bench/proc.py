"""Reads what the kernel counts: CPU time of processes and cores, kinds of file systems.

Source: proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_IDLE_FIELDS: Final = (3, 4)
"""idle and iowait: a core that waits for a disk is not busy."""
_CORE_FIELDS: Final = 8
"""Guest time is counted in user time already."""


@dataclass(frozen=True, slots=True)
class ProcessTimes:
    """What ``/proc/<pid>/stat`` says.

    Attributes:
        ticks: User and system time of the process, all its threads, and the children that it
            has waited for.
    """

    parent: int
    ticks: int


def parse_stat(text: str) -> ProcessTimes:
    """The times in a process' stat line; its name may hold anything, also parentheses."""
    fields = text.rpartition(")")[2].split()
    return ProcessTimes(parent=int(fields[1]), ticks=sum(map(int, fields[11:15])))


def tree_ticks(root: int, processes: Mapping[int, ProcessTimes]) -> int:
    """The ticks of ``root`` and of everything below it that lives."""
    family = {root}
    grown = True
    while grown:
        children = {pid for pid, times in processes.items() if times.parent in family}
        grown = not children <= family
        family |= children
    return sum(processes[pid].ticks for pid in family if pid in processes)


def _processes() -> Iterator[tuple[int, ProcessTimes]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                text = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            yield int(folder.name), parse_stat(text)


def cpu_s(pid: int) -> float:
    """User and system seconds that a process and its children have used."""
    return tree_ticks(pid, dict(_processes())) / _TICKS_PER_S


def parse_peak(status: str) -> int:
    """The most bytes that a process had resident, from ``/proc/<pid>/status``."""
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1_024


def peak_bytes(pid: int) -> int:
    """The most bytes that a process has had resident."""
    return parse_peak(Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """What some cores did since the machine started, in ticks."""

    busy: int
    total: int

    def busy_since(self, earlier: CoreTimes) -> float:
        """The share of the time since ``earlier`` in which they worked for somebody."""
        total = self.total - earlier.total
        return (self.busy - earlier.busy) / total if total else 0.0


def parse_cores(text: str, cores: Iterable[int]) -> CoreTimes:
    """The sum over ``cores`` of their lines in ``/proc/stat``."""
    wanted = {f"cpu{core}" for core in cores}
    busy = total = 0
    for line in text.splitlines():
        name, *fields = line.split()
        if name in wanted:
            ticks = [int(field) for field in fields[:_CORE_FIELDS]]
            total += sum(ticks)
            busy += sum(ticks) - sum(ticks[at] for at in _IDLE_FIELDS)
    return CoreTimes(busy, total)


def core_times(cores: Iterable[int]) -> CoreTimes:
    """What ``cores`` did until now."""
    return parse_cores(Path("/proc/stat").read_text(encoding="ascii"), cores)


def parse_file_system(mounts: str, path: Path) -> str:
    """The kind of file system that ``path`` lies on, such as ``ext4``."""
    found, kind = -1, "unknown"
    for line in mounts.splitlines():
        _, mounted, name, *_ = line.split()
        point = Path(mounted.replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= found:
            found, kind = len(point.parts), name
    return kind


def file_system(path: Path) -> str:
    """The kind of file system that ``path`` lies on now."""
    return parse_file_system(Path("/proc/mounts").read_text(encoding="utf-8"), path.resolve())
