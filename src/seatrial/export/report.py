"""The report of an export, `export.json`: what was compared, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from seatrial.accuracy.bootstrap import Difference
from seatrial.accuracy.compare import Comparison
from seatrial.conditions import Conditions
from seatrial.config import UNDECODABLE
from seatrial.errors import InvalidArtifact
from seatrial.gate import Verdict
from seatrial.graphs.first_difference import FirstDifference

REPORT_FILE = "export.json"


class OutputError(msgspec.Struct, frozen=True, kw_only=True):
    """The error of one output of the graph, over all images.

    Attributes:
        name: Name of the output; several joined by ``+`` are compared row by row together.
        worst: Largest absolute difference.
        mean: Mean absolute difference.
        scale: Largest absolute value in the parent.
        within: Share of the rows (of values, where rows have a fixed order) inside the limit.
        ordered: Whether rows were compared place by place; else each with the nearest one of the
            other graph.
    """

    name: str
    worst: float
    mean: float
    scale: float
    within: float
    ordered: bool


class TensorRtTrial(msgspec.Struct, frozen=True):
    """Whether TensorRT takes the graph: parsed, and an engine built, without a GPU.

    Attributes:
        tried_in: Name and version of the parser and builder.
        problems: What is refused; empty for a graph that is ready for TensorRT.
    """

    tried_in: str
    problems: tuple[str, ...]


class ComparedSide(msgspec.Struct, frozen=True):
    """One side of the comparison: artifact, engine and the precision that it computed in."""

    artifact: str
    digest: str
    engine: str
    precision: str
    version: str = ""


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """An export, its comparison with its parent, and the verdict.

    Attributes:
        options: What the export was asked for.
        parent: The reference.
        child: The export.
        images: Number of images that both were run on.
        outputs: Errors of raw outputs; empty where postprocessing was put into the graph.
        batch: Errors of several images at once against the same one by one.
        boxes: Boxes on these images.
        accuracy: Difference in AP on all labelled images; None without labels.
        verdict: The tolerances as clauses, and what was measured.
        first_difference: Where the graphs begin to differ; for an export that fails.
        tensorrt: Trial of an ONNX graph where TensorRT-RTX is installed. Shown, not judged.
        parent_noise: The parent against itself, every pixel moved by two grey levels at most. A
            child that computes in less than float32 may differ by as much. Measured where boxes
            were out of tolerance, which was then widened, see `seatrial.export.tolerances`.
        images_digest: Digest of the names and bytes of the images; empty in reports of earlier
            versions.
        folder: Folder of the images, for a page: the file in an artifact is the same wherever
            they lie.
        conditions: When, where and by which command, for a page: the same export made twice is
            one artifact.
        notes: Remarks, for example why layers could not be compared.
    """

    options: dict[str, Any]
    parent: ComparedSide
    child: ComparedSide
    images: int
    outputs: tuple[OutputError, ...]
    batch: tuple[OutputError, ...]
    boxes: Comparison
    accuracy: Difference | None
    verdict: Verdict
    first_difference: FirstDifference | None = None
    tensorrt: TensorRtTrial | None = None
    parent_noise: Comparison | None = None
    notes: tuple[str, ...] = ()
    folder: str = ""
    images_digest: str = ""
    conditions: Conditions | None = None

    def metrics(self) -> dict[str, float]:
        """Figures for the manifest, by the names that manifests have had from the start."""
        found: dict[str, float | None] = {
            f"output_error.{one.name}": one.worst for one in self.outputs
        }
        found["boxes.iou_mean"] = self.boxes.iou_mean
        found["boxes.shift_mean"] = self.boxes.mean_shift
        found["boxes.shift_mean_abs"] = self.boxes.mean_abs_shift
        found["boxes.shift_most"] = self.boxes.most_shift
        found["boxes.matched"] = self.boxes.matched
        found["boxes.parent"] = self.boxes.parent_boxes
        if self.accuracy is not None:
            found["coco_ap"] = self.accuracy.b
            found["coco_ap.parent"] = self.accuracy.a
        return {name: round(float(v), 6) for name, v in found.items() if v is not None}


def read_report(path: Path) -> ExportReport:
    """Read an ``export.json``, also one that was written before the comparison was one for all.

    Raises:
        InvalidArtifact: The file cannot be read, or is no such report.
    """
    try:
        plain = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return msgspec.convert(_upgraded(plain), ExportReport)
    except (OSError, *UNDECODABLE, KeyError) as error:
        raise InvalidArtifact(
            f"{path} is not the report of an export: {error}", hint="export the model again"
        ) from error


def _upgraded(plain: dict[str, Any]) -> dict[str, Any]:
    """A report with the keys ``tolerance``, ``failures``, ``blame`` and ``restless`` as a new one.

    Its pairs had a partner of half the floor at least, as they have now.
    """
    if "verdict" in plain:
        return plain
    failures = plain["failures"]
    words = f"The export fails: {'; '.join(failures)}." if failures else "The export holds."
    accuracy = plain["accuracy"]
    return {
        **plain,
        "boxes": _upgraded_boxes(plain["boxes"], plain["images"]),
        "accuracy": accuracy
        and {
            "a": accuracy["parent"],
            "b": accuracy["child"],
            "difference": accuracy["difference"],
            "low": accuracy["low"],
            "high": accuracy["high"],
            "level": 0.95,
            "images": accuracy["images"],
            "samples": 1000,
            "seed": 0,
        },
        "verdict": {
            "outcome": "fails" if failures else "holds",
            "within": not failures,
            "statement": words,
            "name": "the export",
        },
        "first_difference": plain.get("blame"),
        "parent_noise": plain.get("restless")
        and _upgraded_boxes(plain["restless"], plain["images"]),
    }


def _upgraded_boxes(old: dict[str, Any], images: int) -> dict[str, Any]:
    return {
        "floor": old["floor"],
        "images": images,
        "parent_boxes": old["parent"],
        "child_boxes": old["matched"] + old["gained"],
        "matched": old["matched"],
        "lost": old["parent"] - old["matched"],
        "gained": old["gained"],
        "agreement": None,
        "iou_mean": old["iou_mean"],
        "iou_least": old["iou_least"],
        "mean_shift": old["shift_mean"],
        "mean_abs_shift": old["shift_mean_abs"],
        "most_shift": old["shift_most"],
    }
