"""Bad input, as people at a keyboard meet it: the real console scripts in processes of their own.

One destination and three relays run on loopback. Each scenario gives one clear message with a
next step and the documented exit code, and loses nothing: what was wrong is put right, and the
same command goes through.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import secrets
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.town import RELAYS, Town, run, running_town

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(60)]

HOUR_MS = 3_600_000
SECRET = "household-7f3a"
"""Part of a file's name and content: no relay and no log may show it."""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Everything runs; when the module is done, no process is left."""
    with running_town(tmp_path_factory.mktemp("town")) as here:
        yield here


def file_in(town: Town, name: str = f"{SECRET}.txt", size: int = 40_000) -> Path:
    """A file to submit."""
    path = town.root / name
    path.write_bytes((SECRET.encode() + secrets.token_bytes(16)) * (size // (len(SECRET) + 16)))
    return path


def missing(town: Town) -> tuple[object, ...]:
    return (town.root / "nowhere",)


def unreadable(town: Town) -> tuple[object, ...]:
    """A link to itself cannot be read by anybody, not even by root."""
    path = town.root / "circle"
    path.symlink_to(path)
    return (path,)


def empty(town: Town) -> tuple[object, ...]:
    path = town.root / "hollow"
    path.mkdir()
    return (path,)


def good(town: Town) -> tuple[object, ...]:
    return (file_in(town),)


Files = Callable[[Town], tuple[object, ...]]

REFUSED: dict[str, tuple[Files, dict[str, object], int, str]] = {
    "no-scheme": (good, {"url": "permits.example"}, 2, "https://"),
    "nobody-there": (good, {"url": "http://127.0.0.1:9"}, 5, "no connection"),
    "no-such-call": (good, {"call": "summer"}, 3, "--call: spring (open)"),
    "missing-path": (missing, {}, 2, "no such file or folder"),
    "unreadable-file": (unreadable, {}, 2, "cannot be read"),
    "empty-folder": (empty, {}, 2, "has no files"),
    "bad-slot": (good, {"slot": "two words"}, 2, "slot: expected"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_submitted_is_said_before_anything_is_sent(town: Town, what: str) -> None:
    """Wrong URL, unknown call, unreadable file, empty folder: nothing is begun."""
    files, options, code, words = REFUSED[what]
    options = dict(options)
    url = options.pop("url", None)
    assert url is None or isinstance(url, str)
    town.submit(what, *files(town), url=url, **options).require(code, words)
    assert not list((town.home(what) / "submissions").glob("*"))


def test_a_file_that_changes_while_it_is_read_is_refused(town: Town) -> None:
    """Nothing was promised; once it rests, the same command goes through."""
    path = file_in(town, "growing.log", size=20_000_000)
    is_over = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not is_over.wait(0.001):
                file.write(b"more\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        town.submit("growing", path).require(3, "changed while it was read", "submit again")
    finally:
        is_over.set()
        writer.join()
    assert not list((town.home("growing") / "submissions").glob("*"))
    town.submit("growing", path).require(0, "YOU ARE ON TIME", "STAGED")


FULL_DISK = """
mount -t tmpfs -o size=2m tmpfs "$1" || exit 99
home=$1; shift
"$@" --home "$home"; echo "first: $?"
mount -o remount,size=200m tmpfs "$home"
"$@" --home "$home"; echo "second: $?"
"""


def test_a_full_disk_is_said_and_survived(town: Town) -> None:
    """Exit 1; with more room the same command goes through. The disk is a small one of its own."""
    unshare = shutil.which("unshare")
    probe = [str(unshare), "--map-root-user", "--mount", "true"]
    if unshare is None or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("this machine gives no user namespaces")
    home = town.root / "small-disk"
    home.mkdir()
    prefix = (*probe[:-1], "sh", "-c", FULL_DISK, "sh", str(home))
    path = file_in(town, "large.bin", size=5_000_000)
    ran = run("bistro", "submit", path, "--to", town.server.url, "--patience=1s", prefix=prefix)
    assert "first: 1" in ran.out, ran
    assert "error: " in ran.err
    assert "next: " in ran.err
    assert "free some space" in ran.err
    assert "Traceback" not in ran.err
    assert "second: 0" in ran.out, ran
    assert "YOU ARE ON TIME" in ran.out


def flip(path: Path, at: bytes, skip: int) -> bytes:
    """Change one character behind ``at``; what the file was."""
    whole = path.read_bytes()
    place = whole.index(at) + skip
    other = b"A" if whole[place : place + 1] != b"A" else b"B"
    path.write_bytes(whole[:place] + other + whole[place + 1 :])
    return whole


def test_tampered_proofs_do_not_hold(town: Town) -> None:
    """Ticket, receipt and evidence: exit 4, and the untouched file holds as before."""
    town.submit("proofs", file_in(town)).require(0)
    folder = town.submission("proofs")
    (ticket,) = folder.glob("*.ticket")
    (evidence,) = folder.glob("*.evidence.json")
    receipt = min((folder / "receipts").iterdir())
    for path, at, skip in (
        (ticket, "\n— ".encode(), 60),
        (receipt, "\n— ".encode(), 80),
        (evidence, b'"ticket":"', 400),
    ):
        check = ("bistro", "verify", path, "--trust", town.vkey, "--home", town.home("proofs"))
        whole = flip(path, at, skip)
        run(*check).require(4)
        path.write_bytes(whole[: len(whole) // 2])
        run(*check).require(4)
        path.write_bytes(whole)
        run(*check).require(0)


class Nonsense(http.server.BaseHTTPRequestHandler):
    """Whatever stands in the place of a relay."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>Please log in to the hotel's network</html>")

    do_POST = do_PATCH = do_HEAD = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def nonsense(port: int) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Nonsense)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_relays_that_answer_nonsense_do_not_cost_the_ticket(town: Town) -> None:
    """Exit 5 and on time; when relays are back, ``resume`` goes on."""
    assert [relay.stop() for relay in town.relays] == [0, 0, 0]
    with contextlib.ExitStack() as stack:
        for relay in town.relays:
            stack.enter_context(nonsense(relay.port))
        ran = town.submit("nonsense", file_in(town))
        ran.require(5, "YOU ARE ON TIME", "you ARE on time", "bistro resume")
        assert all(name in ran.err for name in RELAYS), ran.err
    for relay in town.relays:
        relay.start()
    for relay in town.relays:
        relay.await_ready()
    resume = ("bistro", "resume", "--patience=20s", "--home", town.home("nonsense"))
    run(*resume).require(0, "and staged")
    assert town.state("nonsense") == "staged"


def test_a_filers_clock_an_hour_off_changes_nothing(town: Town) -> None:
    """Only the destination's time counts; the filer is told."""
    for shift_ms, side in ((HOUR_MS, "ahead of"), (-HOUR_MS, "behind")):
        ran = town.submit(f"clock{shift_ms}", file_in(town), shift_ms=shift_ms)
        ran.require(0, "YOU ARE ON TIME", "STAGED", f"{side} the destination's")


def test_a_collectors_clock_an_hour_off_collects_nothing(town: Town) -> None:
    """Relays refuse what it signs; exit 5, and nothing is released."""
    town.submit("collected", file_in(town)).require(0)
    off = town.operate("collect", "--call=spring", shift_ms=HOUR_MS)
    off.require(5, "not-verified", "could not be collected yet")
    town.operate("collect", "--call=spring").require(0)
    envelopes = list((town.server.root / "envelopes").rglob("*.age"))
    assert len(envelopes) >= 1


def test_a_second_process_is_kept_out(town: Town) -> None:
    """Two writers of one ledger would sign two histories."""
    town.operate("serve").require(5, "in use by another process")
    relay = town.relays[0]
    run("bistro-relay", "serve", "--dir", relay.root).require(5, "in use by another process")


@pytest.mark.parametrize("program", ["bistro", "bistro-server", "bistro-relay"])
def test_wrong_usage_is_two_lines_and_exit_2(program: str) -> None:
    """Of all three programs alike."""
    run(program, "frobnicate").require(2, "frobnicate", "--help")


def test_a_destinations_clock_an_hour_behind_stamps_nothing(town: Town) -> None:
    """The daemon does not start rather than back-date; with a right clock it gives tickets."""
    assert town.server.stop() == 0
    town.server.start(shift_ms=-HOUR_MS)
    assert town.server.process is not None
    assert town.server.process.wait(30) == 1
    log = town.server.log.read_text(encoding="utf-8")
    assert "and this clock says" in log
    assert "next: set the clock right" in log
    town.server.start()
    town.server.await_ready()
    town.submit("behind", file_in(town)).require(0, "YOU ARE ON TIME")


def test_a_tampered_envelope_stops_the_opening_until_it_is_restored(town: Town) -> None:
    """Too early is exit 3; a wrong key 2; an envelope that changed 1: and then all is opened.

    The last test: what is opened takes no more tickets. An hour passes in the programs' clocks.
    """
    town.operate("collect", "--call=spring").require(0)
    town.operate("open", "--call=spring").require(3, "try again at")
    assert town.server.stop() == 0
    later = 4 * HOUR_MS
    other = town.root / "other-identity.txt"
    other.write_text("AGE-SECRET-KEY-1" + "Q" * 58 + "\n")
    wrong = town.operate("open", "--call=spring", f"--identity={other}", shift_ms=later)
    wrong.require(2, "--identity")
    envelope = min((town.server.root / "envelopes").rglob("*.age"))
    whole = envelope.read_bytes()
    envelope.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    changed = town.operate("open", "--call=spring", shift_ms=later)
    changed.require(1, envelope.name, "restore the file from a copy")
    envelope.write_bytes(whole)
    town.operate("open", "--call=spring", shift_ms=later).require(0, "opened")
    town.operate("open", "--call=spring", shift_ms=later).require(0)
    inbox = town.server.root / "inbox" / "spring"
    lines = [json.loads(line) for line in (inbox / "index.jsonl").read_bytes().splitlines()]
    assert lines
    assert {line["outcome"] for line in lines} == {"opened"}
    for line in lines:
        folder = inbox / line["commitment"]
        assert sum(path.is_file() for path in (folder / "files").rglob("*")) == line["files"]
        run("bistro", "verify", folder / "evidence.json", "--trust", town.vkey).require(0)


def test_nothing_readable_lies_at_relays_or_in_logs(town: Town) -> None:
    """After all of it: no name of a file, no content, no key."""
    marks = [SECRET.encode(), b"growing.log", b"PRIVATE+KEY", b"AGE-SECRET-KEY"]
    keys = {relay.root / "keys" / "relay.key" for relay in town.relays}
    for site in (town.server, *town.relays):
        seen = site.log.read_bytes()
        assert not [mark for mark in marks if mark in seen], site.log
    for relay in town.relays:
        for path in relay.root.rglob("*"):
            if path.is_file() and path not in keys:
                whole = path.read_bytes()
                assert not [mark for mark in marks if mark in whole], path
