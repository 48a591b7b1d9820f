"""What the benchmarks read from the kernel."""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench.proc import (
    CoreTimes,
    ProcessTimes,
    core_times,
    cpu_s,
    parse_cores,
    parse_file_system,
    parse_stat,
    tree_ticks,
)

STAT = (
    "4242 (a) R (b)) S 17 4242 4242 0 -1 4194560 100 200 0 0 "
    "31 12 5 2 20 0 9 0 12345 1000000 500 18446744073709551615\n"
)
CORES = """\
cpu  300 0 100 600 0 0 0 0 0 0
cpu0 100 10 50 30 5 2 3 0 7 7
cpu1 200 0 50 570 0 0 0 0 0 0
cpu10 1 1 1 1 1 1 1 1 1 1
"""


def test_a_process_costs_user_and_system_time_and_that_of_its_ended_children() -> None:
    """Also where its name looks like the fields behind it."""
    assert parse_stat(STAT) == ProcessTimes(parent=17, ticks=31 + 12 + 5 + 2)


def test_a_server_costs_what_all_its_living_descendants_cost() -> None:
    """Work that is handed to a worker is no saving."""
    processes = {
        1: ProcessTimes(0, 1_000),
        10: ProcessTimes(1, 1),
        12: ProcessTimes(11, 4),
        11: ProcessTimes(10, 2),
        20: ProcessTimes(1, 500),
    }
    assert tree_ticks(10, processes) == 7


def test_a_core_that_waits_for_a_disk_is_not_busy() -> None:
    """Neither idle nor iowait counts; guest time is in user time already."""
    assert parse_cores(CORES, [0]) == CoreTimes(busy=165, total=200)
    assert parse_cores(CORES, [0, 1]) == CoreTimes(busy=165 + 250, total=200 + 820)


def test_the_busy_share_is_that_of_the_time_between() -> None:
    """What a core did before says nothing."""
    before, after = CoreTimes(100, 1_000), CoreTimes(195, 1_100)
    assert after.busy_since(before) == 0.95
    assert before.busy_since(before) == 0.0


def test_this_process_and_this_core_can_be_read() -> None:
    """The formats are those of the kernel that runs."""
    sum(range(2_000_000))
    assert cpu_s(os.getpid()) > 0
    assert core_times(os.sched_getaffinity(0)).total > 0


def test_the_file_system_is_that_of_the_nearest_mount() -> None:
    """Being durable costs nothing in memory, so the report names the disk."""
    mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/my\\040disk xfs rw 0 0\n"
    assert parse_file_system(mounts, Path("/tmp/x")) == "tmpfs"
    assert parse_file_system(mounts, Path("/tmpx")) == "ext4"
    assert parse_file_system(mounts, Path("/tmp/my disk/x")) == "xfs"
