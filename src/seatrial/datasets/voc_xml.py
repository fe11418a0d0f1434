"""One XML file of Pascal VOC, with the line of each object.

Space around a text does not count, since tools indent their files, unless the element has
``xml:space="preserve"`` (XML 1.0, section 2.10): so a name keeps the blanks that it begins with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from xml.parsers import expat

from seatrial.datasets.labels import MOST_PX
from seatrial.errors import InvalidDataset
from seatrial.system.text import decode_text

ROOT = "annotation"
_DECLARED = re.compile(rb"<\?xml[^>]*\bencoding\s*=\s*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"']")
# Encodings of which no character is written as in ASCII, in which the declaration was found.
_UNLIKE_ASCII = re.compile(r"(?:utf|ucs|iso-10646-ucs)[-_]?(?:16|32|2|4).*")
DEPTH = 2  # parts of the longest path that is read: bndbox/xmin
CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(slots=True)
class Element:
    """An element, with the first text at each path in it.

    Attributes:
        line: Line where it begins, from 1.
        texts: Path in the element, of `DEPTH` parts at most, for example ``"bndbox/xmin"``, -> the
            text there.
    """

    line: int
    texts: dict[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """The text at a path; empty if there is none."""
        return self.texts.get(path, "")


@dataclass(frozen=True, slots=True)
class Annotation:
    """The content of one file.

    Attributes:
        root: Name of the root element; that of an annotation is `ROOT`.
        filename: Name of the image file; empty where the file does not say it.
        size: Width and height, pixels; 0 where the file does not say them.
        segmented: 1 if there is an outline in another file.
        objects: The elements ``<object>``.
    """

    root: str
    filename: str
    size: tuple[int, int]
    segmented: int
    objects: tuple[Element, ...]


class _Parser:
    """Collects the texts of the root and of its objects."""

    def __init__(self) -> None:
        self.root = Element(1)
        self.objects: list[Element] = []
        self.tag = ""
        self._path: list[str] = []
        self._exact: list[bool] = []
        self._text: list[str] = []
        self._expat = expat.ParserCreate("utf-8")  # whatever the file declares: it is decoded
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text.append
        self._expat.EntityDeclHandler = self._refuse
        self._expat.AttlistDeclHandler = self._refuse  # each element would get them

    def parse(self, data: bytes) -> None:
        self._expat.Parse(data, True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag = self.tag or tag
        self._path.append(tag)
        self._exact.append(attributes.get("xml:space") == "preserve")
        self._text.clear()
        if len(self._path) == 2 and tag == "object":
            self.objects.append(Element(self._expat.CurrentLineNumber))

    def _end(self, tag: str) -> None:
        inside = self._path[1:2] == ["object"]
        above = 2 if inside else 1
        exact = self._exact.pop()
        if len(self._path) - above <= DEPTH:
            element = self.objects[-1] if inside else self.root
            text = "".join(self._text)
            place = "/".join(self._path[above:])
            element.texts.setdefault(place, text if exact else text.strip())
        self._text.clear()
        self._path.pop()

    def _refuse(self, *declaration: object) -> None:
        what = "declares entities or attributes, which are refused"
        raise ValueError(what, self._expat.CurrentLineNumber, "remove the <!DOCTYPE ...>")


def parse(data: bytes, origin: object = "the file") -> Annotation:
    """The content of one file.

    Args:
        data: The file, in the encoding that it declares.
        origin: Name of the file, for the error.

    Raises:
        InvalidDataset: The file is not in the encoding that it declares.
        ValueError: The file is not XML, or declares entities; the arguments are what is wrong,
            the line, and a remedy where there is one.
    """
    declared = _DECLARED.match(data)
    said = declared[1].decode("ascii") if declared else ""
    text = decode_text(
        data,
        origin=origin,
        error=InvalidDataset,
        # .NET declares UTF-16 in files that it writes as UTF-8.
        declared="" if _UNLIKE_ASCII.fullmatch(said.lower()) else said,
    )
    parser = _Parser()
    try:
        if not text.strip():
            raise ValueError("is empty", 1)
        parser.parse(text.encode())
    except expat.ExpatError as error:
        raise ValueError(f"is not XML: {expat.ErrorString(error.code)}", error.lineno) from error
    root = parser.root
    return Annotation(
        root=parser.tag,
        filename=root.text("filename"),
        size=(_number(root, "size/width"), _number(root, "size/height")),
        segmented=_number(root, "segmented"),
        objects=tuple(parser.objects),
    )


def _number(element: Element, path: str) -> int:
    """The whole number at a path; 0 where there is none, or one beyond any image."""
    text = element.text(path)
    value = float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else 0.0
    return int(value) if value <= MOST_PX else 0
