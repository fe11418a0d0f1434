"""The detectors that a page can show: in this process, or running services."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from seatrial.accuracy.predict import InProcess, SeenImage, Subject
from seatrial.accuracy.service import RemoteDetector
from seatrial.artifact import Artifact
from seatrial.client.credentials import NONE, Credentials
from seatrial.deployment import Deployment, Thresholds
from seatrial.detect.opening import open_detector
from seatrial.errors import InvalidInput
from seatrial.progress import Progress, silent


class Model:
    """An open detector, and the threads that call it.

    Args:
        name: Name that was given on the command line or chosen in the page.
        subject: The detector.
        close: Closes the detector.
        usual: Thresholds at which the model is used, for the start of a page.
    """

    def __init__(
        self, name: str, subject: Subject, close: Callable[[], None], usual: Thresholds
    ) -> None:
        self.name = name
        self.usual = usual
        self.labels = subject.labels
        self.facts: dict[str, Any] = subject.describe()
        self._subject = subject
        self._close = close
        # Front ends call from a new thread for each visitor or click; a service has a connection
        # for each of these threads, which stays open.
        self._threads = ThreadPoolExecutor(subject.concurrency, "seatrial-demo")

    @property
    def title(self) -> str:
        """Name, engine, device and precision in one line."""
        facts = self.facts
        where = f" at {facts['url']}" if "url" in facts else ""
        return (
            f"{facts['name']}{where} ({facts['engine']}, {facts['device']}, {facts['precision']})"
        )

    def detect(
        self, images: Sequence[bytes], thresholds: Thresholds, on_progress: Progress = silent
    ) -> list[SeenImage]:
        """Find objects in encoded images.

        Args:
            images: JPEG, PNG or WebP files.
            thresholds: Thresholds of detections.
            on_progress: Called after each image, in order.

        Raises:
            InvalidInput: An image is refused.
            ServiceFailed: The service does not answer.
        """
        waiting = [self._threads.submit(self._subject.detect, data, thresholds) for data in images]
        try:
            found = []
            for future in waiting:
                found.append(future.result())
                on_progress("detecting", len(found), len(images))
            return found
        except BaseException:
            for future in waiting:
                future.cancel()
            raise

    def close(self) -> None:
        """Wait for running calls, and close the detector."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._close()


def open_artifact(name: str, artifact: Artifact, deployment: Deployment) -> Model:
    """A detector in this process.

    Args:
        name: Name that was given on the command line or chosen in the page.
        artifact: The model.
        deployment: Engine, precision, layout.

    Raises:
        SeatrialError: See `seatrial.engines.registry.open_engine`.
    """
    detector = open_detector(artifact, deployment)
    usual = deployment.detection.of(artifact.manifest)
    return Model(name, InProcess(detector), detector.close, usual)


def open_service(url: str, credentials: Credentials = NONE) -> Model:
    """A running service.

    Raises:
        InvalidConfig: The address is not an http(s) one.
        ServiceFailed: No service, or one that is no detector, answers there.
    """
    service = RemoteDetector(url, credentials=credentials)
    return Model(url, service, service.close, service.usual)


class Models:
    """The model that is shown, and those that it can be compared with.

    Args:
        shown: The model that the page is about, open; it is closed with the others.
        rivals: Name -> function that opens the model. It is called once, at the first use.
        first_rival: Name of the model to compare with at the start; None for none.
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
        """Names of the models to compare with."""
        return list(self._rivals)

    def rival(self, name: str) -> Model:
        """A model to compare with; it is opened at the first use.

        Raises:
            InvalidInput: There is no model of that name.
            SeatrialError: The model cannot be opened.
        """
        with self._lock:
            if name not in self._open:
                if name not in self._rivals:
                    raise InvalidInput(f"no model {name!r} to compare with")
                self._open[name] = self._rivals[name]()
            return self._open[name]

    def close(self) -> None:
        """Close all open models."""
        with contextlib.ExitStack() as stack:
            for model in (self.shown, *self._open.values()):
                stack.callback(model.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
