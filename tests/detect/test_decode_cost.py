"""What an image costs, by its headers: the product of pixels and scans, and each format's rate."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from seatrial.detect.decode import decode, decoded_size
from seatrial.detect.decode_cost import NS_PER_PIXEL, DecodeCost, read_jpeg, webp_cost
from seatrial.detect.png import png_cost
from seatrial.errors import InvalidImage, UnsupportedImage

PIXELS = 25_000_000  # the default of limits.image_pixels
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def costly() -> ModuleType:
    """The search for costly files."""
    path = ROOT / "benchmarks" / "costly_inputs.py"
    spec = importlib.util.spec_from_file_location("costly_inputs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["costly_inputs"] = module
    spec.loader.exec_module(module)
    return module


def resized(data: bytes, width: int, height: int) -> bytes:
    """A JPEG that claims another size: its blocks are there, as far as its bytes go."""
    frame = next(data.index(marker) for marker in (b"\xff\xc2", b"\xff\xc0") if marker in data)
    sides = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return data[: frame + 5] + sides + data[frame + 9 :]


def jpeg(mode: str = "RGB", **options: object) -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def with_scans(data: bytes, scans: int) -> bytes:
    """The same with its first scan, of all components, so often that there are so many."""
    begin = data.index(b"\xff\xda")
    last = data[begin : data.index(b"\xff\xc4", begin)]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for decoder in ("simplejpeg.decode_jpeg", "PIL.Image.open"):
        monkeypatch.setattr(decoder, lambda *args, **options: pytest.fail("it is decoded"))


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "RGB"},
        {"mode": "RGB", "subsampling": 0},
        {"mode": "CMYK"},
        {"mode": "CMYK", "subsampling": 2},  # read by Pillow
    ],
)
def test_pixels_times_scans_are_bounded(options: dict[str, object]) -> None:
    """Neither 24 million pixels nor 32 scans are too many; both at once are."""
    data = resized(with_scans(jpeg(**options, progressive=True), 32), 6000, 4000)
    for read in (decode, decoded_size):
        with pytest.raises(InvalidImage, match="ms to decode, over the limit of 1250 ms") as error:
            read(data, max_pixels=PIXELS)
        assert error.value.http_status == 422


def test_as_many_scans_of_fewer_pixels_are_decoded() -> None:
    last_scan_of_grey = with_scans(jpeg("L", progressive=True), 32)
    assert read_jpeg(last_scan_of_grey).cost.cpu_s < 0.01
    read_jpeg(resized(last_scan_of_grey, 1200, 800)).cost.check(PIXELS)


@pytest.mark.parametrize(
    ("options", "coded"),
    [
        ({"progressive": True}, 12_000_000),
        ({"progressive": True, "subsampling": 0}, 12_000_000),
        ({"progressive": False, "subsampling": 0}, 16_700_000),
        ({"mode": "L", "progressive": True}, 12_000_000),
    ],
)
def test_a_photo_of_24_megapixels_is_no_matter(options: dict[str, object], coded: int) -> None:
    data = resized(jpeg(**options), 6000, 4000)
    read_jpeg(data[:-2] + bytes(coded) + data[-2:]).cost.check(PIXELS)


def test_cmyk_of_10_megapixels_is_no_matter() -> None:
    for progressive in (False, True):
        data = resized(jpeg("CMYK", progressive=progressive), 3872, 2592)
        read_jpeg(data[:-2] + bytes(6_000_000) + data[-2:]).cost.check(PIXELS)


def test_sampling_counts_blocks_and_not_pixels() -> None:
    """A component of the 16-fold sampling of the others has as many blocks of them."""
    plain = jpeg(subsampling=0, progressive=True)
    frame = plain.index(b"\xff\xc2")
    costs = []
    for sampling in (0x11, 0x44):
        data = bytearray(resized(plain, 1, 30_000))
        data[frame + 11] = sampling
        costs.append(read_jpeg(bytes(data)).cost.cpu_s)
    assert costs[1] > 1.3 * costs[0]


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCB])
def test_lossless_and_arithmetic_are_named_and_not_read(marker: int) -> None:
    """A few bytes of arithmetic code stand for any number of decisions."""
    data = jpeg().replace(b"\xff\xc0", bytes([0xFF, marker]))
    with pytest.raises(UnsupportedImage, match=f"frame FF{marker:02X}"):
        decode(data, max_pixels=PIXELS)


def test_a_second_frame_or_header_cannot_change_the_size() -> None:
    data = jpeg()
    frame = data.index(b"\xff\xc0")
    end = frame + 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
    with pytest.raises(InvalidImage, match="two frames"):
        decode(data[:end] + resized(data, 6000, 4000)[frame:end] + data[end:], max_pixels=PIXELS)
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    png = buffer.getvalue()
    for twice in (png[:33] + png[8:33] + png[33:], png[:8] + png[33:]):
        with pytest.raises(InvalidImage, match="does not begin with its header, or has two"):
            decode(twice, max_pixels=PIXELS)


def test_a_film_behind_a_photo_costs_nothing() -> None:
    data = jpeg()
    assert read_jpeg(data + bytes(10**7)).cost.cpu_s < 1e-3
    data = jpeg(progressive=True)
    assert read_jpeg(data + bytes(10**7)).cost == read_jpeg(data).cost


def test_what_stands_before_the_scan_counts_where_pillow_reads_it() -> None:
    """Pillow looks for the next marker byte by byte: two seconds for 16 MB."""
    data = jpeg("CMYK", subsampling=2)
    first = 4 + int.from_bytes(data[4:6], "big")
    padded = data[:first] + bytes(16_000_000) + data[first:]
    with pytest.raises(InvalidImage, match="ms to decode"):
        decode(padded, max_pixels=PIXELS)


def test_png_and_webp_cost_by_their_declared_size() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (5000, 4800)).save(buffer, "PNG", compress_level=1)
    png_cost(buffer.getvalue()).check(PIXELS)
    sixteen = bytearray(buffer.getvalue())
    sixteen[24:26] = 16, 6  # 64 bits a pixel
    with pytest.raises(InvalidImage, match="ms to decode"):
        png_cost(bytes(sixteen)).check(PIXELS)
    head = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + (7070).to_bytes(3, "little") * 2
    assert webp_cost(head).peak_bytes > 7071 * 7071 * 14
    with pytest.raises(InvalidImage):
        webp_cost(head).check(PIXELS)


def test_a_limit_of_few_pixels_still_lets_a_small_file_in() -> None:
    DecodeCost(0.04, 0).check(1)
    DecodeCost(0.9e-9 * NS_PER_PIXEL * PIXELS, 0).check(PIXELS)


NO_MEMORY = """
import io, resource
from PIL import Image
from seatrial.detect.decode import decode
from seatrial.errors import Overloaded

