"""JPEGs of any sampling and any scans, which encoders do not write: blocks of one grey each."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

Sampling = Sequence[tuple[int, int]]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def jpeg_by_hand(
    sampling: Sampling,
    size: tuple[int, int] = (100, 70),
    *,
    scans: Sequence[Sequence[int]] | None = None,
    bits: int = 8,
) -> bytes:
    """A baseline JPEG with random means of its blocks.

    Args:
        sampling: Across and down, of each component.
        size: (width, height), pixels.
        scans: Indices of the components of each scan; default: one scan of all.
        bits: Bits of a colour that the frame says.
    """
    width, height = size
    across, down = (max(side[axis] for side in sampling) for axis in (0, 1))
    units = math.ceil(width / (8 * across)) * math.ceil(height / (8 * down))
    frame = struct.pack(">BHHB", bits, height, width, len(sampling))
    frame += b"".join(bytes([n, x << 4 | y, 0]) for n, (x, y) in enumerate(sampling))
    # Means: 12 sizes, codes of 4 bits. Other coefficients: one code of 1 bit, the end of a block.
    means = segment(0xC4, b"\0" + bytes([0, 0, 0, 12, *[0] * 12]) + bytes(range(12)))
    others = segment(0xC4, b"\x10" + bytes([1, *[0] * 15]) + b"\0")
    data = b"\xff\xd8" + segment(0xDB, b"\0" + b"\x08" * 64) + segment(0xC0, frame) + means + others
    chance = np.random.default_rng(len(sampling))
    for names in [range(len(sampling))] if scans is None else scans:
        head = bytes([len(names), *(byte for name in names for byte in (name, 0)), 0, 63, 0])
        blocks = [name for name in names for _ in range(math.prod(sampling[name]))]
        data += segment(0xDA, head) + _coded(blocks * units, chance)
    return data + b"\xff\xd9"


def _coded(components: Sequence[int], chance: np.random.Generator) -> bytes:
    last = dict.fromkeys(components, 0)
    bits = ""
    for name in components:
        value = int(chance.integers(-100, 100))
        step, last[name] = value - last[name], value
        length = abs(step).bit_length()
        bits += f"{length:04b}"
        bits += f"{step if step > 0 else step + (1 << length) - 1:0{length}b}" if length else ""
        bits += "0"
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
