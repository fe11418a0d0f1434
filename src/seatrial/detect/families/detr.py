"""DETR and its descendants: a fixed number of queries, at most one box a class each, no NMS.

Layouts (the artifact's variant):

- ``detr``: ``logits`` ``[N, Q, classes + 1]``, ``pred_boxes`` ``[N, Q, 4]``. Softmax; the last
  class is "no object". DETR.
- ``sigmoid``: ``logits`` ``[N, Q, classes]``, ``pred_boxes``. Sigmoid; the Q best of all Q x
  classes. RT-DETR, RT-DETRv2, D-FINE.
- ``native``: ``labels`` ``[N, Q]``, ``boxes`` ``[N, Q, 4]``, ``scores`` ``[N, Q]``, decoded in the
  graph, which takes ``orig_target_sizes`` besides. What the repositories of RT-DETR and D-FINE
  export, and what ``seatrial export --fuse-nms`` makes of the other two.

``pred_boxes`` are centre x, centre y, width, height as fractions of the image, padding left out;
``boxes`` are left, top, right, bottom in pixels of the source image. A graph of padded images
takes ``valid_hw`` besides and derives DETR's ``pixel_mask`` from it.

Source: transformers ``post_process_object_detection`` of ``DetrImageProcessor`` and
``RTDetrImageProcessor``; D-FINE ``tools/deployment/export_onnx.py`` and
``src/zoo/dfine/postprocessor.py``.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.config import decode_json
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families import huggingface
from seatrial.detect.families.base import Recognition
from seatrial.detect.preprocess import Letterbox
from seatrial.engines.base import Arrays
from seatrial.errors import InvalidArtifact, InvalidInput
from seatrial.graphs.signature import (
    BOXES,
    LABELS,
    LOGITS,
    PIXEL_MASK,
    PRED_BOXES,
    SCORES,
    TARGET_SIZES,
    VALID_HW,
    GraphSignature,
)
from seatrial.manifest import Manifest, Preprocessing, TensorSpec

METADATA_KEY = "seatrial.detr"
LABELS_FILE = "labels.txt"
SIZE_PX = 640  # what the repositories of RT-DETR and D-FINE export at


class DetrMetadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Description in a graph file that Seatrial wrote, as JSON under `METADATA_KEY`.

    Attributes:
        variant: Output layout.
        labels: Class names.
        licence: Licence of the weights.
        preprocessing: How images are fitted.
    """

    variant: str
    labels: tuple[str, ...]
    licence: str
    preprocessing: Preprocessing


class Detr:
    """Decodes the outputs of one DETR artifact."""

    accepts: ClassVar[str] = (
        "an ONNX export of a transformers model with its config.json beside it (outputs logits "
        "[N, Q, classes] and pred_boxes [N, Q, 4]), or one of the RT-DETR or D-FINE repositories "
        "(labels, boxes, scores) with its class names in labels.txt beside it"
    )
    unordered: ClassVar[tuple[str, ...]] = ("sigmoid", "native")

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant not in ("detr", "sigmoid", "native"):
            raise InvalidArtifact(f"unknown DETR output layout {manifest.variant!r}")
        self._variant = manifest.variant
        self._inputs = {spec.name for spec in manifest.inputs}
        check_outputs(manifest.outputs, manifest.variant, len(manifest.labels))

    def feeds(self, letterbox: Letterbox) -> Arrays:
        """See `seatrial.detect.families.base.Family.feeds`."""
        given: dict[str, NDArray[np.int64]] = {}
        if VALID_HW in self._inputs:
            given[VALID_HW] = np.array([letterbox.inner_hw], np.int64)
        if TARGET_SIZES in self._inputs:
            given[TARGET_SIZES] = np.array([letterbox.source_hw[::-1]], np.int64)
        return given

    def detections(
        self, outputs: Arrays, letterbox: Letterbox, thresholds: Thresholds
    ) -> Detections:
        """See `seatrial.detect.families.base.Family.detections`.

        ``iou`` and ``multi_label`` do not apply: there is no NMS, and the layout says whether a
        query may give several classes.
        """
        if self._variant == "native":
            scores = outputs[SCORES][0]
            rows = np.flatnonzero(scores > thresholds.confidence)
            rows = rows[np.argsort(-scores[rows], kind="stable")]
            xyxy, score, class_id = outputs[BOXES][0][rows], scores[rows], outputs[LABELS][0][rows]
        else:
            pick = _softmax if self._variant == "detr" else _sigmoid
            queries, class_id, score = pick(outputs[LOGITS][0], thresholds.confidence)
            boxes = outputs[PRED_BOXES][0][queries]
            centre, half = boxes[:, :2], boxes[:, 2:] / 2
            height, width = letterbox.source_hw
            size = np.array([width, height] * 2, np.float32)
            xyxy = np.concatenate([centre - half, centre + half], axis=1) * size
        sound = np.flatnonzero(np.isfinite(xyxy).all(axis=1))[: thresholds.max_detections]
        return Detections(
            letterbox.clip(xyxy[sound].astype(np.float32, copy=False)),
            score[sound].astype(np.float32, copy=False),
            class_id[sound].astype(np.int64, copy=False),
        )

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        outputs = {output.name for output in graph.outputs}
        if METADATA_KEY in graph.metadata:
            return _own(graph)
        if {LOGITS, PRED_BOXES} <= outputs and huggingface.CONFIG in graph.metadata:
            return _transformers(graph)
        if outputs == {LABELS, BOXES, SCORES} and TARGET_SIZES in {i.name for i in graph.inputs}:
            return _repository(graph)
        return None


