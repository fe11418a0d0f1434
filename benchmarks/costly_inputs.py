"""Look for image files that cost most to decode: CPU seconds and peak bytes.

python benchmarks/costly_inputs.py [--inputs 1000] [--seconds 600] [--pixels 4000000] [--seed 0]

The time of a file is a sum over its pixels, blocks, scans and bytes, so many small files tell as
much about it as a few large ones: at ``--pixels 32768`` a million inputs take half an hour of one
core. What a file costs once, whatever its size, weighs more there. Memory is measured from
1 megapixel on: below that, the allocator keeps what is freed.

Inputs are structures made by hand (scans, components, sampling, tables, restarts, bit depths,
filters), ordinary files of all kinds, and mutations of both. Half of them are mutations of the
costliest so far, by time for each byte of the file, by time, by memory for each byte, and by how
far the time is beyond what `seatrial.detect.decode_cost` foretold. A file is among them by the
least of several times: other programs on the machine make single ones longer. Prints the worst as
JSON, and writes it to ``--report`` now and then, so that the search can be ended at any time.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from seatrial.detect.decode import decode
from seatrial.detect.decode_cost import DecodeCost
from seatrial.errors import SeatrialError
from seatrial.system.memory import keep_little_memory

KEPT = 24  # costliest files of each measure
LARGE_PIXELS = 1_000_000  # from which on memory is measured
SHORTEST_S = 0.003  # time below which a ratio says nothing, from there on
SHORTEST_SMALL_S = 0.0003  # the same for smaller images
TIMES = 3  # that a file is measured before it is among the costliest
REPORT_EVERY = 10_000  # inputs
PAGE_KIB = 1024
# Eight blocks of deflate with codes of their own and without content, 90 bits each.
EMPTY_BLOCKS = sum(0x6BFF90000000000081C004 << 90 * at for at in range(8)).to_bytes(90, "little")


@dataclass(frozen=True)
class Outcome:
    """What one file cost.

    Attributes:
        kind: How it was made.
        result: ``decoded``, or the name of the error.
        data: The file.
        cpu_s: CPU time.
        peak_bytes: Growth of the memory of the process at its peak; None where it is not measured.
        foretold: Cost by its headers; None where it was refused before.
    """

    kind: str
    result: str
    data: bytes
    cpu_s: float
    peak_bytes: int | None
    foretold: DecodeCost | None
    shortest_s: float = SHORTEST_S

    def scores(self) -> dict[str, float]:
        """The measures that the search maximises."""
        foretold_s = self.foretold.cpu_s if self.foretold else 0.0
        worth = self.cpu_s > self.shortest_s
        memory = {}
        if self.peak_bytes is not None:
            memory["peak_bytes_per_byte"] = self.peak_bytes / len(self.data)
        return {
            **memory,
            "cpu_s": self.cpu_s,
            "cpu_s_per_byte": self.cpu_s / len(self.data),
            "cpu_over_foretold": self.cpu_s / max(foretold_s, self.shortest_s) if worth else 0.0,
        }

    def row(self) -> dict[str, object]:
        """The figures, for JSON."""
        return {
            "kind": self.kind,
            "result": self.result,
            "bytes": len(self.data),
            "cpu_ms": round(1e3 * self.cpu_s, 2),
            "foretold_ms": round(1e3 * self.foretold.cpu_s, 2) if self.foretold else None,
            "peak_mib": None if self.peak_bytes is None else round(self.peak_bytes / 2**20, 1),
            "foretold_mib": round(self.foretold.peak_bytes / 2**20, 1) if self.foretold else None,
        }


def memory(field: str) -> int:
    """``VmHWM`` or ``VmRSS`` of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * PAGE_KIB
    return 0


def measured(kind: str, data: bytes, max_pixels: int) -> Outcome:
    """Decode a file as a service does."""
    foretold: list[DecodeCost] = []
    is_large, before, result = max_pixels >= LARGE_PIXELS, 0, "decoded"
    if is_large:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = memory("VmRSS")
    begun = time.thread_time()
    try:
        decode(data, max_pixels=max_pixels, on_cost=foretold.append)
    except SeatrialError as error:
        result = type(error).__name__
    cpu_s = time.thread_time() - begun
    peak = max(0, memory("VmHWM") - before) if is_large else None
    shortest_s = SHORTEST_S if is_large else SHORTEST_SMALL_S
    cost = foretold[0] if foretold else None
    return Outcome(kind, result, data, cpu_s, peak, cost, shortest_s)


