"""What docs/reference/http.md says of the cost of images: the tables, and figures of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from seatrial.detect.decode_cost import (
    CMYK_NS,
    NS_PER_PIXEL,
    PILLOW_HEAD_NS,
    PILLOW_NS,
    PROGRESSIVE_NS,
    SEQUENTIAL_NS,
    TURN_NS,
    WEBP_NS,
    Jpeg,
    _Frame,
    _jpeg_cost,
    webp_cost,
)
from seatrial.detect.png import (
    INTERLACED,
    NARROW_1_BIT_PX,
    NARROW_PX,
    PIXEL_BYTES,
    PNG_NS,
    png_cost,
)

PAGE = (Path(__file__).parents[2] / "docs/reference/http.md").read_text()
TEXT = " ".join(PAGE.split())
DEFAULT_DEADLINE_S = 1.0
MB = 1_000_000
# libjpeg's own scans of a progressive JPEG: of Y, and of each of the two colours.
WALKS_OF_Y, WALKS_OF_A_COLOUR = 6, 4


def rows() -> dict[str, str]:
    """First cell of each row of the table of times -> the second."""
    _, table = PAGE.split("| format | counted |\n|---|---|\n")
    lines = table.partition("\n\n")[0].splitlines()
    return dict(line.strip("| ").split(" | ") for line in lines)


def jpeg(blocks: dict[int, float], side: tuple[int, int], *, progressive: bool) -> _Frame:
    """A frame; blocks of each component, as a share of its pixels / 64."""
    whole = side[0] * side[1] // 64
    return _Frame(
        *side,
        progressive,
        {name: round(whole * part) for name, part in blocks.items()},
        dict.fromkeys(blocks, (1, 1)),
    )


def photo_s(colour: float) -> float:
    """CPU time of the progressive photo that the page names, with colours of so many blocks."""
    frame = jpeg({1: 1, 2: colour, 3: colour}, (6000, 4000), progressive=True)
    y, *colours = frame.blocks.values()
    walked = WALKS_OF_Y * y + WALKS_OF_A_COLOUR * sum(colours)
    return _jpeg_cost(frame, walked, 12 * MB, turned=True, stored=True).cpu_s


def png_s(size: int, *, depth: int, colour: int, file_bytes: int = 100) -> float:
    """CPU time of a PNG of so many megapixels."""
    sides = (size * 1000).to_bytes(4, "big") + (1000).to_bytes(4, "big")
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + sides + bytes([depth, colour, 0, 0, 0]) + bytes(4)
    rest_bytes = file_bytes - len(head)
    return png_cost(
        head + (rest_bytes - 12).to_bytes(4, "big") + b"IDAT" + bytes(rest_bytes - 8)
    ).cpu_s


def webp_s(size: int) -> float:
    sides = (size * 1000 - 1).to_bytes(3, "little") + (999).to_bytes(3, "little")
    return webp_cost(b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + sides).cpu_s


def test_the_rates_are_those_of_the_code() -> None:
    found = rows()
    block, byte, output = SEQUENTIAL_NS.values()
    assert found["JPEG, not progressive"].startswith(f"{block} for each block of 8 x 8")
    assert f" {byte} for each coded byte, {output} for" in found["JPEG, not progressive"]
    assert found["JPEG, progressive"] == ", ".join(map(str, PROGRESSIVE_NS.values()))
    cmyk = found["CMYK; turned by its orientation"]
    assert cmyk == f"{CMYK_NS} more for each pixel; {TURN_NS} more"
    by_pillow = next(said for name, said in found.items() if name.endswith("which Pillow reads"))
    assert by_pillow == (
        f"{PILLOW_HEAD_NS} more for each byte before the first scan, {PILLOW_NS / 1e6} ms more for "
        "a file"
    )
    raw, byte, pixel, any_byte, chunk, pixel_chunk, packed_xmp, xmp_byte = PNG_NS.values()
    assert found["PNG"] == (
        f"{raw} for each inflated byte, {pixel} for each pixel, {byte} for each byte that is "
        f"inflated; the first two {INTERLACED} times where it is interlaced; all of it twice where "
        f"it is less than {NARROW_PX} pixels wide, {NARROW_1_BIT_PX} of one bit. {any_byte} for "
        f"each byte of the file, {chunk} for each chunk, {pixel_chunk} more for one with pixels; "
        f"{packed_xmp / 1e6} ms, and {xmp_byte} for each byte, of a packed packet of XMP"
    )
    pixel, byte = WEBP_NS.values()
    assert found["WebP"] == f"{pixel} for each pixel, {byte} for each byte of the file"
    assert f"{NS_PER_PIXEL} ns of CPU time for each pixel" in TEXT


def test_the_memory_is_that_of_the_code() -> None:
    def held(blocks: dict[int, float], *, stored: bool, turned: bool = False) -> int:
        frame = jpeg(blocks, (800, 800), progressive=False)
        found = _jpeg_cost(frame, 1, 1, turned=turned, stored=stored).peak_bytes / 800**2
        assert found == int(found)
        return int(found)

    full, reduced = {1: 1.0, 2: 1.0, 3: 1.0}, {1: 1.0, 2: 0.25, 3: 0.25}
    cmyk = dict.fromkeys(range(4), 1.0)
    once = held(full, stored=False)
    more = [held(one, stored=True) - once for one in (reduced, full)]
    assert (
        f"| JPEG | {once}; progressive or of several scans: {more[0]} more at 4:2:0, {more[1]} more"
    ).removesuffix(" more") in TEXT
    one, several = (held(cmyk, stored=stored) for stored in (False, True))
    assert f"| CMYK JPEG | {one}; progressive or of several scans: {several} |" in TEXT
    turned = held(full, stored=False, turned=True) - once
    assert f"A JPEG that is turned takes {turned} more." in TEXT
    assert f"| PNG | {PIXEL_BYTES}; and a copy of its pixels" in TEXT


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("counts {:.2f} s at full colour resolution", photo_s(1)),
        ("{:.2f} s at the usual 4:2:0", photo_s(0.25)),
        (
            "a CMYK JPEG of 10 megapixels and 8 MB counts {:.2f} s",
            _jpeg_cost(
                jpeg(dict.fromkeys(range(4), 1.0), (4000, 2500), progressive=False),
                4 * 4000 * 2500 // 64, 8 * MB, turned=False, stored=False,
            ).cpu_s,
        ),
        ("one with alpha counts {:.2f} s and", png_s(24, depth=8, colour=6)),
        ("and {:.3g} s for each MB", (PNG_NS["byte"] + PNG_NS["any_byte"]) * MB / 1e9),
        (
            "a WebP of that size count {:.2f} s at least",
            min(png_s(25, depth=8, colour=6), webp_s(25)),
        ),
    ],
)  # fmt: skip
def test_the_figures_of_files_follow_from_the_rates(words: str, seconds: float) -> None:
    assert words.format(seconds) in TEXT


def test_which_files_are_over_a_limit() -> None:
    """The default of `limits.image_pixels`, and of the deadline."""
    limit_s = NS_PER_PIXEL * 25e6 / 1e9
    assert DEFAULT_DEADLINE_S < photo_s(1) < limit_s
    assert photo_s(0.25) < DEFAULT_DEADLINE_S
    assert png_s(24, depth=16, colour=2) > limit_s
    assert DEFAULT_DEADLINE_S < png_s(24, depth=8, colour=6) < limit_s
    assert png_s(24, depth=8, colour=6, file_bytes=5 * MB) < limit_s
    assert png_s(24, depth=8, colour=6, file_bytes=6 * MB) > limit_s
    for least_s in (png_s(25, depth=8, colour=6), webp_s(25)):
        assert DEFAULT_DEADLINE_S < least_s <= limit_s
    assert "needs a longer deadline than the default of 1 s in any case" in TEXT


def test_the_head_that_pillow_reads_counts() -> None:
    frame = jpeg({1: 1.0}, (80, 80), progressive=False)
    cost = _jpeg_cost(frame, 100, 0, turned=False, stored=False)
    read = Jpeg(1, cost, head_bytes=1000).cost_by_pillow
    assert read.cpu_s - cost.cpu_s == pytest.approx((PILLOW_NS + PILLOW_HEAD_NS * 1000) / 1e9)
