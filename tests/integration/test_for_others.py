"""Filing for several principals, and receipts to print."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from bistro_client import keyring
from bistro_client.journal import read_journal
from tests.integration.test_client_path import Filer, filing
from tests.unit.client.commands import Ran, running_bistro
from tests.unit.client.worlds import sealed_of, ticket_of


async def command(filer: Filer, *arguments: str | Path) -> Ran:
    return await running_bistro(*arguments, "--home", filer.home.root)


async def test_an_agent_files_for_several_principals(tmp_path: Path) -> None:
    """Each with a key of its own, in the same call and slot; status says for whom."""
    async with filing(tmp_path) as filer:
        source = tmp_path / "bid.pdf"
        source.write_bytes(b"bid")
        where = ("--to", filer.wire.url, "--call", "spring")
        ran = await command(filer, "submit", source, "--as", "acme", *where)
        assert ran.code == 2
        assert "bistro keys new" in ran.err
        for name in ("acme", "globex"):
            assert (await command(filer, "keys", "new", "--as", name)).code == 0
            ran = await command(filer, "submit", source, "--as", name, *where)
            assert ran.code == 0, ran.err
        submissions = [read_journal(folder) for folder in filer.home.folders()]
        keys = {sealed_of(one).signed.header.filer_key for one in submissions}
        assert keys == {keyring.load(filer.home.key_of(name)).public for name in ("acme", "globex")}
        table = (await command(filer, "status", "--offline")).out
        assert "acme" in table
        assert "globex" in table
        assert (await command(filer, "keys", "list")).out.split()[-2:] == ["acme", "globex"]
        assert (await command(filer, "keys", "new", "--as", "../acme")).code == 2
        assert (await command(filer, "withdraw", submissions[0].id, "--yes")).code == 0


class Text(HTMLParser):
    """What a page says, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.fetched: list[str] = []

    def handle_data(self, data: str) -> None:
        self.text += f"{data}\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in {"src", "href"}]


async def test_a_receipt_to_print_has_all_that_matters(tmp_path: Path) -> None:
    """Times, files with hashes, relays, and the ticket letter by letter; nothing is fetched."""
    async with filing(tmp_path) as filer:
        folder = await filer.submit({"a & b.txt": b"content"})
        page = tmp_path / "receipt.html"
        assert (await command(filer, "receipt", folder.id, "--out", page)).code == 0
        found = Text()
        found.feed(page.read_text(encoding="utf-8"))
        submission = read_journal(folder)
        assert found.fetched == []
        for words in (
            "a & b.txt",
            sealed_of(submission).commitment.hex(),
            ticket_of(submission).strip(),
            "anna.example",
            "bistro verify",
        ):
            assert words in found.text
        again = await command(filer, "receipt", folder.id, "--out", page)
        assert again.code == 2
        assert "left as it is" in again.err
