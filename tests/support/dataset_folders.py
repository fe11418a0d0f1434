"""Labelled folders as Hypothesis draws them: in each format, as tools write them; and damaged ones.

The writers here share no code with the product's: a fault in both would have to be made twice.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from hypothesis import strategies as st
from PIL import Image

FORMATS = ("coco", "yolo", "voc")
ENCODINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".JPG": "JPEG", ".png": "PNG", ".webp": "WEBP"}
SIDES_PX = (12, 80)
LEAST_BOX_PX = 2.0
# What YAML, XML, tables, lists and paths could take for their own.
_MARKS = " :#'\"[]{}(),&<>%!|*-_.@`~^;=+?é日ß"
_NAMES = st.text(st.sampled_from("abcXYZ019" + _MARKS), min_size=1, max_size=12)
_YAML_WORDS = st.sampled_from(
    ["no", "yes", "null", "~", "1", "007", "1e3", "background", "name: x"]
)
_STEMS = st.text(st.sampled_from("abXY09 -_.é日#%'(&"), min_size=1, max_size=8)
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Thing:
    """A labelled object: index of its class, left, top, width, height in pixels."""

    kind: int
    xywh: tuple[float, float, float, float]
    crowd: bool


@dataclass(frozen=True)
class Picture:
    """An image: path below its split's folder, upright width and height in pixels."""

    path: str
    size: tuple[int, int]
    orientation: int
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Labelled:
    """A dataset: split, or ``""``, -> its images. ``layout`` picks among the usual places."""

    kind: str
    names: tuple[str, ...]
    splits: dict[str, tuple[Picture, ...]]
    layout: int

    def write(self, folder: Path) -> None:
        """Write images and labels into a new folder."""
        folder.mkdir(parents=True)
        {"coco": _write_coco, "yolo": _write_yolo, "voc": _write_voc}[self.kind](self, folder)


def _alike(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


@st.composite
def labelled(draw: st.DrawFn, kind: str) -> Labelled:
    """A sound dataset of a format, with an object at least."""
    words = st.one_of(_NAMES, _YAML_WORDS).filter(lambda n: n == n.strip() and _alike(n))
    names = draw(st.lists(words, min_size=1, max_size=4, unique_by=_alike))
    several = draw(st.booleans())
    splits = ("train", "val") if several or kind == "yolo" else ("",)
    number = 0
    found: dict[str, tuple[Picture, ...]] = {}
    for split in splits:
        pictures = []
        for _ in range(draw(st.integers(1, 3))):
            number += 1
            pictures.append(_picture(draw, kind, len(names), number, need=not pictures))
        found[split] = tuple(pictures)
    return Labelled(kind, tuple(names), found, draw(st.integers(0, 2)))


def _picture(draw: st.DrawFn, kind: str, classes: int, number: int, *, need: bool) -> Picture:
    suffix = draw(st.sampled_from(sorted(ENCODINGS)))
    stem = draw(_STEMS).strip(" .") or "x"
    home = "sub dir/" if kind != "voc" and draw(st.booleans()) else ""
    size = (draw(st.integers(*SIDES_PX)), draw(st.integers(*SIDES_PX)))
    turned = draw(st.integers(1, 8)) if ENCODINGS[suffix] == "JPEG" else 1
    things: dict[Any, Thing] = {}
    for _ in range(draw(st.integers(int(need), 4))):
        left, width = _side(draw, size[0])
        top, height = _side(draw, size[1])
        thing = Thing(
            draw(st.integers(0, classes - 1)),
            (left, top, width, height),
            kind != "yolo" and draw(st.integers(0, 4)) == 0,
        )
        things[thing.kind, thing.xywh] = thing
    return Picture(f"{home}{stem}{number}{suffix}", size, turned, tuple(things.values()))


def _side(draw: st.DrawFn, length: int) -> tuple[float, float]:
    """Begin and length of a box's side within an image's."""
    extent = draw(st.floats(LEAST_BOX_PX, length, allow_subnormal=False))
    return round(draw(st.floats(0, length - extent, allow_subnormal=False)), 6), round(extent, 6)


def _write_image(path: Path, picture: Picture, seed: int) -> None:
    width, height = picture.size if picture.orientation < 5 else picture.size[::-1]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    exif = Image.Exif()
    exif[_ORIENTATION] = picture.orientation
    options = {"exif": exif} if picture.orientation != 1 else {}
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, ENCODINGS[path.suffix], **options)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.getvalue())


def _write_coco(dataset: Labelled, folder: Path) -> None:
    seed = 0
    for split, pictures in dataset.splits.items():
        if not split:
            labels, images = folder / "instances.json", folder / "images"
        else:
            labels, images = (
                (folder / f"annotations/instances_{split}.json", folder / "images" / split),
                (folder / f"annotations/instances_{split}2017.json", folder / f"{split}2017"),
                (folder / split / "_annotations.coco.json", folder / split),
            )[dataset.layout]
        document: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 7 * n + 3, "name": name} for n, name in enumerate(dataset.names)],
        }
        for picture in pictures:
            seed += 1
            _write_image(images / picture.path, picture, seed)
            row = dict(zip(("width", "height"), picture.size, strict=True))
            document["images"].append({"id": seed * 11, "file_name": picture.path, **row})
            for thing in picture.things:
                document["annotations"].append(
                    {
                        "id": len(document["annotations"]) + 1,
                        "image_id": seed * 11,
                        "category_id": 7 * thing.kind + 3,
                        "bbox": thing.xywh,
                        "area": thing.xywh[2] * thing.xywh[3],
                        "iscrowd": int(thing.crowd),
                    }
                )
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text(json.dumps(document))


