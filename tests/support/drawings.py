"""Checks of a drawing as a whole: well-formed, and nothing beyond its edges."""

from __future__ import annotations

from xml.etree import ElementTree

WIDE = 7.2  # width of a letter of 12 px, upper estimate


def assert_drawn(drawing: str) -> ElementTree.Element:
    """Check every element's place, and that nothing stands between the elements."""
    root = ElementTree.fromstring(drawing)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    assert not root.text
    for one in root.iter():
        assert not one.tail, f"stray text after {one.tag}: {one.tail}"
        for key, value in one.attrib.items():
            if key in ("x", "x1", "x2", "cx", "width"):
                assert -0.1 <= float(value) <= width + 0.1, (one.tag, one.attrib)
            elif key in ("y", "y1", "y2", "cy", "height"):
                assert -0.1 <= float(value) <= height + 0.1, (one.tag, one.attrib)
            elif key == "points":
                for place in value.split():
                    x, y = map(float, place.split(","))
                    assert -0.1 <= x <= width + 0.1
                    assert -0.1 <= y <= height + 0.1
        if one.tag == "text":
            length = len(one.text or "") * WIDE
            x, anchor = float(one.attrib["x"]), one.attrib["text-anchor"]
            left = {"start": x, "middle": x - length / 2, "end": x - length}[anchor]
            # A tick at an edge reaches into the margin around the drawing.
            assert -10 <= left <= left + length <= width + 20, (one.text, one.attrib)
    return root