flat = Image.new("RGB", (2000, 2000), (9, 80, 200))
files = {}
for name, options in {
    "JPEG": {}, "progressive JPEG": {"progressive": True}, "CMYK JPEG": {"mode": "CMYK"},
    "reduced CMYK JPEG": {"mode": "CMYK", "subsampling": 2}, "PNG": {"compress_level": 1},
    "16-bit PNG": {"mode": "I;16", "compress_level": 1}, "WEBP": {"method": 0},
    "lossless WEBP": {"lossless": True, "method": 0},
}.items():
    mode = options.pop("mode", "RGB")
    image = Image.new(mode, flat.size) if mode == "I;16" else flat.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, name.split()[-1], **options)
    files[name] = buffer.getvalue()
    decode(files[name], max_pixels=10**7)
_, hard = resource.getrlimit(resource.RLIMIT_AS)
for left_mib in (1, 6, 14):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + left_mib * 2**20, hard))
    for name, data in files.items():
        try:
            print(left_mib, name, decode(data, max_pixels=10**7).shape)
        except Overloaded as error:
            print(left_mib, name, error.reason)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of the address space")
def test_no_memory_is_not_damage(tmp_path: Path) -> None:
    program = tmp_path / "no_memory.py"
    program.write_text(NO_MEMORY)
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 24
    assert all(line.endswith((" memory", "(2000, 2000, 3)")) for line in lines), lines
    assert sum(line.endswith(" memory") for line in lines) >= 6


@pytest.mark.slow
def test_a_search_finds_no_file_far_beyond_its_limit(costly: ModuleType) -> None:
    """Times of a thread, not of the clock; a busy machine makes them a little longer."""
    pixels = 1_000_000
    results, worst = costly.search(400, pixels, 0, time.monotonic() + 120)
    assert sum(results.values()) > 100
    assert results["decoded"] > 20
    assert set(results) <= {"decoded", "InvalidImage", "UnsupportedImage", "InputTooLarge"}
    assert worst["cpu_s"][0].cpu_s < 4e-9 * NS_PER_PIXEL * pixels
    largest = max(one.peak_bytes or 0 for best in worst.values() for one in best)
    assert largest < 24 * pixels + 2**23
