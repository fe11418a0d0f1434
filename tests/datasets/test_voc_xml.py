"""One XML file: texts, lines, numbers, and what is refused."""

from __future__ import annotations

import pytest

from seatrial.datasets.voc_xml import parse
from seatrial.errors import InvalidDataset

XML = b"""<annotation>
  <filename> a.jpg </filename>
  <size><width>40</width><height>30.0</height><depth>3</depth></size>
  <segmented>1</segmented>
  <object><name>dog</name>
    <part><name>head</name></part>
    <name>second</name></object>

  <object><name>cat</name></object>
</annotation>"""


def test_texts_of_the_file_and_of_its_objects() -> None:
    found = parse(XML)
    assert (found.filename, found.size, found.segmented) == ("a.jpg", (40, 30), 1)
    assert [(element.text("name"), element.line) for element in found.objects] == [
        ("dog", 5),
        ("cat", 9),
    ]
    assert found.objects[0].text("part/name") == "head"
    assert found.objects[0].text("nothing") == ""


def test_text_around_an_element_is_not_its_text() -> None:
    found = parse(
        b"<annotation>before<size>12<width>40</width>34<height>30</height></size>"
        b"after<filename>a.jpg</filename></annotation>"
    )
    assert (found.filename, found.size) == ("a.jpg", (40, 30))


def test_the_text_of_an_inner_element_is_not_its_parents() -> None:
    found = parse(b"<annotation><object><name>a<b>dog</b>cat</name></object></annotation>")
    assert found.objects[0].text("name") == "cat"
    assert found.objects[0].text("name/b") == "dog"


@pytest.mark.parametrize("text", [b"", b"?", b"-5", b"1.2.3", b"4e1"])
def test_a_size_that_is_not_a_number_is_0(text: bytes) -> None:
    found = parse(b"<annotation><size><width>" + text + b"</width></size></annotation>")
    assert found.size == (0, 0)
    assert (found.filename, found.segmented, found.objects) == ("", 0, ())


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b"<annotation>\n<object>", "is not XML: no element found", 2),
        (b"", "is empty", 1),
        (b"\xef\xbb\xbf \n", "is empty", 1),
        (b"<a>\n</b>", "is not XML: mismatched tag", 2),
        (b'<!DOCTYPE a [\n<!ENTITY e "x">]><a/>', "declares entities", 2),
        (b'<!DOCTYPE a [\n<!ATTLIST a b CDATA "x">]><a/>', "declares entities or attributes", 2),
    ],
)
def test_what_is_refused_and_where(data: bytes, message: str, line: int) -> None:
    with pytest.raises(ValueError, match=r"declares|is not XML|is empty") as caught:
        parse(data)
    assert str(caught.value.args[0]).startswith(message)
    assert caught.value.args[1] == line


def test_what_an_element_keeps_is_no_larger_than_the_file() -> None:
    """The paths of 20,000 nested elements took 1.6 GB."""
    size = b"<size><width>40</width></size>"
    for around in (b"%s", b"<object>%s</object>"):
        inside = around % (b"<a>" * 20_000 + b"text" + b"</a>" * 20_000)
        found = parse(b"<annotation>" + inside + size + b"</annotation>")
        paths = [path for element in found.objects for path in element.texts]
        assert sum(map(len, paths)) < 100
        assert found.size == (40, 0)


@pytest.mark.parametrize("text", ["1" * 400, "²", "٣٢", "1e400", "9" * 10, "0x20", "1_0", "inf"])
def test_a_size_beyond_any_image_is_0(text: str) -> None:
    found = parse(f"<annotation><size><width>{text}</width></size></annotation>".encode())
    assert found.size == (0, 0)


@pytest.mark.parametrize(
    "encoding", ["punycode", "zlib", "rot13", "undefined", "unicode_escape", "idna",
                 "Raw-Unicode-Escape", "base64", "klingon"],
)  # fmt: skip
def test_an_encoding_that_is_none_of_text_is_refused_by_its_name(encoding: str) -> None:
    data = f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'.encode()
    with pytest.raises(InvalidDataset, match=rf"a\.xml declares the encoding '{encoding.lower()}'"):
        parse(data, "a.xml")


@pytest.mark.parametrize("encoding", ["utf-16", "UTF-16LE", "ucs-2", "utf-32"])
def test_a_declaration_that_the_bytes_contradict_does_not_count(encoding: str) -> None:
    """.NET declares UTF-16 in files that it writes as UTF-8."""
    data = f'<?xml version="1.0" encoding="{encoding}"?><annotation><filename>é'
    assert parse(f"{data}</filename></annotation>".encode()).filename == "é"
