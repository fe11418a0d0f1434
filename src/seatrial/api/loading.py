"""From the name of a model to a detector that is called with images."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, overload

import numpy as np
from numpy.typing import NDArray

from seatrial.api.home import store
from seatrial.api.images import ImageLike, pixels
from seatrial.api.labelled import LabelledDetections
from seatrial.api.thresholds import changed, changes
from seatrial.artifact import Artifact
from seatrial.config import from_options
from seatrial.deployment import Deployment, DetectionDefaults, Precision, Thresholds
from seatrial.detect.detector import MAX_PIXELS, Detector
from seatrial.detect.opening import open_detector
from seatrial.errors import InvalidInput, naming


class LoadOptions(TypedDict, total=False):
    """The options of `load`, for functions that load a model by its name."""

    engine: str
    device: str
    precision: Precision
    instances: int | None
    threads: int | None
    wide: bool
    allow_pickle: bool


class LoadedDetector:
    """A model that is called with images. Thread-safe; a context manager that closes it.

    Args:
        detector: Owned by this object from here on.
        thresholds: Defaults of a call; None: the model's own.
    """

    def __init__(self, detector: Detector, thresholds: Thresholds | None = None) -> None:
        self.detector = detector
        manifest = detector.artifact.manifest
        self.thresholds = thresholds or DetectionDefaults().of(manifest)
        self.names: tuple[str, ...] = manifest.labels
        self._closed = False

    @overload
    def __call__(
        self,
        image: ImageLike,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> LabelledDetections: ...
    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> list[LabelledDetections]: ...

    def __call__(
        self,
        image: ImageLike | list[Any] | tuple[Any, ...],
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> LabelledDetections | list[LabelledDetections]:
        """Find objects in an image, or in each of a list.

        Args:
            image: Path or bytes of a JPEG, PNG or WebP file; a PIL image; an (H, W, 3) uint8 RGB
                array; or a list of these, which are worked on side by side.
            confidence: Lowest confidence reported, 0-1; default: the model's, mostly
                0.25.
            iou: Boxes of one class that overlap more are one object, 0-1; default: the
                model's, mostly 0.7.
            max_detections: Most detections reported for one image; default: 300.

        Returns:
            The detections; for a list a list, in its order.

        Raises:
            InvalidConfig: A threshold is out of its range.
            InvalidInput: The image cannot be read or decoded; see `seatrial.errors`.
        """
        rules = self._rules(confidence, iou, max_detections)
        if not isinstance(image, list | tuple):
            return self._detect(image, rules)
        # One image is decoded while the lanes infer.
        with ThreadPoolExecutor(len(self.detector.engine.narrow) + 1, "seatrial-call") as pool:
            return list(pool.map(lambda n, one: self._nth(n, one, rules), count(), image))

    def stream(
        self,
        source: str | PathLike[str] | BinaryIO,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
    ) -> Iterator[tuple[NDArray[np.uint8], LabelledDetections]]:
        """Find objects in every frame of a video, one after the other.

        The arguments are checked at the call; the video is opened for the first frame.

        Args:
            source: Path of a video, or an open file in binary mode.
            confidence: As for a call.
            iou: The same.
            max_detections: The same.

        Yields:
            The frame, (H, W, 3) uint8 RGB, upright, and its detections.

        Raises:
            InvalidConfig: See `__call__`.
            InvalidInput: `source` is neither of the two, or the video cannot be read.
            MissingExtra: PyAV is not installed (the extra ``video``).
        """
        rules = self._rules(confidence, iou, max_detections)
        if isinstance(source, str | PathLike):
            return self._stream(Path(source), rules)
        if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
            raise InvalidInput(
                f"{type(source).__name__} is not a video",
                hint="give the path of a video or a file opened in binary mode; io.BytesIO(data) "
                "makes one of bytes",
            )
        return self._stream(source, rules)

    def close(self) -> None:
        """Release the engine; a call after this raises InvalidInput."""
        self._closed = True
        self.detector.close()

    def __enter__(self) -> LoadedDetector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        engine = self.detector.engine
        name = self.detector.artifact.manifest.name
        return f"<{name}: {engine.name} on {engine.device}, {engine.precision}>"

    def _stream(
        self, source: Path | BinaryIO, rules: Thresholds
    ) -> Iterator[tuple[NDArray[np.uint8], LabelledDetections]]:
        from seatrial.video.sources import video_frames

        for frame in video_frames(source):
            image = frame.rgb()
            yield image, self._detect(image, rules)

    def _detect(self, image: ImageLike, rules: Thresholds) -> LabelledDetections:
        array = pixels(image, max_pixels=MAX_PIXELS)
        found = self.detector.detect(array, rules)
        height, width = array.shape[:2]
        return LabelledDetections(found.detections, self.names, (height, width))

    def _nth(self, number: int, image: ImageLike, rules: Thresholds) -> LabelledDetections:
        with naming(f"image[{number}]"):
            return self._detect(image, rules)

    def _rules(
        self, confidence: float | None, iou: float | None, max_detections: int | None
    ) -> Thresholds:
        if self._closed:
            raise InvalidInput(
                f"the detector {self.detector.artifact.manifest.name} is closed",
                hint="call it before close(), or inside of its with block",
            )
        return changed(self.thresholds, changes(confidence, iou, max_detections))


def load(
    model: str | PathLike[str],
    *,
    engine: str = "openvino",
    device: str = "cpu",
    precision: Precision = "f32",
    instances: int | None = None,
    threads: int | None = None,
    wide: bool = True,
    allow_pickle: bool = False,
) -> LoadedDetector:
    """Open a model, compile it and warm it up.

    Args:
        model: Name in the store (``seatrial models list``), an artifact folder, a model file or
            the folder of a checkpoint, as the commands take it.
        engine: Name in the engine table; ``seatrial doctor`` lists them.
        device: ``"cpu"`` or ``"cuda"``; strict: never another one silently.
        precision: Numeric type to compute in: ``"f32"``, ``"bf16"`` or ``"f16"``; strict.
        instances: Inferences that run at the same time; default: from the usable cores.
        threads: Threads of each of them; default: 1.
        wide: Keep a second compiled graph that gives a lone call all cores.
        allow_pickle: Read a ``.pt`` file, although reading it runs code that is in it.

    Raises:
        InvalidArtifact: There is no such model, or it cannot be used.
        InvalidConfig: An option is out of its range.
        DeviceUnavailable: The device is not there, or does not compute in the precision.
        MissingExtra: The engine's package is not installed.
    """
    deployment = deployment_of(
        model, engine=engine, device=device, precision=precision, instances=instances,
        threads=threads, wide=wide,
    )  # fmt: skip
    artifact = open_model(model, allow_pickle=allow_pickle)
    return LoadedDetector(open_detector(artifact, deployment))


def open_model(
    model: str | PathLike[str], *, allow_pickle: bool = False, deployment: Path | None = None
) -> Artifact:
    """The artifact that a model's name, folder or file means; see `seatrial.models.resolve`."""
    from seatrial.models.resolve import resolve

    check_model(model)
    return resolve(store(), str(model), allow_pickle=allow_pickle, deployment=deployment)


def check_model(model: object) -> None:
    """Check that a name or a path is given.

    Raises:
        InvalidInput: It is something else.
    """
    if not isinstance(model, str | PathLike):
        raise InvalidInput(
            f"{type(model).__name__} is not a model",
            hint="give a name in the store (seatrial models list), a folder or a model file",
        )


def deployment_of(
    model: str | PathLike[str], *, allow_pickle: bool = False, **options: Any
) -> Deployment:
    """The deployment in one process that the options of `load` describe.

    Raises:
        InvalidConfig: An option is unknown or out of its range.
    """
    layout = {name: options.pop(name, None) for name in ("instances", "threads")}
    layout |= {"workers": 1, "wide": options.pop("wide", True)}
    plain = {"model": str(model), **options, "layout": layout}
    return from_options(plain, Deployment)
