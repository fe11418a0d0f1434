"""A plain detection service, as people write it today: the yardstick of vs_reference.py.

BentoML + PIL + ONNX Runtime float32: four sessions of four threads, one `run_in_executor` per
request, a float32 tensor built in numpy. Started by vs_reference.py, which names the model:

    REFERENCE_MODEL=yolo11n.onnx bentoml serve reference_service:Reference
"""

from __future__ import annotations

import ast
import asyncio
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import bentoml
import numpy as np
import onnxruntime as ort
import PIL.Image
from bentoml.validators import ContentType

SESSIONS, THREADS = 4, 4
SIZE, CONFIDENCE, IOU = 640, 0.25, 0.7


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Reference:
    """Letterbox, normalise, infer, NMS; all in numpy on a thread."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        model = os.environ["REFERENCE_MODEL"]
        self.sessions = [
            ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            for _ in range(SESSIONS)
        ]
        self.turn = itertools.cycle(self.sessions)
        self.input = self.sessions[0].get_inputs()[0].name
        metadata = self.sessions[0].get_modelmeta().custom_metadata_map
        self.labels = ast.literal_eval(metadata["names"])
        self.executor = ThreadPoolExecutor(SESSIONS)

    @bentoml.api(route="/detect")  # type: ignore[untyped-decorator]
    async def detect(self, image: Annotated[Path, ContentType("image/*")]) -> dict[str, Any]:
        """Detect objects in the form field `image`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, self.work, image, next(self.turn))

    def work(self, path: Path, session: ort.InferenceSession) -> dict[str, Any]:
        """One request."""
        picture = PIL.Image.open(path).convert("RGB")
        gain = min(SIZE / picture.width, SIZE / picture.height)
        inner = picture.resize((round(picture.width * gain), round(picture.height * gain)), 2)
        canvas = PIL.Image.new("RGB", (SIZE, SIZE), (114, 114, 114))
        left, top = (SIZE - inner.width) // 2, (SIZE - inner.height) // 2
        canvas.paste(inner, (left, top))
        tensor = np.asarray(canvas, np.float32).transpose(2, 0, 1)[None] / 255.0
        output = session.run(None, {self.input: np.ascontiguousarray(tensor)})[0][0].T
        scores = output[:, 4:]
        keep = scores.max(1) > CONFIDENCE
        centre, size, scores = output[keep, :2], output[keep, 2:4], scores[keep]
        xyxy = np.concatenate([centre - size / 2, centre + size / 2], 1)
        xyxy = (xyxy - [left, top, left, top]) / gain
        return {"detections": self.nms(xyxy, scores.argmax(1), scores.max(1))}

    def nms(self, xyxy: Any, classes: Any, confidence: Any) -> list[dict[str, Any]]:
        """Greedy, class by class."""
        found: list[dict[str, Any]] = []
        order = list(np.argsort(-confidence))
        while order:
            first = order.pop(0)
            box, label = xyxy[first], int(classes[first])
            found.append(
                {
                    "box": box.tolist(),
                    "confidence": float(confidence[first]),
                    "class_id": label,
                    "label": self.labels[label],
                }
            )
            order = [i for i in order if classes[i] != label or iou(box, xyxy[i]) <= IOU]
        return found


def iou(one: Any, other: Any) -> float:
    """Intersection over union of two boxes."""
    sides = np.maximum(0, np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]))
    shared = sides[0] * sides[1]
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
    return float(shared / (sum(areas) - shared))
