"""Properties of this CPU's INT8 arithmetic."""

from __future__ import annotations

import platform

from seatrial.system import hardware

_EXACT = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
_X86 = frozenset({"x86_64", "AMD64", "i686"})


def is_x86() -> bool:
    """Whether this is an x86 CPU, whose INT8 instructions want unsigned activations."""
    return platform.machine() in _X86


def saturates() -> bool:
    """Whether sums of two INT8 products overflow 16 bits here.

    AVX2 and AVX-512 without VNNI add pairs of products in 16 bits: weights are then given 7 bits.
    Source: NNCF's "overflow fix"; ONNX Runtime's ``reduce_range``.
    """
    return is_x86() and not _EXACT & {*hardware.cpu().features}
