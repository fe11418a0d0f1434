"""Proof that a graph runs and answers as its family says, before it becomes an artifact.

Names and shapes of outputs are shared by layouts that mean different things. So the graph runs on
two drawn images, and its answers are held against what boxes, confidences and class numbers can be.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from seatrial.deployment import Thresholds
from seatrial.detect.detections import Detections
from seatrial.detect.families.base import Doubtful
from seatrial.detect.families.registry import family_of
from seatrial.detect.preprocess import Letterbox, fit
from seatrial.engines.base import (
    Arrays,
    Engine,
    EngineConfig,
    Lane,
    StoppableLane,
    of_batch,
)
from seatrial.engines.registry import engine_class
from seatrial.errors import InvalidArtifact, MissingExtra, first_line
from seatrial.graphs.batch import for_one_image
from seatrial.manifest import Manifest, TensorSpec
from seatrial.system.extras import install_command
from seatrial.system.hardware import usable_cores

ENGINES = ("onnxruntime", "openvino")  # the first that is installed runs the proof
EVERYTHING = Thresholds(confidence=0.0, iou=1.0, max_detections=300)
SIZES_HW = ((480, 640), (640, 360))  # of the images: a wide one and a tall one
FEWEST_PX = 1.0  # a side of a box, on the canvas
FEWEST_BOXES = 20  # of which one at least lies in the image
MOST_DEGENERATE = 0.95  # share of the boxes; random weights give up to 0.85
RUN_S = 120.0  # for one image; the largest detectors take 5 s on two cores
STOP_S = 5.0  # until a run that was stopped has ended
LOOK_S = 0.2  # between two looks at a signal
SAME_ANSWER = 1e-3  # of the largest value of an output


@functools.cache
def drawn_images() -> tuple[NDArray[np.uint8], ...]:
    """Two images with the structure of photographs: (H, W, 3) uint8 RGB, always the same.

    Noise with equal energy in every octave, as natural scenes have it, under shaded shapes in
    colour with edges, and a line of text.
    """
    chance = np.random.default_rng(2026)
    images = tuple(_drawn(chance, height, width) for height, width in SIZES_HW)
    for image in images:
        image.flags.writeable = False  # they are kept
    return images


def _drawn(chance: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    image = np.full((height, width, 3), 110.0, np.float32)
    for cell in (256, 128, 64, 32, 16, 8, 4, 2):
        coarse = chance.normal(0, 14, (height // cell + 2, width // cell + 2, 3))
        fine = cv2.resize(coarse.astype(np.float32), (width, height))
        image += np.asarray(fine, np.float32)
    for number in range(14):
        centre = (int(chance.integers(width)), int(chance.integers(height)))
        half = (int(chance.integers(12, width // 4)), int(chance.integers(12, height // 4)))
        colour = chance.integers(0, 256, 3).astype(np.float32)
        mask = np.zeros((height, width), np.uint8)
        if number % 2:
            cv2.ellipse(mask, centre, half, float(chance.integers(180)), 0, 360, 255, -1)
        else:
            corner = (centre[0] + half[0], centre[1] + half[1])
            cv2.rectangle(mask, centre, corner, 255, -1)
        shade = np.linspace(0.7, 1.2, width, dtype=np.float32)[None, :, None]
        inside = mask[:, :, None] > 0
        image = np.where(inside, 0.2 * image + 0.8 * shade * colour, image)
    canvas: NDArray[np.uint8] = np.ascontiguousarray(np.clip(image, 0, 255).astype(np.uint8))
    cv2.putText(
        canvas, "SEATRIAL 2026", (20, height // 2), cv2.FONT_HERSHEY_SIMPLEX, 1.4,
        (240, 240, 240), 3, cv2.LINE_AA,
    )  # fmt: skip
    return canvas


def one_image_at_a_time(
    model: Any, folder: Path, manifest: Manifest, origin: str
) -> tuple[Any, Manifest]:
    """The graph and the manifest for one image, where the graph takes a fixed number of them.

    Args:
        model: ``onnx.ModelProto`` with the image input of the manifest.
        folder: Takes files for a moment.
        manifest: Manifest of that graph.
        origin: Name of the model file, for errors.

    Returns:
        Both as they are, if the graph takes one image or any number of them; else a graph for one
        image that gives the same answer for it.

    Raises:
        InvalidArtifact: The graph cannot be changed so that it does.
    """
    batch = manifest.inputs[0].shape[0]
    if batch in (-1, 1):
        return model, manifest
    changed = for_one_image(model, batch)
    config = {**manifest.step.config, "batch_in_file": batch}
    single = msgspec.structs.replace(
        manifest,
        step=msgspec.structs.replace(manifest.step, config=config),
        inputs=_for_one(manifest.inputs, batch),
        outputs=_for_one(manifest.outputs, batch),
    )
    try:
        before = _answers(model, folder, manifest, origin)
        after = _answers(changed, folder, single, origin)
        same = all(_equal(*pair, single) for pair in zip(before, after, strict=True))
    except InvalidArtifact:
        same = False
    if not same:
        raise _fixed_batch(origin, batch)
    return changed, single


def _fixed_batch(origin: str, batch: int) -> InvalidArtifact:
    return InvalidArtifact(
        f"{origin} takes {batch} images at a time, no more and no fewer; a service answers one at "
        "a time",
        hint="export it again for one image: batch=1 or dynamic=True in Ultralytics, "
        "dynamic_axes in torch.onnx.export",
    )


def _for_one(specs: tuple[TensorSpec, ...], batch: int) -> tuple[TensorSpec, ...]:
    return tuple(
        msgspec.structs.replace(spec, shape=(1, *spec.shape[1:]))
        if spec.shape[:1] == (batch,)
        else spec
        for spec in specs
    )


def _answers(model: Any, folder: Path, manifest: Manifest, origin: str) -> list[Arrays]:
    """Outputs for each drawn image: the first of its batch, which the next one fills."""
    file = folder / "trial.onnx"
    file.write_bytes(model.SerializeToString())
    found: list[Arrays] = []
    try:
        with _engine(file, manifest, origin) as engine:
            canvases = [_feeds(manifest, image)[0] for image in drawn_images()]
            for first, other in zip(canvases, reversed(canvases), strict=True):
                size = manifest.inputs[0].shape[0]
                feeds = {
                    key: np.concatenate([first[key], *[other[key]] * (size - 1)]) for key in first
                }
                found.append(_run(engine, feeds, manifest, origin))
    finally:
        file.unlink()
    return found


def _equal(before: Arrays, after: Arrays, single: Manifest) -> bool:
    for spec in single.outputs:
        one, other = before[spec.name], after[spec.name]
        if len(other) != 1 or one.shape[1:] != other.shape[1:]:
            return False
        scale = max(float(np.abs(one).max(initial=0.0)), 1e-6)
        if float(np.abs(one[:1] - other).max(initial=0.0)) > SAME_ANSWER * scale:
            return False
    return True


def prove(
    file: Path,
    manifest: Manifest,
    *,
    origin: str,
    hint: str,
    engines: tuple[str, ...] = ENGINES,
) -> None:
    """Run a graph on each drawn image and check that its answers can be what they pass for.

    Args:
        file: The file of the artifact to be.
        manifest: Its manifest.
        origin: Name of the model file, for errors.
        hint: What to do where the answers are something else.
        engines: Those that read the file: the first that is installed runs it.

    Raises:
        InvalidArtifact: The graph does not run on one image, or its outputs are no numbers or no
            boxes, confidences and classes of its family.
        MissingExtra: No engine that runs it is installed.
    """
    batch = manifest.inputs[0].shape[0]
    if batch not in (-1, 1):
        raise _fixed_batch(origin, batch)
    family = family_of(manifest)
    with _engine(file, manifest, origin, engines) as engine:
        for image in drawn_images():
            feeds, letterbox = _feeds(manifest, image)
            outputs = _run(engine, feeds, manifest, origin)
            doubt = _not_finite(outputs)
            if not doubt and isinstance(family, Doubtful):
                doubt = family.doubt(outputs)
            if not doubt:
                found = family.detections(outputs, letterbox, EVERYTHING)
                doubt = _not_boxes(found, letterbox, manifest)
            if doubt:
                raise InvalidArtifact(
                    f"{origin} has the names and shapes of the family {manifest.family} "
                    f"({manifest.variant}) and answers otherwise: {doubt}",
                    hint=hint,
                )


@contextlib.contextmanager
def _engine(
    file: Path, manifest: Manifest, origin: str, engines: tuple[str, ...] = ENGINES
) -> Iterator[Engine]:
    """A graph in the first engine that is installed and reads it."""
    refused: InvalidArtifact | None = None
    for name in engines:
        computed: Any = "f16" if (name, manifest.precision) == ("onnxruntime", "f16") else "f32"
        config = EngineConfig(threads=usable_cores(), precision=computed)
        try:
            engine = engine_class(name)(file, manifest, config)
        except MissingExtra:
            continue
        except InvalidArtifact as error:
            refused = refused or error
            continue
        with contextlib.closing(engine):
            yield engine
        return
    if refused is not None:
        cause = refused.message.replace(str(file), origin)
        raise InvalidArtifact(f"{origin} does not run: {cause}", hint=refused.hint) from refused
    raise MissingExtra(
        f"{engines[0]} is not installed; {origin} has to run once before it is kept",
        hint=install_command(engines[0]),
    )


def _feeds(
    manifest: Manifest, image: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[Any]], Letterbox]:
    canvas, letterbox = fit(image, manifest.preprocessing)
    return {manifest.inputs[0].name: canvas, **family_of(manifest).feeds(letterbox)}, letterbox


def _in_time(lane: Lane, feeds: Arrays) -> Arrays:
    """The answer of a lane, whose run ends with Ctrl-C, with SIGTERM and after `RUN_S`.

    Raises:
        TimeoutError: It was not there after `RUN_S`.
    """
    answer: concurrent.futures.Future[Arrays] = concurrent.futures.Future()

    def infer() -> None:
        try:
            answer.set_result(lane.infer(feeds))
        except Exception as error:  # noqa: BLE001 - the caller's thread raises it
            answer.set_exception(error)

    # A daemon: a run that cannot be stopped does not keep the process alive.
    thread = threading.Thread(target=infer, daemon=True)
    give_up = time.monotonic() + RUN_S
    try:
        thread.start()  # Ctrl-C may come in here, too
        # A signal that comes just before a wait does not end it: no wait is long.
        while not answer.done() and (left_s := give_up - time.monotonic()) > 0:
            concurrent.futures.wait([answer], min(left_s, LOOK_S))
        return answer.result(0)
    except BaseException:
        if not answer.done() and isinstance(lane, StoppableLane):
            lane.stop()
            concurrent.futures.wait([answer], STOP_S)
        raise


def _run(
    engine: Engine, feeds: dict[str, NDArray[Any]], manifest: Manifest, origin: str
) -> dict[str, NDArray[Any]]:
    try:
        raw = _in_time(engine.narrow[0], feeds)
        outputs = {spec.name: np.array(raw[spec.name]) for spec in manifest.outputs}
    except TimeoutError as error:
        raise InvalidArtifact(
            f"{origin} does not answer one image on {engine.name} within {RUN_S:g} s",
            hint="export it again, for one image and a fixed size",
        ) from error
    except Exception as error:  # runtimes' errors share no base
        raise InvalidArtifact(
            f"{origin} does not run on {engine.name}: {first_line(error)}",
            hint="export it again, for one image and a fixed size",
        ) from error
    for spec in manifest.outputs:
        wanted, got = of_batch(spec.shape), outputs[spec.name].shape
        fits = len(wanted) == len(got) and all(
            a in (-1, b) for a, b in zip(wanted, got, strict=True)
        )
        if not fits:
            raise InvalidArtifact(
                f"{origin} answers one image with {spec.name} {list(got)}, and its graph says "
                f"{list(wanted)}",
                hint="export it again, for one image and a fixed size",
            )
    return outputs


def _not_finite(outputs: Arrays) -> str:
    wrong = [name for name, value in outputs.items() if not np.isfinite(value).all()]
    return f"values of {wrong[0]} are not numbers (NaN or infinite)" if wrong else ""


def _not_boxes(found: Detections, letterbox: Letterbox, manifest: Manifest) -> str:
    """Why detections of confidence 0 and more cannot be such; empty where they can."""
    if not len(found):
        return ""
    if float(found.score.max()) > 1.001:
        return f"confidences reach {float(found.score.max()):.3g}, over 1"
    if (top := int(found.class_id.max())) >= len(manifest.labels) or found.class_id.min() < 0:
        return f"class {top} is found, and the labels are {len(manifest.labels)}"
    scale = np.array(letterbox.scale_xy, np.float32)
    sides = (found.xyxy[:, 2:] - found.xyxy[:, :2]) * scale
    inside = sides[(sides != 0).all(axis=1)]  # others lie in the padding, and were cut off
    if not len(inside):
        return "all of its boxes lie outside of the image" if len(found) >= FEWEST_BOXES else ""
    degenerate = float((inside < FEWEST_PX).any(axis=1).mean())
    if degenerate > MOST_DEGENERATE:
        return f"{degenerate:.0%} of the boxes in the image are narrower than {FEWEST_PX:g} pixel"
    return ""