def _softmax(
    logits: NDArray[np.float32], confidence: float
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """Each query's best class but "no object", where it is over the threshold.

    Args:
        logits: (Q, classes + 1) float32.
        confidence: Exclusive.

    Returns:
        Query (K,), class (K,), score (K,), most confident first.
    """
    power = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = power[:, :-1] / power.sum(axis=1, keepdims=True)
    best = probability.max(axis=1)
    queries = np.flatnonzero(best > confidence)
    queries = queries[np.argsort(-best[queries], kind="stable")]
    return queries, probability[queries].argmax(axis=1), best[queries]


def _sigmoid(
    logits: NDArray[np.float32], confidence: float
) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]:
    """The Q best of all queries and classes, where they are over the threshold.

    Args:
        logits: (Q, classes) float32.
        confidence: Exclusive.

    Returns:
        Query (K,), class (K,), score (K,), most confident first.
    """
    count, classes = logits.shape
    flat = logits.reshape(-1)
    with np.errstate(divide="ignore"):  # 0 and 1 are -inf and inf
        floor = np.log(confidence) - np.log1p(-confidence)
    # Nearly all are under the threshold: they are left out before a sigmoid is computed.
    over = np.flatnonzero(flat >= np.float32(floor))
    best = over[np.argsort(-flat[over], kind="stable")[:count]]
    score = (1 / (1 + np.exp(-flat[best]))).astype(np.float32)
    best, score = best[score > confidence], score[score > confidence]
    return best // classes, best % classes, score


def _own(graph: GraphSignature) -> Recognition:
    try:
        text = graph.metadata[METADATA_KEY].encode()
        facts = decode_json(text, DetrMetadata, origin=f"metadata {METADATA_KEY!r}")
    except InvalidInput as error:
        raise InvalidArtifact(error.message, hint=error.hint) from error
    check_outputs(graph.outputs, facts.variant, len(facts.labels))
    return Recognition(
        variant=facts.variant,
        preprocessing=facts.preprocessing,
        scale=1.0,  # the graph takes pixel values, 0-255, and normalises them itself
        labels=facts.labels,
        licence=facts.licence,
        facts={},
    )


def _transformers(graph: GraphSignature) -> Recognition:
    config, *processors = (
        text.encode() if (text := graph.metadata.get(name)) is not None else None
        for name in (huggingface.CONFIG, huggingface.PREPROCESSOR, huggingface.PROCESSOR)
    )
    found = huggingface.read(config or b"", huggingface.image_processor(*processors))
    variant = found.architecture.variant
    check_outputs(graph.outputs, variant, len(found.labels))
    masks = [i.name for i in graph.inputs if i.name == PIXEL_MASK]
    fixed = _fixed_size(graph)
    if fixed and not masks and found.architecture.masked:
        # Without a mask the graph would take padding for a part of the image.
        preprocessing = Preprocessing(fixed, "stretch", 0, antialias=True)
    elif not masks and found.preprocessing.resize == "shortest_edge":
        raise InvalidArtifact(
            "a DETR for images of any size without the input pixel_mask: it would take padding "
            "for a part of the image",
            hint="import the checkpoint and let `seatrial export` write the graph",
        )
    else:
        size_hw = fixed or found.preprocessing.size_hw
        preprocessing = msgspec.structs.replace(found.preprocessing, size_hw=size_hw)
    return Recognition(
        variant=variant,
        preprocessing=preprocessing,
        scale=found.scale,
        labels=found.labels,
        licence="unknown",
        facts={"model_type": found.model_type},
        mean_std=found.mean_std,
        mask_input=masks[0] if masks else None,
    )


def _repository(graph: GraphSignature) -> Recognition:
    names = graph.metadata.get(LABELS_FILE, "").splitlines()
    labels = tuple(name.strip() for name in names if name.strip())
    if not labels:
        raise InvalidArtifact(
            "an export of the RT-DETR or D-FINE repository, which does not name its classes",
            hint=f"write them to {LABELS_FILE} beside the file, one a line, class 0 first",
        )
    size_hw = _fixed_size(graph) or (SIZE_PX, SIZE_PX)
    return Recognition(
        variant="native",
        preprocessing=Preprocessing(size_hw, "stretch", 0, antialias=True),
        scale=255.0,
        labels=labels,
        licence="unknown",
        facts={},
    )


def _fixed_size(graph: GraphSignature) -> tuple[int, int] | None:
    shape = graph.inputs[0].shape
    if len(shape) != 4 or shape[1] not in (3, -1):
        raise InvalidArtifact(f"the first input is {list(shape)}, not [N, 3, H, W]")
    return (shape[2], shape[3]) if min(shape[2:]) > 0 else None


def check_outputs(outputs: tuple[TensorSpec, ...], variant: str, classes: int) -> None:
    """Check that the outputs have the layout of a variant and the number of classes.

    Raises:
        InvalidArtifact: They have not.
    """
    shapes = {output.name: output.shape for output in outputs}
    wanted = {BOXES, SCORES, LABELS} if variant == "native" else {LOGITS, PRED_BOXES}
    if not wanted <= set(shapes):
        raise InvalidArtifact(
            f"a DETR of the layout {variant!r} has the outputs {', '.join(sorted(wanted))}; this "
            f"one has {', '.join(shapes)}"
        )
    if variant == "native":
        return
    logits = shapes[LOGITS]
    columns = classes + 1 if variant == "detr" else classes
    if len(logits) != 3 or logits[2] not in (columns, -1):
        extra = " and one for no object" if variant == "detr" else ""
        raise InvalidArtifact(
            f"{LOGITS} is {list(logits)}, which does not fit {classes} labels{extra}",
            hint="the class names and the weights are of different models",
        )
