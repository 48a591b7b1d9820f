"""Identifiers: each has one spelling, and whatever passes is safe elsewhere."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro import ids
from bistro.errors import FormatError
from bistro.ids import Origin
from tests.support import strategies


@pytest.mark.parametrize(
    "name", ["a.b", "permits.example", "x-1.example.org", "1.2", "a" * 63 + ".b"]
)
def test_a_host_name_with_a_dot_names_a_server(name: str) -> None:
    """Names are those that certificates are made for."""
    ids.require_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localhost",
        "Permits.example",
        "a..b",
        ".a.b",
        "a.b.",
        "-a.b",
        "a-.b",
        "a_b.c",
        "ä.example",
        "a.b\n",
        "a.b/c",
        "a b.c",
        "a" * 64 + ".b",
        ".".join(["a" * 63] * 4),
    ],
)
def test_no_other_text_names_a_server(name: str) -> None:
    """A name has one spelling and cannot leave its place in a note or URL."""
    with pytest.raises(FormatError, match="relay name: expected a lower-case host name"):
        ids.require_host_name(name, what="relay name")


@pytest.mark.parametrize("call", ["a", "7", "spring-2026", "a" * 63])
def test_a_call_is_named_by_letters_digits_and_hyphens(call: str) -> None:
    """Call ids stand in URLs and folder names."""
    ids.require_call_id(call)


@pytest.mark.parametrize("call", ["", "A", "-a", "a-", "a/b", "a.b", "..", "a" * 64, "a\n", "é"])
def test_no_other_text_names_a_call(call: str) -> None:
    """Nothing that could mean another folder passes."""
    with pytest.raises(FormatError, match="call id: expected"):
        ids.require_call_id(call)


@pytest.mark.parametrize("call", ["collect", "custody", "postmarks", "refusals", "status"])
def test_a_call_id_makes_no_origin_that_names_another_ledger_or_key(call: str) -> None:
    """``<relay>/postmarks`` is a relay's ledger, whoever calls a server by a relay's name."""
    with pytest.raises(FormatError, match="not reserved"):
        Origin("permits.example", call)


@pytest.mark.parametrize("slot", ["main", "lot-2", "Lote_2.b", "x" * 64, "0"])
def test_a_slot_is_a_short_identifier(slot: str) -> None:
    """What it is does not depend on anybody's Unicode tables."""
    ids.require_slot(slot)


@pytest.mark.parametrize(
    "slot", ["", " a", "a b", "a\n", "-a", ".a", "\x00", "x" * 65, "ção", "a/b"]
)
def test_no_other_text_is_a_slot(slot: str) -> None:
    """Two slots that look alike are alike."""
    with pytest.raises(FormatError, match="slot: expected"):
        ids.require_slot(slot)


@given(strategies.HASHES)
def test_a_commitment_is_64_digits(commitment: bytes) -> None:
    """Text and bytes stand for each other."""
    text = ids.format_commitment(commitment)
    assert len(text) == 64
    assert ids.parse_commitment(text) == commitment


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_no_other_text_is_a_commitment(text: str) -> None:
    """Capitals would be a second spelling."""
    with pytest.raises(FormatError, match="commitment: expected 64"):
        ids.parse_commitment(text)


