"""Text files in the encodings in which people and tools write them."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest
from hypothesis import given

from any_text import text
from seatrial.errors import InvalidConfig, InvalidDataset, InvalidInput
from seatrial.system.text import (
    as_utf8,
    decode_text,
    lines,
    numbered_names,
    read_text,
)

SAMPLE = "name: café\r\n#1 \N{SNOWMAN}\n"


@pytest.mark.parametrize(
    "data",
    [
        SAMPLE.encode(),
        codecs.BOM_UTF8 + SAMPLE.encode(),
        codecs.BOM_UTF16_LE + SAMPLE.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + SAMPLE.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + SAMPLE.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + SAMPLE.encode("utf-32-be"),
        SAMPLE.encode("utf-16-le"),
        SAMPLE.encode("utf-16-be"),
    ],
)
def test_every_unicode_encoding_is_read_with_and_without_a_mark(data: bytes) -> None:
    assert decode_text(data, origin="x") == SAMPLE
    assert as_utf8(data, origin="x") == SAMPLE.encode()


@pytest.mark.parametrize("encoding", ["cp1252", "gbk", "koi8-r", "utf-16"])
def test_a_declared_encoding_is_read(encoding: str) -> None:
    words = {"cp1252": "café", "gbk": "猫", "koi8-r": "кот", "utf-16": "猫"}[encoding]
    assert decode_text(words.encode(encoding), origin="x", declared=encoding) == words


@pytest.mark.parametrize("encoding", ["cp1252", "shift_jis", "cp1251"])
def test_a_legacy_code_page_that_is_not_declared_is_refused_with_its_line(
    tmp_path: Path, encoding: str
) -> None:
    file = tmp_path / "classes.txt"
    word = {"cp1252": "café", "shift_jis": "猫", "cp1251": "кот"}[encoding]
    file.write_bytes(b"dog\n" + word.encode(encoding) + b"\n")
    with pytest.raises(InvalidDataset, match=r"classes\.txt, line 2: byte 0x.* not UTF-8") as told:
        read_text(file, error=InvalidDataset)
    assert "iconv" in told.value.hint


def test_a_wrong_declaration_is_named() -> None:
    with pytest.raises(InvalidInput, match="'klingon', which is not known"):
        decode_text(b"cat", origin="x", declared="klingon")
    with pytest.raises(InvalidInput, match="not ASCII, which the file says it is"):
        decode_text("é".encode(), origin="x", declared="ascii")
    with pytest.raises(InvalidInput, match="not UTF-8, which the file says it is"):
        decode_text(b"caf\xe9", origin="x", declared="utf-8")
    with pytest.raises(InvalidInput, match="not UTF-16-LE"):
        decode_text(codecs.BOM_UTF16_LE + b"a", origin="x")


def test_a_file_that_is_not_there_has_the_error_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="cannot be read: No such file"):
        read_text(tmp_path / "none.toml", error=InvalidConfig)


def test_lines_end_where_editors_end_them() -> None:
    assert lines("a\r\nb\rc\n\n d \x0c\u2028e") == ["a", "b", "c", "", " d \x0c\u2028e"]
    assert lines("") == []


@given(text())
def test_text_comes_back(words: str) -> None:
    if "\0" not in words:
        assert decode_text(words.encode(), origin="x") == words.removeprefix("\ufeff")


def test_names_are_numbered_by_their_lines() -> None:
    text = "#1 bolt\r\n type: A \nbackground\n\n \n"
    assert numbered_names(text, origin="x") == ("#1 bolt", " type: A ", "background")
    assert numbered_names("", origin="x") == ()
    with pytest.raises(InvalidDataset, match=r"classes\.txt, line 2 is empty"):
        numbered_names("cat\n\ndog\n", origin="classes.txt", error=InvalidDataset)


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("words", ["cat\ndog\n", "c\n", "x猫\n"])
def test_wide_encodings_are_told_without_a_mark(encoding: str, words: str) -> None:
    assert decode_text(words.encode(encoding), origin="x") == words


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", ["utf-8", "ISO-8859-1", "UTF-16"])
def test_what_the_first_bytes_show_goes_before_a_declaration(encoding: str, declared: str) -> None:
    """XML that was saved anew keeps the line that declares its former encoding."""
    assert decode_text("<x>猫".encode(encoding), origin="x", declared=declared) == "<x>猫"


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"cat\nd\0g\n", 2), (b"cat\0", 1), (b"ab\n\n\0\0", 3),
        ("猫\n犬a\n".encode("utf-16-le"), 2),
        (codecs.BOM_UTF8 + b"a\r\nb\r\0", 3), ("a\n\0b".encode("utf-16"), 2),
    ],
)  # fmt: skip
def test_nul_characters_are_refused_with_their_line(data: bytes, line: int) -> None:
    with pytest.raises(
        InvalidInput, match=rf"x, line {line}: a NUL character|is not a text file"
    ) as told:
        decode_text(data, origin="x")
    assert "UTF-8" in told.value.hint


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (codecs.BOM_UTF8 + b"a\n\xff", 2), (codecs.BOM_UTF8 + b"\xff\n\n", 1), (b"a\r\rb\xe9", 3),
        (codecs.BOM_UTF16_LE + "a\n\u0a0a\n".encode("utf-16-le") + b"\0\xd8", 3),
    ],
)  # fmt: skip
def test_the_line_of_a_fault_is_that_of_the_text(data: bytes, line: int) -> None:
    with pytest.raises(InvalidInput, match=rf"x, line {line}: "):
        decode_text(data, origin="x")


@pytest.mark.parametrize(
    "encoding", ["punycode", "idna", "rot13", "zlib_codec", "unicode_escape", "a\0b"]
)
def test_codecs_that_are_none_of_text_are_not_declared(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="not known as one of text"):
        decode_text(b"cat", origin="x", declared=encoding)


def test_names_keep_their_blanks() -> None:
    assert numbered_names("cat \ncat\n\tdog\n", origin="x") == ("cat ", "cat", "\tdog")
    with pytest.raises(InvalidInput, match="line 2 is empty"):
        numbered_names("cat\n \ndog\n", origin="x")


def test_a_file_that_is_no_text_is_named_as_that() -> None:
    data = bytes.fromhex("ffd8ffe000104a46494600")  # how a JPEG begins
    with pytest.raises(InvalidInput, match=r"^photo\.jpg is not a text file$"):
        decode_text(data, origin="photo.jpg")
