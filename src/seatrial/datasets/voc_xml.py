"""One XML file of Pascal VOC, with the line of each object."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(slots=True)
class Element:
    """An element, with the first text at each path in it.

    Attributes:
        line: Line where it begins, from 1.
        texts: Path in the element, for example ``"bndbox/xmin"``, -> the text there.
    """

    line: int
    texts: dict[str, str] = field(default_factory=dict)

    def text(self, path: str) -> str:
        """The text at a path, without space around it; empty if there is none."""
        return self.texts.get(path, "").strip()


@dataclass(frozen=True, slots=True)
class Annotation:
    """The content of one file.

    Attributes:
        filename: Name of the image file; empty where the file does not say it.
        size: Width and height, pixels; 0 where the file does not say them.
        segmented: 1 if there is an outline in another file.
        objects: The elements ``<object>``.
    """

    filename: str
    size: tuple[int, int]
    segmented: int
    objects: tuple[Element, ...]


class _Parser:
    """Collects the texts of the root and of its objects."""

    def __init__(self) -> None:
        self.root = Element(1)
        self.objects: list[Element] = []
        self._path: list[str] = []
        self._text: list[str] = []
        self._expat = expat.ParserCreate()
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._text.append
        self._expat.EntityDeclHandler = self._refuse

    def parse(self, data: bytes) -> None:
        self._expat.Parse(data, True)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        self._text.clear()
        if len(self._path) == 2 and tag == "object":
            self.objects.append(Element(self._expat.CurrentLineNumber))

    def _end(self, tag: str) -> None:
        inside = self._path[1:2] == ["object"]
        element, path = (
            (self.objects[-1], self._path[2:]) if inside else (self.root, self._path[1:])
        )
        element.texts.setdefault("/".join(path), "".join(self._text))
        self._text.clear()
        self._path.pop()

    def _refuse(self, *declaration: object) -> None:
        raise ValueError("declares entities, which are refused", self._expat.CurrentLineNumber)


def parse(data: bytes) -> Annotation:
    """The content of one file.

    Raises:
        ValueError: The file is not XML, or declares entities; the arguments are what is wrong and
            the line.
    """
    parser = _Parser()
    try:
        parser.parse(data)
    except expat.ExpatError as error:
        raise ValueError(f"is not XML: {expat.ErrorString(error.code)}", error.lineno) from error
    root = parser.root
    return Annotation(
        filename=root.text("filename"),
        size=(_number(root, "size/width"), _number(root, "size/height")),
        segmented=_number(root, "segmented"),
        objects=tuple(parser.objects),
    )


def _number(element: Element, path: str) -> int:
    """The whole number at a path; 0 where there is none."""
    text = element.text(path)
    return int(float(text)) if text.replace(".", "", 1).isdigit() else 0