def test_a_commitment_of_another_size_is_not_written() -> None:
    """The mistake is found where it is made."""
    with pytest.raises(FormatError, match="expected 32 bytes, found 31"):
        ids.format_commitment(bytes(31))


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b/c.pdf",
        ".hidden",
        "a..b",
        "x/manifest.json",
        "ação/日本.txt",
        "a\u202fb",
        "x" * 255,
        " a",
        "console",
        "com10.txt",
        "a.con",
        "\U00020000.txt",
    ],
)
def test_a_file_keeps_the_name_that_its_system_gave_it(path: str) -> None:
    """Unusual spaces and other alphabets are ordinary names."""
    ids.require_file_path(path)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("", "the part ''"),
        ("/a", "the part ''"),
        ("a/", "the part ''"),
        ("a//b", "the part ''"),
        (".", "the part '.'"),
        ("a/../b", "the part '..'"),
        ("a\x00", "control characters"),
        ("a\x85", "control characters"),
        ("a\\b", "control characters and none of"),
        ("c:", "control characters and none of"),
        ("\ud800", "control characters and none of"),
        ("a\u202efdp.exe", "no invisible characters, found U+202E"),
        ("a\u200b", "no invisible characters, found U+200B"),
        ("a\u061c", "no invisible characters, found U+061C"),
        ("\ufeffa", "no invisible characters, found U+FEFF"),
        ("a\u2064b", "no invisible characters, found U+2064"),
        ("a\u00adb", "no invisible characters, found U+00AD"),
        ("a\U000e0041", "no invisible characters, found U+E0041"),
        ("a.", "do not end in a dot or a space"),
        ("a /b", "do not end in a dot or a space"),
        ("...", "do not end in a dot or a space"),
        ("con", "a device on some systems"),
        ("Aux/b", "a device on some systems"),
        ("a/NUL.tar.gz", "a device on some systems"),
        ("COM0", "a device on some systems"),
        ("lpt9 .txt", "a device on some systems"),
        ("com\u00b9", "a device on some systems"),
        ("c\u0327", "Unicode form NFC"),
        ("x" * 256, "names of at most 255 bytes"),
        ("é" * 128, "names of at most 255 bytes"),
        ("/".join(["x" * 200] * 6), "at most 1024 bytes, found 1205"),
        ("manifest.json", "not reserved"),
        ("submission.bin", "not reserved"),
        ("Manifest.JSON", "not reserved"),
    ],
)
def test_a_path_that_some_system_cannot_unpack_is_malformed(path: str, problem: str) -> None:
    """A filing unpacks everywhere, and only below its own folder."""
    with pytest.raises(FormatError) as raised:
        ids.require_file_path(path)
    assert problem in raised.value.message
    assert raised.value.message.isascii()


@given(strategies.FILE_PATHS)
def test_a_path_that_passes_stays_below_its_folder(path: str) -> None:
    """Joined to a folder, it leads to something below it, whatever its characters are."""
    parts = PurePosixPath("/inbox", path).parts
    assert parts[:2] == ("/", "inbox")
    assert not {"..", "."} & set(parts)


@given(strategies.ORIGINS)
def test_an_origin_reads_as_it_is_written(origin: Origin) -> None:
    """An origin is server and call, and its text is the only one."""
    assert Origin.parse(str(origin)) == origin


@pytest.mark.parametrize("text", ["", "a.b", "a.b/", "/a", "a.b/c/d", "A.b/c", "a/b", "a.b/c\n"])
def test_no_other_text_is_an_origin(text: str) -> None:
    """Both parts must be what they are alone."""
    with pytest.raises(FormatError):
        Origin.parse(text)


def test_an_origin_names_its_keys_and_ledgers() -> None:
    """All names of a call are made in one place."""
    origin = Origin.parse("permits.example/spring")
    assert origin.refusals == "permits.example/spring/refusals"
    assert origin.status == "permits.example/spring/status"
    assert origin.collect == "permits.example/spring/collect"
    assert origin.custody("r1.example") == "r1.example/custody/permits.example/spring"
    assert ids.postmarks_origin("r1.example") == "r1.example/postmarks"
    with pytest.raises(FormatError, match="relay name"):
        origin.custody("r1")
    with pytest.raises(FormatError, match="relay name"):
        ids.postmarks_origin("r1")


@given(strategies.BASE_URLS)
def test_a_base_url_has_a_host_and_perhaps_port_and_path(url: str) -> None:
    """Servers live at ordinary addresses."""
    ids.require_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "ftp://a.b",
        "HTTPS://a.b",
        "https://A.b",
        "https://a.b/",
        "https://a.b/c/",
        "https://a.b?c",
        "https://a.b#c",
        "https://u@a.b",
        "https://a.b:0",
        "https://a.b:65536",
        "https://a.b:99999",
        "https://a.b:080",
        "https://a.b/%2e",
        "https://a.b/..",
        "https://a.b/./c",
        "https://a b",
        "https://a.b\n",
        "https://a.b/" + "x" * 512,
    ],
)
def test_no_other_url_is_a_base_url(url: str) -> None:
    """Joining a route to it never means another host or another route."""
    with pytest.raises(FormatError, match="base URL: expected"):
        ids.require_base_url(url)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_messages_show_what_was_found_without_its_control_characters(text: str) -> None:
    """A message can go to a log or terminal whatever a stranger sent."""
    with pytest.raises(FormatError) as raised:
        ids.require_host_name(text + "\n")
    assert raised.value.message.isascii()
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 2_000
