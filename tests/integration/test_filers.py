"""The list of registered filers: commands that write it, and what a server follows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bistro.errors import StorageError, UnknownObjectError
from bistro_server.services.filer_registry import FilerRegistry
from bistro_server.store.filers import PAGE, Filer, Filers
from bistro_server.store.schema import open_database
from tests.support.clocks import ManualClock
from tests.support.shell import Shell, create

KEYS = tuple(number.to_bytes(2, "big") * 16 for number in range(2, 2_600))
ONE, TWO = KEYS[0].hex(), KEYS[1].hex()


async def listed(filers: Filers) -> list[Filer]:
    """The whole list."""
    return [one async for one in filers.all()]


async def test_a_registry_follows_the_list_page_by_page(tmp_path: Path) -> None:
    """Thousands in one change, then single ones; also by a second process."""
    clock = ManualClock()
    mine = await open_database(tmp_path / "server.sqlite3")
    others = await open_database(tmp_path / "server.sqlite3")
    registry, filers = FilerRegistry(Filers(mine, clock)), Filers(others, clock)
    assert await registry.refresh() == 0
    assert not registry.is_known(KEYS[0])
    assert await filers.put((key, key.hex()) for key in KEYS) == len(KEYS) > 2 * PAGE
    assert await registry.refresh() == len(KEYS)
    assert all(registry.is_registered(key) for key in KEYS)
    assert await filers.revoke(KEYS[5:7]) == 2
    assert await filers.revoke(KEYS[5:7]) == 0
    assert await registry.refresh() == 2
    assert registry.is_known(KEYS[5])
    assert not registry.is_registered(KEYS[5])
    await filers.put([(KEYS[6], "again")])
    assert await registry.refresh() == 1
    assert [registry.is_registered(key) for key in KEYS[5:8]] == [False, True, True]
    assert len(registry) == len(KEYS) == len(await listed(filers))
    await mine.close()
    await others.close()


async def test_a_list_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    """All or none: an error halfway leaves the list as it was."""
    database = await open_database(tmp_path / "server.sqlite3")
    filers = Filers(database, ManualClock())

    def broken() -> object:
        yield from ((key, "name") for key in KEYS[:1_500])
        raise StorageError("the file broke off")

    with pytest.raises(StorageError, match="broke off"):
        await filers.put(broken())  # type: ignore[arg-type]
    assert await listed(filers) == []
    await filers.put([(KEYS[0], "name")])
    with pytest.raises(UnknownObjectError, match="no such key"):
        await filers.revoke([KEYS[0], KEYS[1]])
    assert [one.revoked_at for one in await listed(filers)] == [None]
    await database.close()


def test_filers_are_added_listed_and_revoked(root: Path, shell: Shell) -> None:
    """One at a time, with a fingerprint to compare aloud."""
    assert shell("filers", "list", "--dir", root) == 0
    assert "no filers yet" in shell.err
    assert shell("filers", "add", ONE, "--name", "Town of Aldea", "--dir", root) == 0
    assert "Town of Aldea" in shell.out
    assert "Compare the fingerprint" in shell.err
    assert shell("filers", "add", TWO, "--name", "Bairro", "--dir", root, "--json") == 0
    assert shell.json["key"] == TWO
    assert shell("filers", "revoke", ONE, "--dir", root) == 0
    assert shell.out == "revoked 1 of 1; the others were revoked before\n"
    assert shell("filers", "list", "--dir", root) == 0
    assert [line.split("  ")[1:] for line in shell.out.splitlines()][1] == ["Bairro"]
    assert "revoked 2" in shell.out
    assert shell("filers", "list", "--dir", root, "--json") == 0
    first, second = shell.json["filers"]
    assert (first["name"], second["revoked_at"]) == ("Town of Aldea", None)
    assert first["revoked_at"] is not None
    assert len(second["fingerprint"]) == len("0000 " * 8) - 1


def test_thousands_are_imported_at_once_or_not_at_all(root: Path, shell: Shell) -> None:
    """A wrong line is named, and leaves no trace; names are brought up to date."""
    file = root / "filers.csv"
    lines = [f"{key.hex()},Filer {number}" for number, key in enumerate(KEYS)]
    file.write_text("\n".join(["key,name", *lines, f"{ONE},again"]), encoding="utf-8")
    assert shell("filers", "import", str(file), "--dir", root) == 2
    assert f"line {len(KEYS) + 2}: key: expected each once, found that of line 2" in shell.err
    assert shell("filers", "list", "--dir", root, "--json") == 0
    assert shell.json == {"filers": []}
    file.write_text("\n".join(["key,name", *lines]), encoding="utf-8")
    assert shell("filers", "import", str(file), "--dir", root) == 0
    assert shell.out == f"imported {len(KEYS)} filers from {file}\n"
    assert shell("filers", "revoke", ONE, "--dir", root, "--json") == 0
    file.write_text(json.dumps({"key": ONE, "name": "New name"}), encoding="utf-8")
    assert shell("filers", "import", str(file), "--dir", root, "--json") == 0
    assert shell.json == {"imported": 1}
    assert shell("filers", "list", "--dir", root, "--json") == 0
    assert len(shell.json["filers"]) == len(KEYS)
    assert shell.json["filers"][0]["name"] == "New name"
    assert shell.json["filers"][0]["revoked_at"] is None


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (("add", "abc", "--name", "A"), 2, "expected 64 hexadecimal digits"),
        (("add", ONE, "--name", "a\nb"), 2, "on one line"),
        (("revoke", ONE), 3, "no such key is registered"),
        (("import", "/nowhere/filers.csv"), 2, "/nowhere/filers.csv"),
    ],
)
def test_mistakes_are_told(
    root: Path, shell: Shell, arguments: tuple[str, ...], exit_code: int, said: str
) -> None:
    """What was expected and found, and what to do."""
    assert shell("filers", *arguments, "--dir", root) == exit_code
    assert said in shell.err
    assert "next: " in shell.err


def test_a_call_for_registered_filers_says_so(root: Path, shell: Shell) -> None:
    """In its terms; a limit for anyone's call contradicts itself."""
    limits = ("--filers", "registered", "--tickets-per-filer", "3")
    assert create(shell, root, "spring", *limits) == 0
    assert "registered, at most 3 tickets each" in shell.out
    assert shell("call", "show", "spring", "--dir", root, "--json") == 0
    terms = shell.json["terms"]
    assert (terms["filers"], terms["tickets_per_filer"]) == ("registered", 3)
    assert create(shell, root, "autumn", "--tickets-per-filer", "3") == 2
    assert "tickets_per_filer" in shell.err
