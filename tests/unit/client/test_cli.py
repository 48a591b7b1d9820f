"""The command line: submitting, exit codes, JSON; one clear message for whatever is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bistro.clock import SystemClock
from bistro.instant import UnixMillis
from bistro_client import cli
from tests.unit.client.commands import Ran, bistro, running_bistro, submit
from tests.unit.client.worlds import World, real_time


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
