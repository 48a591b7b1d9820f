"""The command line's verdicts on evidence: in words, as a document, by exit code."""

from __future__ import annotations

from pathlib import Path

from tests.unit.client.commands import bistro, submit
from tests.unit.client.worlds import real_time


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
