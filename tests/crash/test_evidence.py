"""The evidence about syncs, on traces made by hand: which orders it accepts."""

from __future__ import annotations

import base64
import re

import pytest

from tests.crash.order import OrderFindings, examine
from tests.crash.traces import read_events

ENTRY = b"bistro/ticket/v1\nserver.example/spring\n1790000000000\nsha256:" + b"0f" * 32 + b"\n"
FILE = r"5<\x2f\x77\x61\x6c>"
CLIENT = "9<TCP:[127.0.0.1:80->127.0.0.1:4711]>"


def text(data: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


RECORD = text(b"Brec\0\1" + ENTRY + b"\0\0")
PROOF = b"c2sp.org/tlog-proof@v1\nextra " + base64.b64encode(ENTRY) + b"\nindex 1\n"
WRITE = f"7 pwrite64({FILE}, {RECORD}, 200, 0) = 200"
SYNC = f"7 fdatasync({FILE}) = 0"
ANSWER = f"8 write({CLIENT}, {text(PROOF)}, 200) = 200"


def examined(*lines: str, earlier: frozenset[bytes] = frozenset()) -> OrderFindings:
    return examine(read_events(lines), set(earlier))


def test_written_synced_answered_is_the_right_order() -> None:
    """Also if the answer comes in two parts, and if it is given again."""
    found = examined(WRITE, SYNC, ANSWER, ANSWER)
    assert (found.promises, found.syncs, found.early) == (2, 1, [])
    halves = [f"8 write({CLIENT}, {text(part)}, 60) = 60" for part in (PROOF[:60], PROOF[60:])]
    found = examined(WRITE, SYNC, *halves)
    assert (found.promises, found.early) == (1, [])


@pytest.mark.parametrize(
    "lines",
    [
        (WRITE, ANSWER, SYNC),
        (SYNC, WRITE, ANSWER),
        (WRITE, f"7 fdatasync({FILE}) = -1 EIO (Input/output error)", ANSWER),
        (WRITE, r"7 fdatasync(6<\x2f\x6f\x74\x68\x65\x72>) = 0", ANSWER),
        (f"6 fdatasync({FILE} <unfinished ...>", WRITE, "6 <... fdatasync resumed>) = 0", ANSWER),
        (WRITE, f"6 fdatasync({FILE} <unfinished ...>", ANSWER, "6 <... fdatasync resumed>) = 0"),
        (f"7 pwrite64({FILE}, {RECORD}, 200, 0) = 20", SYNC, ANSWER),
        (ANSWER,),
    ],
    ids=[
        "answered before the sync",
        "synced before the write",
        "the sync failed",
        "another file was synced",
        "the sync began before the write had returned",
        "answered before the sync had returned",
        "the write was cut short",
        "never written",
    ],
)
def test_every_other_order_is_noticed(lines: tuple[str, ...]) -> None:
    """Whatever comes later: the answer had left."""
    assert examined(*lines).early == [ENTRY]


def test_what_stood_there_before_is_left_out() -> None:
    """A trace says nothing about entries of an earlier life."""
    assert examined(ANSWER, earlier=frozenset({ENTRY})).early == []


def test_what_a_worker_passes_on_is_looked_at_as_it_is_handed_over() -> None:
    """Whatever the worker does is another process's: its descriptors are not the daemon's."""
    socket = r'9<UNIX-STREAM:[17->18,"\x2f\x73"]>'
    answer = f"8 sendto({socket}, {text(PROOF)}, 200, 0, NULL, 0) = 200"
    assert examined(WRITE, SYNC, answer).promises == 1
    assert examined(WRITE, answer, SYNC).early == [ENTRY]
    thread = "7 clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f}, 88) = 8"
    other = "7 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>"
    started = "7 <... clone resumed>, child_tidptr=0x7f) = 9"
    lines = (thread, other, "9 close(5</w>) = 0", started, "9 vfork() = 10", "10 close(6</w>) = 0")
    pids = {event.call.pid for event in read_events([*lines, WRITE, SYNC, answer])}
    assert pids == {7, 8}


def test_events_say_when_they_were_written_down() -> None:
    """Seconds of the system's clock, as strace gives them where it is asked to."""
    (begun, ended) = read_events(["7 1795407852.420972 fdatasync(5</w>) = 0"])
    assert begun.time_ms == ended.time_ms == 1_795_407_852_420


def test_a_receipt_in_a_header_field_is_looked_at_and_what_others_promised_is_not() -> None:
    """A relay answers with its receipt in a field, and passes on claims with foreign tickets."""
    receipt = (
        b"bistro/receipt/v1\nrelay.example/custody/server.example/spring\n1790000000001\n"
        b"sha256:" + b"0e" * 32 + b"\nfragment 0 1 sha256:" + b"0d" * 32 + b"\n"
        b"hold-until 1790000000002\n"
    )
    proof = b"c2sp.org/tlog-proof@v1\nextra " + base64.b64encode(receipt) + b"\nindex 1\n"
    head = b"HTTP/1.1 201 Created\r\nBistro-Receipt: " + base64.b64encode(proof) + b"\r\n\r\n"
    own = re.compile(rb"bistro/receipt/")
    answers = [f"8 write({CLIENT}, {text(data)}, 900) = 900" for data in (head, PROOF)]
    found = examine(read_events(answers), set(), own)
    assert (found.promises, found.early) == (1, [receipt])
    written = f"7 pwrite64({FILE}, {text(receipt)}, 300, 0) = 300"
    assert examine(read_events([written, SYNC, *answers]), set(), own).early == []
