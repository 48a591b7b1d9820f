"""The demo as whoever runs ``make demo`` meets it: its exit code, its table and its report."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.demo.filings import FILERS
from tests.e2e.demo.promises import Promise

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]
ROW = re.compile(r"\d\d [a-z]+-[a-z]+ ")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder with a short name: pytest's own are too long for Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="demo-"))
    yield path
    shutil.rmtree(path)


def demo(folder: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, standard output and report of a demo that works in ``folder``."""
    report = folder / "demo-report.html"
    finished = subprocess.run(
        [sys.executable, "-m", "tests.e2e.demo", f"--report={report}", *options],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not finished.stderr
    return finished.returncode, finished.stdout, report.read_text(encoding="utf-8")


def processes_below(folder: Path) -> list[str]:
    """Command lines that name something in ``folder``."""
    lines: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in lines if str(folder) in line]


def verdicts(output: str) -> dict[Promise, str]:
    """The word before each promise on the terminal."""
    return {
        promise: line.split()[0]
        for promise in Promise
        for line in output.splitlines()
        if line.endswith(promise.value)
    }


def test_the_demo_keeps_every_promise(folder: Path) -> None:
    """Exit code 0, every promise ok, 40 rows, a report, and nothing left behind."""
    code, output, report = demo(folder)
    assert code == 0, output
    assert verdicts(output) == dict.fromkeys(Promise, "ok")
    rows = [line for line in output.splitlines() if ROW.match(line)]
    assert len(rows) == 40
    assert sum("identical" in row for row in rows) == 39
    assert "refused" in rows[-1]
    assert f"all {len(Promise)} promises kept" in report
    assert all(name in report for name in FILERS)
    assert [path.name for path in folder.iterdir()] == ["demo-report.html"]


def test_the_demo_fails_when_promises_are_broken(folder: Path) -> None:
    """Four things are spoiled behind the programs' backs; exactly what they break is named.

    A changed fragment breaks no filing, since any two of three restore it: only the word of the
    relay that had signed for it.
    """
    kinds = ("fragment", "leak", "filing", "evidence")
    code, output, report = demo(folder, "--quick", *(f"--sabotage={kind}" for kind in kinds))
    assert code == 1, output
    broken = {promise for promise, word in verdicts(output).items() if word == "BROKEN"}
    assert broken == {
        Promise.KILLED,
        Promise.UNREADABLE,
        Promise.OPENED,
        Promise.INBOX_EVIDENCE,
    }
    assert f"4 of {len(Promise)} promises BROKEN" in report


def test_an_interrupted_demo_leaves_nothing_behind(folder: Path) -> None:
    """Ctrl-C in the middle of the rush: exit code 130, no process, no folder, no traceback."""
    argv = [sys.executable, "-um", "tests.e2e.demo", "--quick", f"--report={folder / 'r.html'}"]
    environ = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder)}
    with subprocess.Popen(
        argv, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "The rush" in line:
                assert len(processes_below(folder)) >= 4
                process.send_signal(signal.SIGINT)
                break
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, ""), output
    assert "interrupted" in output
    assert not list(folder.iterdir())
    assert not processes_below(folder)
