"""Images with annotations of Pascal VOC."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

XML = """<annotation>
  <folder>VOC2007</folder>
  <filename>{filename}</filename>
  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
  <object>
    <name>dog</name>
    <pose>Left</pose><truncated>1</truncated><difficult>{difficult}</difficult>
    <bndbox><xmin>{xmin}</xmin><ymin>1</ymin><xmax>{xmax}</xmax><ymax>30.5</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>3</xmin><ymin>2</ymin><xmax>5</xmax><ymax>4</ymax>
    </bndbox></part>
  </object>
</annotation>
"""


def write_annotated(
    folder: Path, name: str, pictures: str = "JPEGImages", **values: object
) -> None:
    """An image, and its annotation with one object; the values replace texts of the file."""
    annotations = folder / ("Annotations" if pictures else "")
    for home in (annotations, folder / pictures):
        home.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 31)).save(folder / pictures / f"{name}.png")
    defaults = {"filename": f"{name}.png", "width": 40, "height": 31, "difficult": 0,
                "xmin": 1, "xmax": 40}  # fmt: skip
    (annotations / f"{name}.xml").write_text(XML.format(**defaults | values))
