"""One XML file: texts, lines, numbers, and what is refused."""

from __future__ import annotations

import pytest

from seatrial.datasets.voc_xml import parse

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
        (b"", "is not XML: no element found", 1),
        (b"<a>\n</b>", "is not XML: mismatched tag", 2),
        (b'<!DOCTYPE a [\n<!ENTITY e "x">]><a/>', "declares entities", 2),
    ],
)
def test_what_is_refused_and_where(data: bytes, message: str, line: int) -> None:
    with pytest.raises(ValueError, match=r"declares|is not XML") as caught:
        parse(data)
    assert str(caught.value.args[0]).startswith(message)
    assert caught.value.args[1] == line
