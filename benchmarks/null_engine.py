"""Everything but the model: HTTP + decode + JSON for a 112 KB JPEG, the engine computing nothing.

python benchmarks/null_engine.py [--rounds 5] [--seconds 5]
"""

from __future__ import annotations

import argparse
import statistics

import measure

from seatrial.deployment import Deployment

SIZE_BYTES = 112_000


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact()
    vga = measure.encoded(64, only_hw=(480, 640))
    picture = min(vga, key=lambda data: abs(len(data) - SIZE_BYTES))
    rates, latencies = [], []
    with measure.served(artifact, Deployment("model", engine="null")) as service:
        to, requests = measure.jpeg_bodies(service.url, [picture])
        for _ in range(options.rounds):
            rates.append(measure.throughput(measure.load(to, requests, 8, options.seconds)))
            latencies.append(measure.p50_ms(measure.load(to, requests, 1, options.seconds)))
    measure.save(
        "null_engine",
        {
            "picture_bytes": len(picture),
            "served_per_s": statistics.median(rates),
            "single_stream_p50_ms": statistics.median(latencies),
            "rounds": {"served_per_s": measure.rounded(rates, 1)},
        },
    )


if __name__ == "__main__":
    main()
