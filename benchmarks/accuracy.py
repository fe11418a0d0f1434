"""mAP through the served path: the artifact, engine and code that answer requests.

python benchmarks/accuracy.py [--precision f32] [--engine openvino]
"""

from __future__ import annotations

import argparse
import contextlib

import measure
import msgspec

from seatrial.accuracy.evaluate import evaluate
from seatrial.accuracy.service import RemoteDetector
from seatrial.datasets.read import read_labelled
from seatrial.deployment import Deployment


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--engine", default="openvino")
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact()
    labels = measure.SHARED / "data" / "coco-val" / "instances.json"
    dataset = read_labelled(f"coco:{measure.IMAGES}", labels)
    deployment = Deployment("model", engine=options.engine, precision=options.precision)
    with (
        measure.served(artifact, deployment) as process,
        contextlib.closing(RemoteDetector(process.url)) as service,
    ):
        service.check(artifact)
        report = evaluate(service, dataset).report
    measure.save(
        f"accuracy_{options.engine}_{options.precision}",
        {
            "images": report.images,
            "objects": report.objects,
            **msgspec.to_builtins(report.scores.figures),
        },
    )


if __name__ == "__main__":
    main()
