"""DETR and its descendants: a fixed number of queries, at most one box a class each, no NMS.

Layouts (the artifact's variant):

- ``detr``: ``logits`` ``[N, Q, classes + 1]``, ``pred_boxes`` ``[N, Q, 4]``. Softmax; the last
  class is "no object". DETR.
- ``sigmoid``: ``logits`` ``[N, Q, classes]``, ``pred_boxes``. Sigmoid; the Q best of all Q x
  classes. RT-DETR, RT-DETRv2, D-FINE; RF-DETR, whose outputs are called ``labels`` and ``dets``.
- ``native``: ``labels`` ``[N, Q]``, ``boxes`` ``[N, Q, 4]``, ``scores`` ``[N, Q]``, decoded in the
  graph, which takes ``orig_target_sizes`` besides. What the repositories of RT-DETR and D-FINE
  export, and what ``seatrial export --fuse-nms`` makes of the other two.
- ``scored``: ``[N, Q, 4 + classes]``: a box as in ``pred_boxes``, then class scores after the
  sigmoid; a query counts for its best class. RT-DETR of Ultralytics until May
  2026.
- ``ranked``: ``[N, K, 6]``: a box as in ``pred_boxes``, score, class; the K best of queries and
  classes. RT-DETR of Ultralytics from then on.

``pred_boxes`` are centre x, centre y, width, height as fractions of the image, padding left out;
``boxes`` are left, top, right, bottom in pixels of the source image. A graph of padded images
takes ``valid_hw`` besides and derives DETR's ``pixel_mask`` from it.

Source: transformers ``post_process_object_detection`` of ``DetrImageProcessor`` and
``RTDetrImageProcessor``; ultralytics ``models/rtdetr/predict.py`` and ``nn/modules/head.py``
(RTDETRDecoder); rf-detr ``rfdetr/deploy/export.py``, ``rfdetr/detr.py`` (predict) and
``rfdetr/models/lwdetr.py`` (PostProcess); D-FINE ``tools/deployment/export_onnx.py`` and
``src/zoo/dfine/postprocessor.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.config import decode_json
from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families import huggingface, ultralytics
from seatrial.detect.families.base import UNNAMED, Recognition
from seatrial.detect.postprocess import corners
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
VARIANTS = ("detr", "sigmoid", "native", "scored", "ranked")
RF_DETR = {"dets": PRED_BOXES, "labels": LOGITS}  # its exporter's names
RF_DETR_CONFIDENCE = 0.5
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
        "(labels, boxes, scores), of RF-DETR (dets, labels) or of Ultralytics' RT-DETR"
    )
    unordered: ClassVar[tuple[str, ...]] = ("sigmoid", "native", "scored", "ranked")

    def __init__(self, manifest: Manifest) -> None:
        if manifest.variant not in VARIANTS:
            raise InvalidArtifact(f"unknown DETR output layout {manifest.variant!r}")
        self._variant = manifest.variant
        self._inputs = {spec.name for spec in manifest.inputs}
        self._output = manifest.outputs[0].name
        # The background of an RF-DETR, see `seatrial.models.recognise`: it is no detection.
        self._columns = slice(-1 if manifest.labels[-1:] == (UNNAMED,) else None)
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
            boxes, class_id, score = self._of_queries(outputs, thresholds.confidence)
            height, width = letterbox.source_hw
            xyxy = corners(boxes) * np.array([width, height] * 2, np.float32)
        sound = np.flatnonzero(np.isfinite(xyxy).all(axis=1))[: thresholds.max_detections]
        return Detections(
            letterbox.clip(xyxy[sound].astype(np.float32, copy=False)),
            score[sound].astype(np.float32, copy=False),
            class_id[sound].astype(np.int64, copy=False),
        )

    def _of_queries(
        self, outputs: Arrays, confidence: float
    ) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32]]:
        """Boxes (K, 4), classes (K,) and scores (K,), the most confident first."""
        if self._variant in ("detr", "sigmoid"):
            logits = outputs[LOGITS][0]
            queries, class_id, score = (
                _softmax(logits, confidence)
                if self._variant == "detr"
                else _sigmoid(logits[:, self._columns], confidence)
            )
            return outputs[PRED_BOXES][0][queries], class_id, score
        rows = outputs[self._output][0]
        best = rows[:, 4] if self._variant == "ranked" else rows[:, 4:].max(axis=1)
        chosen = np.flatnonzero(best > confidence)
        chosen = chosen[np.argsort(-best[chosen], kind="stable")]
        rows = rows[chosen]
        class_id = rows[:, 5] if self._variant == "ranked" else rows[:, 4:].argmax(axis=1)
        return rows[:, :4], class_id, best[chosen]

    @staticmethod
    def recognise(graph: GraphSignature) -> Recognition | None:
        """See `seatrial.detect.families.base.FamilyClass.recognise`."""
        ranks = {output.name: len(output.shape) for output in graph.outputs}
        if METADATA_KEY in graph.metadata:
            return _own(graph)
        if ultralytics.is_export(graph):
            return _ultralytics(graph) if ultralytics.is_rt_detr(graph) else None
        if {LOGITS, PRED_BOXES} <= set(ranks):
            return _transformers(graph)
        if set(ranks) == {LABELS, BOXES, SCORES}:
            return _repository(graph)
        if ranks == dict.fromkeys(RF_DETR, 3):
            return _rf_detr(graph)
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


def _ultralytics(graph: GraphSignature) -> Recognition:
    ultralytics.check_detector(graph)
    labels = ultralytics.labels(graph)
    shape = graph.outputs[0].shape
    # With two classes both layouts have six columns: the newer one ranks in the graph, by a TopK
    # besides the one that chooses the queries.
    ranked = len(labels) != 2 or graph.operators.get("TopK", 0) > 1
    if len(shape) == 3 and shape[2] == 6 and ranked:
        variant = "ranked"
    elif len(shape) == 3 and shape[2] == 4 + len(labels):
        variant = "scored"
    else:
        raise InvalidArtifact(
            f"an RT-DETR of Ultralytics with the output {list(shape)}: neither [N, K, 6] nor "
            f"[N, Q, {4 + len(labels)}] for its {len(labels)} classes",
            hint=ultralytics.EXPORT_AGAIN,
        )
    return Recognition(
        variant=variant,
        preprocessing=Preprocessing(ultralytics.size_hw(graph), "stretch", ultralytics.PAD_VALUE),
        labels=labels,
        licence=graph.metadata.get("license", "unknown"),
        facts=ultralytics.facts(graph),
    )


def _rf_detr(graph: GraphSignature) -> Recognition | None:
    shapes = {output.name: output.shape for output in graph.outputs}
    size_hw = graph.image_hw()
    if size_hw is None or shapes["dets"][2] != 4:
        return None
    return Recognition(
        variant="sigmoid",
        preprocessing=Preprocessing(size_hw, "stretch", 0, antialias=True),
        mean_std=huggingface.IMAGENET,
        classes=shapes["labels"][2],
        background=True,
        outputs=RF_DETR,
        confidence=RF_DETR_CONFIDENCE,
    )


def _transformers(graph: GraphSignature) -> Recognition:
    if huggingface.CONFIG not in graph.metadata:
        raise InvalidArtifact(
            f"a DETR as transformers exports it, without the {huggingface.CONFIG} that says how "
            "images go in and what its logits are",
            hint=f"copy {huggingface.CONFIG} and {huggingface.PREPROCESSOR} of the model beside "
            "the file; its page on the hub has them",
        )
    config, *processors = (
        text.encode() if (text := graph.metadata.get(name)) is not None else None
        for name in (huggingface.CONFIG, huggingface.PREPROCESSOR, huggingface.PROCESSOR)
    )
    found = huggingface.read(config or b"", huggingface.image_processor(*processors))
    variant = found.architecture.variant
    check_outputs(graph.outputs, variant, len(found.labels))
    masks = [i.name for i in graph.inputs if i.name == PIXEL_MASK]
    fixed = graph.image_hw()
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
        mean_std=found.mean_std,
        labels=found.labels,
        facts={"model_type": found.model_type},
        mask_input=masks[0] if masks else None,
    )


def _repository(graph: GraphSignature) -> Recognition | None:
    if TARGET_SIZES not in {spec.name for spec in graph.inputs}:
        return None
    size_hw = graph.image_hw() or (SIZE_PX, SIZE_PX)
    return Recognition(
        variant="native",
        preprocessing=Preprocessing(size_hw, "stretch", 0, antialias=True),
    )


def check_outputs(outputs: tuple[TensorSpec, ...], variant: str, classes: int) -> None:
    """Check that the outputs have the layout of a variant and the number of classes.

    Raises:
        InvalidArtifact: They have not.
    """
    shapes = {output.name: output.shape for output in outputs}
    if variant in ("scored", "ranked"):
        columns = 6 if variant == "ranked" else 4 + classes
        first = next(iter(shapes.values()))
        if len(shapes) != 1 or len(first) != 3 or first[2] not in (columns, -1):
            raise InvalidArtifact(
                f"a DETR of the layout {variant!r} and {classes} classes has one output "
                f"[N, Q, {columns}]; this one has {', '.join(shapes)}: {list(first)}"
            )
        return
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
