"""What a comparison of a child with its parent found, and what it may find at most."""

from __future__ import annotations

from typing import Any

import msgspec

from seatrial.accuracy.compare import BoxAgreement
from seatrial.graphs.first_difference import FirstDifference

REPORT_FILE = "export.json"


class Tolerance(msgspec.Struct, frozen=True):
    """How far a child may be from its parent.

    Attributes:
        output: Largest error of an output, as a share of its largest value (at least 1); of
            outputs whose rows have no order, of 99 % of the rows. None: told, not judged.
        iou: Least mean IoU of matched boxes.
        shift: Largest mean size of a shift of confidence.
        unmatched: Largest share of the parent's boxes without a partner.
        ap: Largest difference in AP, either way.
    """

    output: float | None
    iou: float
    shift: float
    unmatched: float
    ap: float


TOLERANCES = {
    "f32": Tolerance(output=1e-3, iou=0.995, shift=0.002, unmatched=0.005, ap=0.002),
    "f16": Tolerance(output=None, iou=0.98, shift=0.01, unmatched=0.02, ap=0.005),
    "bf16": Tolerance(output=None, iou=0.95, shift=0.03, unmatched=0.05, ap=0.005),
    # Of one engine against another on the same quantised graph: steps that round the other way.
    "int8": Tolerance(output=None, iou=0.95, shift=0.03, unmatched=0.05, ap=0.005),
}
ROWS_WITHIN = 0.99
# What a restless parent can widen its tolerance to, see `ExportReport.restless`.
WIDEST = TOLERANCES["bf16"]


class OutputError(msgspec.Struct, frozen=True):
    """One output of the graph, over all pictures.

    Attributes:
        name: Of the output; several joined by ``+`` are compared row by row together.
        worst: Largest absolute difference.
        mean: Mean absolute difference.
        scale: Largest absolute value in the parent.
        within: Share of the rows (of values, where rows have a fixed order) inside the tolerance.
        ordered: Rows were compared place by place; else each with the nearest of the other's.
    """

    name: str
    worst: float
    mean: float
    scale: float
    within: float
    ordered: bool


class Accuracy(msgspec.Struct, frozen=True):
    """COCO AP of both on labelled pictures.

    Attributes:
        images: Pictures.
        parent: AP of the parent.
        child: AP of the child.
        difference: Child less parent.
        low: Lower end of the interval of the difference: 95 %, paired bootstrap over pictures.
        high: Upper end.
    """

    images: int
    parent: float
    child: float
    difference: float
    low: float
    high: float


class TensorRtTrial(msgspec.Struct, frozen=True):
    """Whether TensorRT takes the graph: parsed, and an engine built, without a GPU.

    Attributes:
        tried_in: Whose parser and builder, with version.
        problems: What is refused; empty for a graph that is ready for TensorRT.
    """

    tried_in: str
    problems: tuple[str, ...]


class Subject(msgspec.Struct, frozen=True):
    """Who was compared: artifact, engine and the precision that it computed in."""

    artifact: str
    digest: str
    engine: str
    precision: str
    version: str = ""


class ExportReport(msgspec.Struct, frozen=True):
    """An export, as it was judged.

    Attributes:
        options: What was asked for.
        parent: The reference.
        child: The export.
        tolerance: What was allowed.
        images: Pictures that both were run on.
        outputs: Raw outputs; empty where postprocessing was put into the graph.
        batch: Outputs of several pictures at once against the same one by one.
        boxes: Detections.
        accuracy: Where labels were given.
        restless: The parent against itself, every pixel moved by two grey levels at most: what is
            no more than this is no fault of a child that computes in less than float32. Looked at
            where boxes were out of tolerance, which was then widened, to `WIDEST` at most.
        failures: Every tolerance that was missed, in words; empty for an export that holds.
        blame: Where the graphs part, for one that does not.
        tensorrt: Of an ONNX graph, where TensorRT-RTX is installed. Told, not judged.
    """

    options: dict[str, Any]
    parent: Subject
    child: Subject
    tolerance: Tolerance
    images: int
    outputs: tuple[OutputError, ...]
    batch: tuple[OutputError, ...]
    boxes: BoxAgreement
    accuracy: Accuracy | None
    failures: tuple[str, ...]
    blame: FirstDifference | None = None
    tensorrt: TensorRtTrial | None = None
    restless: BoxAgreement | None = None

    def metrics(self) -> dict[str, float]:
        """For the manifest: what was measured on the artifact itself."""
        found = {f"output_error.{one.name}": one.worst for one in self.outputs}
        for name in ("iou_mean", "shift_mean", "shift_mean_abs", "shift_most"):
            value = getattr(self.boxes, name)
            if value is not None:
                found[f"boxes.{name}"] = value
        found["boxes.matched"] = self.boxes.matched
        found["boxes.parent"] = self.boxes.parent
        if self.accuracy is not None:
            found["coco_ap"] = self.accuracy.child
            found["coco_ap.parent"] = self.accuracy.parent
        return {name: round(float(value), 6) for name, value in found.items()}