def least(outcome: Outcome, max_pixels: int) -> Outcome:
    """The outcome with the least time, and the least memory, of `TIMES` measurements."""
    again = [measured(outcome.kind, outcome.data, max_pixels) for _ in range(TIMES - 1)]
    peaks = [one.peak_bytes for one in (outcome, *again) if one.peak_bytes is not None]
    return replace(
        outcome,
        cpu_s=min(one.cpu_s for one in (outcome, *again)),
        peak_bytes=min(peaks, default=None),
    )


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def huffman(chance: random.Random, kind: int) -> bytes:
    """A table of one code of each length from 1 bit on."""
    known = (*range(12),) if kind == 0 else (0, 1, 0x11, 0xF0, 0xE0, 0x71, 0x02, 0x0A, 0x1A, 0xF1)
    symbols = chance.sample(known, chance.randint(1, 10))
    lengths = bytes([1] * len(symbols) + [0] * (16 - len(symbols)))
    return segment(0xC4, bytes([kind << 4]) + lengths + bytes(symbols))


def filling(chance: random.Random, length: int) -> bytes:
    """Bytes of a scan: one value, a pattern, or noise, without markers."""
    if chance.random() < 0.3:
        return chance.randbytes(length).replace(b"\xff", b"\xfe")
    pattern = chance.randbytes(chance.choice((1, 1, 2, 3, 7))).replace(b"\xff", b"\x7f")
    pattern = chance.choice((b"\0", b"\xaa", b"\x55", pattern))
    return (pattern * (length // len(pattern) + 1))[:length]


def sides(chance: random.Random, max_pixels: int) -> tuple[int, int]:
    """Width and height of no more pixels than are let in, mostly near that."""
    pixels = max_pixels if chance.random() < 0.5 else max(1, int(max_pixels * chance.random() ** 3))
    width = min(32_000, max(1, int(pixels ** chance.choice((0.5, 0.5, 0.4, 0.6, 0.75)))))
    return width, max(1, min(32_000, pixels // width))


def made_jpeg(chance: random.Random, max_pixels: int) -> bytes:
    """A JPEG of a random script of scans, with random tables and data."""
    width, height = sides(chance, max_pixels)
    count = chance.choice((1, 1, 3, 3, 4))
    parts = [(1, 1)] * count
    if chance.random() < 0.1:
        parts = [(chance.randint(1, 4), chance.randint(1, 4)) for _ in parts]
    elif chance.random() < 0.5:
        parts = [chance.choice(((1, 1), (2, 2), (2, 1), (1, 2), (4, 1), (4, 2))), *parts[1:]]
    marker = chance.choice((0xC0, 0xC1, 0xC2, 0xC2, 0xC2, 0xC2, 0xC9, 0xCA, 0xC3))
    out = b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64)
    out += huffman(chance, 0) + huffman(chance, 1)
    if chance.random() < 0.3:
        out += segment(0xDD, struct.pack(">H", chance.choice((1, 2, 100))))
    frame = struct.pack(">BHHB", chance.choice((8,) * 9 + (12,)), height, width, count)
    frame += b"".join(
        bytes([number + 1, across << 4 | down, 0]) for number, (across, down) in enumerate(parts)
    )
    out += segment(marker, frame)
    blocks = width * height // 64 + 1

    def scan(names: Sequence[int], first: int, last: int, high: int, low: int) -> bytes:
        head = bytes([len(names), *(byte for name in names for byte in (name, 0))])
        head += bytes([first, last, high << 4 | low])
        some = chance.choice((0, 0, 0.02, 0.1, 0.25, 0.5, 1, 3, 8))
        table = huffman(chance, int(first > 0)) if chance.random() < 0.3 else b""
        return table + segment(0xDA, head) + filling(chance, int(blocks * some) + 1)

    names = list(range(1, count + 1))
    if marker not in (0xC2, 0xCA):
        groups = [names] if chance.random() < 0.7 else [[name] for name in names]
        return out + b"".join(scan(group, 0, 63, 0, 0) for group in groups) + b"\xff\xd9"
    low = chance.randint(0, 10)
    out += scan(names, 0, 0, 0, low)
    for name in names if chance.random() < 0.5 else names[:1]:
        out += scan([name], 1, 63, 0, low) if chance.random() < 0.8 else b""
        for step in range(low, 0, -1):
            out += scan([name], 1, 63, step, step - 1)
    for step in range(low if chance.random() < 0.3 else 0, 0, -1):
        out += scan(names, 0, 0, step, step - 1)
    return out + b"\xff\xd9"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def made_png(chance: random.Random, max_pixels: int) -> bytes:
    """A PNG of any depth and colour; rows of one filter, of a pattern or noise; some lack rows.

    In some the stream has blocks that hold nothing, as many as are let in.
    """
    width, height = sides(chance, max_pixels)
    colour, depth = chance.choice(
        ((0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 8), (4, 8), (4, 16), (6, 8), (6, 16))
    )
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes([chance.randrange(5)]) + filling(chance, (width * depth * channels + 7) // 8)
    rows = height if chance.random() < 0.8 else chance.randrange(height)
    packer = zlib.compressobj(chance.choice((1, 6)), wbits=15, strategy=chance.choice((0, 2, 3)))
    image = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    if chance.random() < 0.1:
        nothing = chance.choice((EMPTY_BLOCKS, b"\0\0\0\xff\xff"))
        room = max(0, height * len(row) - len(image))
        image = image[:2] + nothing * (room // len(nothing)) + image[2:]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, chance.random() < 0.2)
    extra = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    extra += chunk(b"tRNS", bytes(9)) if colour == 3 and chance.random() < 0.5 else b""
    if chance.random() < 0.2:
        packed = b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(chance.choice((9, 10**6))))
        extra += chunk(b"zTXt", packed) * chance.choice((1, 1, 500))
    pieces = (
        [image]
        if chance.random() < 0.8
        else [image[i : i + 900] for i in range(0, len(image), 900)]
    )
    body = b"".join(chunk(b"IDAT", piece) for piece in pieces)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + body + chunk(b"IEND", b"")


def ordinary(chance: random.Random, max_pixels: int) -> bytes:
    """A file as encoders write it, of a picture between flat and noise."""
    width, height = sides(chance, max_pixels // 4)
    width, height = min(width, 16_000), min(height, 16_000)
    grain = chance.choice((1, 2, 8, 64))
    small = (max(1, height // grain), max(1, width // grain), 3)
    noise = np.random.default_rng(chance.randrange(2**32)).integers(0, 256, small, np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR)
    kind, buffer = chance.choice(("JPEG", "PNG", "WEBP", "WEBP")), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = chance.randint(1, 8)
    if kind == "JPEG":
        picture.convert(chance.choice(("RGB", "L", "CMYK"))).save(
            buffer, kind, quality=chance.choice((10, 75, 95)), subsampling=chance.randrange(3),
            progressive=chance.random() < 0.5, exif=exif,
        )  # fmt: skip
    elif kind == "PNG":
        picture.convert(chance.choice(("RGB", "L", "RGBA", "P", "1", "LA"))).save(
            buffer, kind, compress_level=1, exif=exif
        )
    else:
        if chance.random() < 0.5:
            picture.putalpha(picture.convert("L"))
        picture.save(
            buffer, kind, quality=chance.choice((0, 50, 80)), method=chance.choice((0, 0, 4)),
            lossless=chance.random() < 0.5, exif=exif,
        )  # fmt: skip
    return buffer.getvalue()


def mutated(chance: random.Random, data: bytes) -> bytes:
    """The same with a few bytes changed, most of them in the headers, or a part twice or gone."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        most = len(out) if chance.random() < 0.5 else min(len(out), 700)
        place, length = chance.randrange(most), chance.choice((1, 2, 4, 30, 1000))
        how = chance.random()
        if how < 0.6:
            out[place] = chance.choice((0, 1, 0x7F, 0xFE, chance.randrange(256)))
        elif how < 0.8:
            out[place:place] = out[place : place + length]
        elif len(out) > length + 40:
            del out[place : place + length]
    if out[:4] == b"\x89PNG" and len(out) > 33:  # else the checksum alone refuses it
        out[29:33] = struct.pack(">I", zlib.crc32(out[12:29]))
    return bytes(out)


MAKERS: dict[str, Callable[[random.Random, int], bytes]] = {
    "made_jpeg": made_jpeg, "made_png": made_png, "ordinary": ordinary,
}  # fmt: skip


Found = tuple[Counter[str], dict[str, list[Outcome]]]


def search(
    inputs: int,
    max_pixels: int,
    seed: int,
    until: float,
    on_found: Callable[[Found], object] = lambda found: None,
) -> Found:
    """Decode so many inputs, or until a time.

    Args:
        inputs: Number of inputs.
        max_pixels: Largest image.
        seed: Seed of all that is random.
        until: Moment by `time.monotonic` at which the search ends.
        on_found: Called with the result so far after each `REPORT_EVERY` inputs.

    Returns:
        Number of inputs by result; and of each measure the costliest, the worst first.
    """
    keep_little_memory()  # as a service does; memory that is kept would not be seen
    chance = random.Random(seed)
    results: Counter[str] = Counter()
    worst: dict[str, list[Outcome]] = {}
    for make in MAKERS.values():  # the first of each format imports its codec
        for first in range(20):
            measured("first", make(random.Random(first), 1000), max_pixels)
    for number in range(inputs):
        if time.monotonic() > until:
            break
        kind = list(MAKERS)[number % len(MAKERS)]
        if worst and chance.random() < 0.5:
            parent = chance.choice(worst[chance.choice(list(worst))])
            kind, data = (
                f"mutated {parent.kind.removeprefix('mutated ')}",
                mutated(chance, parent.data),
            )
        else:
            try:
                data = MAKERS[kind](chance, max_pixels)
            except (OSError, ValueError):  # Pillow's encoders cannot write some sizes
                continue
        outcome = measured(kind, data, max_pixels)
        results[outcome.result] += 1
        if results.total() % REPORT_EVERY == 0:
            on_found((results, worst))
        if _is_costly(outcome, worst):
            outcome = least(outcome, max_pixels)
            for name, score in outcome.scores().items():
                best = worst.setdefault(name, [])
                if len(best) < KEPT or score > best[-1].scores()[name]:
                    best.append(outcome)
                    best.sort(key=lambda one, name=name: -one.scores()[name])  # type: ignore[misc]
                    del best[KEPT:]
    return results, worst


def _is_costly(outcome: Outcome, worst: dict[str, list[Outcome]]) -> bool:
    """Whether a file is among the costliest by any measure."""
    for name, score in outcome.scores().items():
        best = worst.get(name, [])
        if len(best) < KEPT or score > best[-1].scores()[name]:
            return True
    return False


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--pixels", type=int, default=4_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the worst files")
    parser.add_argument("--report", type=Path, help="file for the result so far, JSON")
    asked = parser.parse_args()
    begun = time.monotonic()

    def report(found: Found) -> str:
        results, worst = found
        cost = {
            "pixels": asked.pixels,
            "inputs": results.total(),
            "seconds": round(time.monotonic() - begun),
            "cpu_seconds": round(time.process_time()),
            "results": dict(results),
            "worst": {name: [one.row() for one in best[:3]] for name, best in worst.items()},
        }
        return json.dumps(cost, indent=1)

    def write(found: Found) -> None:
        if asked.report:
            asked.report.write_text(report(found))
        if asked.keep:
            for name, best in found[1].items():
                asked.keep.joinpath(name).write_bytes(best[0].data)

    found = search(asked.inputs, asked.pixels, asked.seed, begun + asked.seconds, write)
    write(found)
    print(report(found))


if __name__ == "__main__":
    main()
