"""The command line: words, exit codes, JSON; one clear message for whatever can be wrong."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from bistro_client import cli
from tests.unit.client.commands import Ran, bistro, running_bistro
from tests.unit.client.worlds import World, world


@contextlib.asynccontextmanager
async def real_time(root: Path, **changes: object) -> AsyncIterator[World]:
    """A world whose clock is this machine's, as the command line's is."""
    async with world(root, SystemClock(assumed_error_ms=10), **changes) as w:
        yield w


async def submit(w: World, *more: str | Path, files: Path | None = None) -> Ran:
    return await running_bistro(
        "submit", files or w.files(), "--to", w.url, "--home", w.home.root, *more
    )


async def test_a_submission_says_that_the_filer_is_on_time(tmp_path: Path) -> None:
    """Unmistakably, on standard output, with the time and the path of the proof."""
    async with real_time(tmp_path) as w:
        ran = await submit(w)
        assert ran.code == 0, ran.err
        assert "YOU ARE ON TIME: " in ran.out
        folder = w.only_folder()
        assert str(folder.ticket) in ran.out
        assert "STAGED: relays hold 3 of 3 fragments" in ran.out
        assert f"evidence: {folder.evidence}" in ran.out
        assert "fingerprint" in ran.err
        assert "made your key" in ran.err
        assert "\x1b" not in ran.out + ran.err


async def test_json_is_one_document_on_standard_output(tmp_path: Path) -> None:
    """Programs read it; notices stay on standard error."""
    async with real_time(tmp_path) as w:
        ran = await submit(w, "--json")
        found = ran.document["submission"]
        assert found["state"] == "staged"
        assert found["call"] == "permits.example/spring"
        assert found["evidence"] == str(w.only_folder().evidence)
        assert len(found["fragments"]) == 3
        assert "YOU ARE ON TIME" in ran.err


async def test_a_refusal_is_exit_3_and_says_what_is_kept(tmp_path: Path) -> None:
    """Not on time, with the signed refusal on disk; resuming says the same."""
    now = SystemClock().now()
    past = {"opens": UnixMillis(now - 100_000), "closes": UnixMillis(now - 50_000)}
    async with real_time(tmp_path, **past) as w:
        ran = await submit(w, "--call", "spring")
        assert ran.code == 3, ran.err
        ran.require_two_lines()
        refusal = w.only_folder().refusal
        assert f"keep {refusal}" in ran.err
        assert ran.err.count("NOT on time") == 1
        assert (await running_bistro("verify", refusal, "--home", w.home.root)).code == 0
        again = await running_bistro("resume", "--home", w.home.root)
        assert again.code == 3
        again.require_two_lines()


BAD_INPUT = [
    ("missing", 2, "there is no such file or folder"),
    ("empty", 2, "has no files"),
    ("link", 2, "symbolic links"),
    ("name", 2, "cannot be filed"),
    ("twice", 2, "two files would be"),
    ("url", 2, "https://"),
    ("nobody", 5, "no connection"),
    ("call", 3, "has no call"),
    ("trust", 2, "--trust"),
    ("slot", 2, "slot"),
    ("form", 2, "128"),
    ("key", 2, "no key"),
]


@pytest.mark.parametrize(("what", "code", "words"), BAD_INPUT)
async def test_bad_input_is_one_message_with_a_next_step(
    tmp_path: Path, what: str, code: int, words: str
) -> None:
    """The documented exit code, two lines, nothing begun, and nothing lost."""
    async with real_time(tmp_path) as w:
        ran = await submit_badly(w, what)
        assert ran.code == code, ran.err
        ran.require_two_lines()
        assert words in ran.err
        assert ran.err.count("nothing was sent") == 1 or what == "trust"
        assert w.home.folders() == []
        good = await submit(w)
        assert good.code == 0, good.err


async def submit_badly(w: World, what: str) -> Ran:
    """Submit with one thing wrong."""
    folder = w.root / "bad"
    (w.root / "hollow").mkdir()
    folder.mkdir()
    (folder / "a.pdf").write_bytes(b"a")
    if what == "link":
        (folder / "link").symlink_to("/etc/passwd")
    if what == "name":
        (folder / "what?.pdf").write_bytes(b"b")
    url = {"url": "permits.example", "nobody": "http://127.0.0.1:9"}.get(what, w.url)
    more: dict[str, tuple[str | Path, ...]] = {
        "missing": (w.root / "nowhere",),
        "empty": (w.root / "hollow",),
        "twice": (folder / "a.pdf",),
        "nobody": ("--patience", "1s"),
        "call": ("--call", "summer"),
        "trust": ("--trust", "nonsense"),
        "slot": ("--slot", " x "),
        "form": ("--form", "x" * 129),
        "key": ("--key", w.root / "no-key.pem"),
    }
    paths = (folder / "a.pdf",) if what == "twice" else (folder,)
    arguments = (*paths, *more.get(what, ()))
    return await running_bistro("submit", *arguments, "--to", url, "--home", w.home.root)


async def test_an_error_in_json_is_one_document_too(tmp_path: Path) -> None:
    """``{"error":{"code","hint","message"}}``."""
    async with real_time(tmp_path) as w:
        ran = await submit(w, "--json", "--call", "summer")
        assert ran.code == 3
        assert ran.document["error"]["code"] == "unknown-object"
        assert ran.document["error"]["hint"]


async def test_unavailable_says_where_the_filer_stands(tmp_path: Path) -> None:
    """On time but not staged: what is safe, and that resume goes on; and then it does."""
    async with real_time(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        ran = await submit(w, "--patience", "100ms")
        assert ran.code == 5
        ran.require_two_lines()
        assert "you ARE on time" in ran.err
        assert "resume" in ran.err
        for relay in w.relays:
            relay.how = "good"
        again = await running_bistro("resume", "--home", w.home.root)
        assert again.code == 0, again.err
        assert "and staged" in again.out
        assert (await running_bistro("resume", "--home", w.home.root)).code == 0


async def test_status_is_a_table(tmp_path: Path) -> None:
    """Every submission with its state; damaged ones are named and do not hide the others."""
    async with real_time(tmp_path) as w:
        assert "no submissions yet" in bistro("status", "--home", w.home.root).out
        await submit(w)
        await submit(w)
        first, second = w.home.folders()
        ran = await running_bistro("status", "--home", w.home.root)
        assert ran.code == 0, ran.err
        assert first.id in ran.out
        assert "3 of 3, 2 needed" in ran.out
        first.journal.write_bytes(b"{}")
        ran = await running_bistro("status", "--home", w.home.root)
        assert ran.code == 1
        ran.require_two_lines()
        assert "--recover" in ran.err
        assert "damaged" in ran.out
        assert second.id in ran.out
        document = (await running_bistro("status", "--json", "--home", w.home.root)).document
        assert [one["id"] for one in document["submissions"]] == [first.id, second.id]
        assert document["submissions"][0]["error"]["code"] == "storage"
        w.wire.down = True
        offline = await running_bistro("status", "--offline", "--home", w.home.root)
        assert second.id in offline.out
        silent = await running_bistro(
            "status", second.id, "--patience", "10ms", "--home", w.home.root
        )
        assert silent.code == 5
        assert "as last known" in silent.out


async def test_resume_goes_on_past_a_damaged_one(tmp_path: Path) -> None:
    """One that fails is told; the others are finished; recovery is one option away."""
    async with real_time(tmp_path) as w:
        for relay in w.relays:
            relay.how = "silent"
        await submit(w, "--patience", "1ms")
        await submit(w, "--patience", "1ms")
        for relay in w.relays:
            relay.how = "good"
        first, _ = w.home.folders()
        first.journal.write_bytes(b"{}")
        ran = await running_bistro("resume", "--home", w.home.root)
        assert ran.code == 1
        assert "and staged" in ran.out
        assert "--recover" in ran.err
        one = await running_bistro("resume", first.id, "--recover", "--home", w.home.root)
        assert one.code == 0, one.err
        assert bistro("resume", "--recover", "--home", w.home.root).code == 2


async def test_verify_says_what_holds_and_what_does_not(tmp_path: Path) -> None:
    """Exit 0 or 4, in words or as a document."""
    async with real_time(tmp_path) as w:
        await submit(w)
        evidence = w.only_folder().evidence
        ran = bistro("verify", evidence, "--home", w.home.root)
        assert ran.code == 0
        assert "HOLDS" in ran.out
        assert "shown by" in ran.out
        assert "on time" in ran.out
        assert bistro("verify", evidence, "--json", "--home", w.home.root).document["holds"]
        key = w.destination.terms.keys.terms.format()
        assert bistro("verify", evidence, "--trust", key, "--home", tmp_path / "x").code == 0
        assert "not in this file: " in ran.out
        assert "filed by key " in ran.out
        assert (
            "postmarks: There are no"
            in bistro("verify", evidence, "--verbose", "--home", w.home.root).out
        )
        stranger = bistro("verify", evidence, "--home", tmp_path / "x")
        assert stranger.code == 4
        stranger.require_two_lines()
        assert "--no-trust" in stranger.err
        alone = bistro("verify", evidence, "--no-trust", "--home", tmp_path / "x")
        assert alone.code == 0
        assert "if the key in it is the destination's" in alone.out
        both = bistro("verify", evidence, "--no-trust", "--trust", key, "--home", tmp_path / "x")
        assert both.code == 2
        assert "found both" in both.err
        copy = tmp_path / "copy.evidence.json"
        receipt = evidence.read_text().index("extra ") + 40
        text = evidence.read_text()
        copy.write_text(
            text[:receipt] + ("A" if text[receipt] != "A" else "B") + text[receipt + 1 :]
        )
        bad = bistro("verify", copy, "--home", w.home.root)
        assert bad.code == 4
        bad.require_two_lines()
        assert "do not rely on it" in bad.err
        missing = bistro("verify", tmp_path / "none", "--home", w.home.root)
        assert missing.code == 2
        missing.require_two_lines()


async def test_verify_takes_many_files(tmp_path: Path) -> None:
    """One that fails does not hide the others, and decides the exit code."""
    async with real_time(tmp_path) as w:
        await submit(w)
        folder = w.only_folder()
        good = (folder.evidence, folder.ticket)
        ran = bistro("verify", *good, "--home", w.home.root)
        assert ran.code == 0
        assert "2 of 2 files hold" in ran.out
        (tmp_path / "bad").write_bytes(b"nothing")
        ran = bistro("verify", tmp_path / "none", *good, "--home", w.home.root)
        assert ran.code == 2
        assert "2 of 3 files hold" in ran.out
        ran = bistro(
            "verify", tmp_path / "none", *good, tmp_path / "bad", "--json", "--home", w.home.root
        )
        assert ran.code == 4
        assert [one["holds"] for one in ran.document["files"]] == [False, True, True, False]
        assert ran.document["files"][0]["error"]["code"] == "settings"


def test_keys_are_made_shown_and_backed_up(tmp_path: Path) -> None:
    """Never replaced; the private part is never shown."""
    home = tmp_path / "home"
    assert bistro("keys", "show", "--home", home).code == 2
    made = bistro("keys", "new", "--home", home)
    assert made.code == 0
    assert "fingerprint: " in made.out
    private = (home / "keys" / "filer.pem").read_text()
    assert (home / "keys" / "filer.pem").stat().st_mode & 0o077 == 0
    again = bistro("keys", "new", "--home", home)
    assert again.code == 2
    again.require_two_lines()
    assert (home / "keys" / "filer.pem").read_text() == private
    shown = bistro("keys", "show", "--home", home, "--json")
    assert shown.document["public_key"] in made.out
    assert private.splitlines()[1] not in made.out + shown.out
    target = tmp_path / "backup.zip"
    assert bistro("keys", "backup", target, "--home", home).code == 0
    assert target.stat().st_mode & 0o077 == 0
    assert bistro("keys", "backup", target, "--home", home).code == 2
    with zipfile.ZipFile(target) as archive:
        archive.extractall(tmp_path / "restored")
    restored = bistro("keys", "show", "--home", tmp_path / "restored", "--json")
    assert restored.document["public_key"] == shown.document["public_key"]


def test_a_key_with_a_passphrase_needs_it(tmp_path: Path) -> None:
    """From a file that an option names; nobody is asked where there is no terminal."""
    home = tmp_path / "home"
    (tmp_path / "secret").write_text("correct horse\n")
    (tmp_path / "wrong").write_text("wrong\n")
    (tmp_path / "none").write_text("\n")
    options = ("--home", home, "--passphrase-file")
    assert bistro("keys", "new", *options, tmp_path / "none").code == 2
    assert bistro("keys", "new", *options, tmp_path / "secret").code == 0
    assert bistro("keys", "show", *options, tmp_path / "secret").code == 0
    for arguments in ((*options, tmp_path / "wrong"), ("--home", home)):
        ran = bistro("keys", "show", *arguments)
        assert ran.code == 2
        ran.require_two_lines()


async def test_doctor_says_what_to_do(tmp_path: Path) -> None:
    """Good, or a warning with a next step; exit 5 where the destination does not answer."""
    async with real_time(tmp_path) as w:
        ran = await running_bistro("doctor", "--home", w.home.root)
        assert ran.code == 0
        assert "bistro keys new" in ran.out
        bistro("keys", "new", "--home", w.home.root)
        w.relays[0].how = "silent"
        ran = await running_bistro("doctor", "--to", w.url, "--home", w.home.root)
        assert ran.code == 0, ran.out
        assert "2 of 3 relays" in ran.out
        assert "anna.example" in ran.out
        assert "clock" in ran.out
        w.wire.skew_ms = 3_600_000
        ran = await running_bistro("doctor", "--to", w.url, "--home", w.home.root, "--json")
        checks = {one["name"]: one for one in ran.document["checks"]}
        assert checks["clock"]["health"] == "warning"
        assert checks["key"]["health"] == "good"
        w.home.key_file.chmod(0o644)
        assert "chmod 600" in bistro("doctor", "--home", w.home.root).out
        w.home.key_file.write_bytes(b"nonsense")
        assert bistro("doctor", "--home", w.home.root).code == 2
        w.wire.down = True
        bad = await running_bistro("doctor", "--to", w.url, "--home", w.home.root)
        assert bad.code in {2, 5}
        assert "bad" in bad.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "x"),
        ("nothing",),
        ("submit", "x", "--to", "https://x.y", "--patience", "soon"),
        ("verify",),
        ("status", "--nothing"),
    ],
)
def test_wrong_usage_is_exit_2_in_two_lines(arguments: tuple[str, ...]) -> None:
    """And points to the help of that command."""
    ran = bistro(*arguments)
    assert ran.code == 2
    ran.require_two_lines()
    assert "--help" in ran.err


def test_help_has_examples_and_exit_codes() -> None:
    """Of the quality of a manual page."""
    for command in ("submit", "resume", "status", "verify", "keys", "doctor"):
        ran = bistro(command, "--help")
        assert ran.code == 0
        assert "Examples:" in ran.out
        assert f"  bistro {command}" in ran.out
    assert "Exit codes" in bistro("--help").out
    assert bistro("--version").out.startswith("bistro, version")


def test_a_bug_is_two_lines_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No traceback on the terminal; the file has it."""
    with pytest.raises(ValueError, match="surprise") as caught:
        int("surprise")
    cli._tell_of_bug(caught.type, caught.value, caught.tb)
    err = capsys.readouterr().err
    assert "error: a bug in bistro: ValueError: invalid literal" in err
    path = Path(err.strip().rsplit(" ", 1)[1])
    assert "Traceback" in path.read_text()
    path.unlink()


def test_help_and_verify_start_without_a_network_stack(tmp_path: Path) -> None:
    """They are what people wait for at a terminal."""
    code = (
        "import sys\n"
        "from bistro_client import cli\n"
        "try:\n"
        "    cli.main()\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert 'aiohttp' not in sys.modules, 'aiohttp'\n"
        "assert 'pydantic' not in sys.modules\n"
    )
    for arguments in (["--help"], ["verify", str(tmp_path / "none")], ["keys", "--help"]):
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
