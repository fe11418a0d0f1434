"""The detectors that a demonstration can be asked to show: in this process, or running services."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import msgspec

from seatrial.accuracy.predict import InProcess, SeenImage, Subject
from seatrial.accuracy.service import RemoteDetector
from seatrial.artifact import Artifact
from seatrial.deployment import Deployment, Thresholds
from seatrial.detect.answer import Box, ImageSize, boxes
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent
from seatrial.serve.startup import open_detector


class Seen(msgspec.Struct, frozen=True):
    """What a model sees in one picture.

    Attributes:
        image: Its upright size.
        detections: The boxes as rows, for tables and files.
        timing_ms: Stage -> milliseconds, where it was computed.
    """

    image: ImageSize
    detections: list[Box]
    timing_ms: dict[str, float] = {}


class Model:
    """A detector that is open, and the threads that ask it.

    Args:
        name: As the person named it.
        subject: What answers.
        close: Releases it.
    """

    def __init__(self, name: str, subject: Subject, close: Callable[[], None]) -> None:
        self.name = name
        self.labels = subject.labels
        self.facts: dict[str, Any] = subject.describe()
        self._subject = subject
        self._close = close
        # Front ends come with a thread a visitor or a click; a service is asked over a few
        # connections that stay, one a thread.
        self._threads = ThreadPoolExecutor(subject.concurrency, "seatrial-demo")

    @property
    def title(self) -> str:
        """Name, engine, device and precision in a line."""
        facts = self.facts
        where = f" at {facts['url']}" if "url" in facts else ""
        return (
            f"{facts['name']}{where} ({facts['engine']}, {facts['device']}, {facts['precision']})"
        )

    def detect(
        self, pictures: Sequence[bytes], rules: Thresholds, on_progress: Progress = silent
    ) -> list[Seen]:
        """Find objects in encoded pictures.

        Args:
            pictures: JPEG, PNG or WebP files.
            rules: Thresholds.
            on_progress: Told after each picture, in order.

        Raises:
            InvalidInput: A picture is refused.
            ServiceFailed: The service does not answer.
        """
        waiting = [self._threads.submit(self._subject.detect, data, rules) for data in pictures]
        try:
            seen = []
            for future in waiting:
                one: SeenImage = future.result()
                seen.append(Seen(one.size, boxes(one.detections, self.labels), one.timing_ms))
                on_progress("detecting", len(seen), len(pictures))
            return seen
        except BaseException:
            for future in waiting:
                future.cancel()
            raise

    def close(self) -> None:
        """Let what runs end, and release the detector."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._close()


def open_artifact(name: str, artifact: Artifact, deployment: Deployment) -> Model:
    """A detector in this process.

    Args:
        name: As the person named it.
        artifact: The model.
        deployment: Engine, precision, layout.

    Raises:
        SeatrialError: See `seatrial.engines.registry.open_engine`.
    """
    detector = open_detector(artifact, deployment)
    return Model(name, InProcess(detector), detector.close)


def open_service(url: str) -> Model:
    """A service that runs.

    Raises:
        InvalidConfig: Not an http(s) address.
        ServiceFailed: Nobody answers there, or no detector.
    """
    service = RemoteDetector(url)
    return Model(url, service, service.close)


class Models:
    """The model that is shown, and those that it can be compared with.

    Args:
        shown: Open; closed with the rest.
        rivals: Name -> opens it. Opened when it is asked for, and kept.
        first_rival: The one to begin with; None for none.
    """

    def __init__(
        self,
        shown: Model,
        rivals: Mapping[str, Callable[[], Model]],
        *,
        first_rival: str | None = None,
    ) -> None:
        self.shown = shown
        self.first_rival = first_rival
        self._rivals = dict(rivals)
        self._open: dict[str, Model] = {}
        self._lock = threading.Lock()

    @property
    def rivals(self) -> list[str]:
        """Names that `rival` takes."""
        return list(self._rivals)

    def rival(self, name: str) -> Model:
        """Open a model to compare with, or take it if it is open.

        Raises:
            InvalidInput: No such name.
            SeatrialError: It cannot be opened.
        """
        with self._lock:
            if name not in self._open:
                if name not in self._rivals:
                    raise InvalidInput(f"no model {name!r} to compare with")
                self._open[name] = self._rivals[name]()
            return self._open[name]

    def close(self) -> None:
        """Close all that are open."""
        with contextlib.ExitStack() as stack:
            for model in (self.shown, *self._open.values()):
                stack.callback(model.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