def _write_yolo(dataset: Labelled, folder: Path) -> None:
    seed = 0
    for split, pictures in dataset.splits.items():
        for picture in pictures:
            seed += 1
            _write_image(folder / "images" / split / picture.path, picture, seed)
            file = (folder / "labels" / split / picture.path).with_suffix(".txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            width, height = picture.size
            rows = [
                f"{t.kind} {(t.xywh[0] + t.xywh[2] / 2) / width!r} "
                f"{(t.xywh[1] + t.xywh[3] / 2) / height!r} {t.xywh[2] / width!r} "
                f"{t.xywh[3] / height!r}\n"
                for t in picture.things
            ]
            if rows or dataset.layout:  # an image without objects needs no file
                file.write_text("".join(rows))
    # JSON is YAML; exporters write a list, numbers or numbers in quotes.
    names: Any = list(dataset.names)
    if dataset.layout:
        names = {str(n) if dataset.layout == 2 else n: name for n, name in enumerate(dataset.names)}
    shown = (
        ", ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in names.items())
        if (isinstance(names, dict))
        else ""
    )
    text = "".join(f"{split}: images/{split}\n" for split in dataset.splits)
    text += f"nc: {len(dataset.names)}\n"
    text += f"names: {{{shown}}}\n" if shown else f"names: {json.dumps(names)}\n"
    (folder / "data.yaml").write_text(text)


def _write_voc(dataset: Labelled, folder: Path) -> None:
    seed = 0
    for split, pictures in dataset.splits.items():
        for picture in pictures:
            seed += 1
            _write_image(folder / "JPEGImages" / picture.path, picture, seed)
            objects = "".join(
                f"<object><name>{escape(dataset.names[t.kind])}</name>"
                f"<difficult>{int(t.crowd)}</difficult><bndbox>"
                f"<xmin>{t.xywh[0] + 1!r}</xmin><ymin>{t.xywh[1] + 1!r}</ymin>"
                f"<xmax>{t.xywh[0] + t.xywh[2]!r}</xmax><ymax>{t.xywh[1] + t.xywh[3]!r}</ymax>"
                "</bndbox></object>"
                for t in picture.things
            )
            file = (folder / "Annotations" / picture.path).with_suffix(".xml")
            file.parent.mkdir(exist_ok=True)
            width, height = picture.size
            name = f"<filename>{escape(picture.path)}</filename>" if dataset.layout else ""
            file.write_text(
                f"<annotation>{name}<size><width>{width}</width><height>{height}</height>"
                f"<depth>3</depth></size>{objects}</annotation>"
            )
        if split:
            lists = folder / "ImageSets" / "Main"
            lists.mkdir(parents=True, exist_ok=True)
            stems = "".join(f"{Path(picture.path).stem}\n" for picture in pictures)
            (lists / f"{split}.txt").write_text(stems)


def _garbage(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([0, 255, 60, 123, 34]) + data[place:]


def _other_number(data: bytes, place: int) -> bytes:
    """A digit becomes what a number should not be."""
    digits = [n for n, byte in enumerate(data) if 48 <= byte <= 57] or [0]
    at = digits[place % len(digits)]
    value = (b"-1", b"NaN", b"null", b'"x"', b"1e999", b"99999999999999999999", b"")[place % 7]
    return data[:at] + value + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "empty": lambda data, place: b"",
    "cut": lambda data, place: data[:place],
    "garbage": _garbage,
    "twice": lambda data, place: data + data,
    "number": _other_number,
    "utf-16": lambda data, place: data.decode("latin-1").encode("utf-16"),
    "page": lambda data, place: b"<!DOCTYPE html><html>not found</html>",
}
REMOVALS = ("gone", "folder", "other-suffix", "other-name")


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[int, str, int]]:
    """Up to three damages: (number of the file, what is done to it, place)."""
    kinds = st.sampled_from([*DAMAGES, *REMOVALS])
    one = st.tuples(st.integers(0, 30), kinds, st.integers(0, 3000))
    return draw(st.lists(one, min_size=1, max_size=3))


def damage(folder: Path, chosen: list[tuple[int, str, int]]) -> None:
    """Damage files of a folder."""
    for number, what, place in chosen:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if not files:
            return
        file = files[number % len(files)]
        if what in DAMAGES:
            data = file.read_bytes()
            file.write_bytes(DAMAGES[what](data, place % (len(data) + 1)))
        elif what == "other-suffix":
            file.rename(file.with_suffix(".bak"))
        elif what == "other-name":
            file.rename(file.with_name(f"other{file.suffix}"))
        else:
            file.unlink()
            if what == "folder":
                file.mkdir()


def remove(folder: Path) -> None:
    """Remove what an example wrote."""
    shutil.rmtree(folder, ignore_errors=True)
