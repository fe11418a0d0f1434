"""Clients of a running service, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

from seatrial.api.images import ImageLike, pixels
from seatrial.api.labelled import LabelledDetections
from seatrial.api.thresholds import changes
from seatrial.client.calls import PRIORITIES, Call, Calls, Deadline, Priority
from seatrial.client.retries import RetryBudget
from seatrial.client.transport import AsyncTransport, ThreadTransport
from seatrial.client.wire import ServedModel
from seatrial.detect.decode import as_served
from seatrial.detect.detector import MAX_PIXELS
from seatrial.detect.encode import jpeg, png
from seatrial.errors import InvalidConfig, InvalidInput, naming
from seatrial.system.files import read_bytes

T = TypeVar("T")
Encoding = Literal["png", "jpeg"]
ENCODINGS: tuple[Encoding, ...] = ("png", "jpeg")
JPEG_QUALITY = 95
TIMEOUT_S = 30.0
RETRIES = 3
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class _Asked:
    """Thresholds by name, priority and deadline of a call."""

    query: dict[str, Any]
    priority: Priority
    deadline_s: float | None


class _Base:
    """Common part of both clients: address, options, and what an image becomes."""

    _transport: type[ThreadTransport | AsyncTransport]

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        priority: Priority = "live",
        encoding: Encoding = "png",
        token: str | None = None,
        ca_file: str | PathLike[str] | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        self._calls = Calls(
            url, timeout_s=timeout_s, retries=retries, budget=RetryBudget(), token=token
        )
        self._priority: Priority = _one_of("priority", priority, PRIORITIES)
        self._encoding: Encoding = _one_of("encoding", encoding, ENCODINGS)
        self._connections: Any = self._transport(self.url, connections=connections, ca_file=ca_file)

    @property
    def url(self) -> str:
        """The address of the service."""
        return self._calls.url

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.url}>"

    def _asked(
        self,
        confidence: float | None,
        iou: float | None,
        max_detections: int | None,
        deadline_s: float | None,
        priority: Priority | None,
    ) -> _Asked:
        self._calls.deadline(deadline_s)  # a wrong one is an error of the call
        return _Asked(
            changes(confidence, iou, max_detections),
            self._priority if priority is None else _one_of("priority", priority, PRIORITIES),
            deadline_s,
        )

    def _encoded(self, image: ImageLike) -> bytes:
        """The bytes that are sent for an image."""
        if isinstance(image, bytes | bytearray | memoryview):
            return bytes(image)
        if isinstance(image, str | PathLike):
            data = read_bytes(Path(image))
            with naming(image):
                return as_served(data, max_pixels=MAX_PIXELS)
        array = pixels(image, max_pixels=MAX_PIXELS)
        return png(array) if self._encoding == "png" else jpeg(array, JPEG_QUALITY)

    def _call(self, data: bytes, asked: _Asked, deadline: Deadline) -> Call[LabelledDetections]:
        reply, names = yield from self._calls.detect(data, asked.query, deadline, asked.priority)
        return LabelledDetections(reply.detections, names, (reply.size.height, reply.size.width))


class Client(_Base):
    """A running service that is called with images, as a loaded detector is. Thread-safe.

    Connections stay open and are shared by threads; ``with seatrial.Client(url) as client`` closes
    them. Proxies of the environment are not used.

    A request that is refused because the service is overloaded (503), or whose connection fails or
    breaks, is sent again after a while: after the time that the service asks for (``Retry-After``)
    and a random one, and only if that is before the deadline. All calls of a client together send
    at most a tenth of their requests again, and 32.

    Args:
        url: Scheme, host and port: ``http://127.0.0.1:3000``; behind a proxy with a path.
        timeout_s: Longest time of a call that names no ``deadline_s``, seconds. The service is not
            told of it: its own deadline holds there.
        retries: Number of times that a request is sent again at most.
        priority: ``"live"`` or ``"batch"``, which the service works on while nothing else waits.
        encoding: How arrays and PIL images are sent: ``"png"`` keeps every pixel, so that the boxes
            are those of a detector in this process; ``"jpeg"`` (quality 95, without reduced
            colours) takes a tenth of the time. Files and bytes are sent as they are.
        token: Sent as ``Authorization: Bearer ...``.
        ca_file: Authorities that https certificates are checked by, PEM; default: the machine's.
        connections: Most connections at a time.

    Raises:
        InvalidConfig: A value cannot be used.
        MissingExtra: httpcore is not installed (the extra ``client``).
    """

    _transport = ThreadTransport

    def detect(
        self,
        image: ImageLike,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        deadline_s: float | None = None,
        priority: Priority | None = None,
    ) -> LabelledDetections:
        """Find objects in an image.

        Args:
            image: Path or bytes of an image file; a PIL image; or an (H, W, 3) uint8 RGB array. A
                path of a format that services do not take is sent as PNG.
            confidence: Lowest confidence reported, 0-1; default: the service's.
            iou: Boxes of one class that overlap more are one object, 0-1; default: the service's.
            max_detections: Most detections reported; default: the service's.
            deadline_s: Seconds that the whole call may take, retries and the encoding of the image
                included. The service is told how much of it is left, and refuses at once what it
                could not answer in time.
            priority: In place of the client's.

        Returns:
            The detections, as `LoadedDetector` gives them, rounded to 1/100 pixel and 1e-5.

        Raises:
            InvalidInput: The image cannot be read or decoded, here or by the service.
            InvalidConfig: An option is out of its range.
            Overloaded: The service has too much to do; ``wait_s`` says how long it would take.
            DeadlineExceeded: There was no answer in time.
            ServiceFailed: Nothing answers there, or something that is not a Seatrial service.
            SeatrialError: What else the service raised.
        """
        asked = self._asked(confidence, iou, max_detections, deadline_s, priority)
        return self._detect(image, asked)

    def detect_many(
        self,
        images: Iterable[ImageLike],
        *,
        concurrency: int | None = None,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        deadline_s: float | None = None,
        priority: Priority | None = None,
    ) -> Iterator[LabelledDetections]:
        """Find objects in many images, several at a time; their detections come in their order.

        The arguments are checked at the call. At most `concurrency` images and answers are held:
        an image is taken when there is room for it.

        Args:
            images: See `detect`; for example a generator.
            concurrency: Images at a time; default: what the service works on at a time, and one.
            confidence: See `detect`.
            iou: The same.
            max_detections: The same.
            deadline_s: The same, for each image.
            priority: The same.

        Yields:
            The detections of each image.

        Raises:
            SeatrialError: See `detect`; the first error ends the iteration. Errors of an image
                name its number.
        """
        asked = self._asked(confidence, iou, max_detections, deadline_s, priority)
        _check_concurrency(concurrency)
        _check_images(images)
        return self._many(images, concurrency, asked)

    def model(self) -> ServedModel:
        """The model that is served: name, digest, class names, engine, precision, thresholds.

        Raises:
            DeadlineExceeded: There was no answer in time.
            ServiceFailed: There is no service, or it does not describe itself.
        """
        return self._run(self._calls.model(self._calls.deadline()))

    def is_ready(self) -> bool:
        """Whether the service is ready; False too where nothing answers."""
        return self._run(self._calls.is_ready())

    def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """Wait until the service is ready.

        Args:
            timeout_s: Longest wait, seconds.

        Raises:
            ServiceFailed: It is not ready after that time.
        """
        self._run(self._calls.wait_until_ready(timeout_s))

    def close(self) -> None:
        """Close the connections; a call after this raises InvalidInput."""
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _detect(self, image: ImageLike, asked: _Asked) -> LabelledDetections:
        deadline = self._calls.deadline(asked.deadline_s)
        data = self._encoded(image)
        with _of(image):
            return self._run(self._call(data, asked, deadline))

    def _run(self, call: Call[T]) -> T:
        result: T = self._connections.run(call)
        return result

    def _many(
        self, images: Iterable[ImageLike], concurrency: int | None, asked: _Asked
    ) -> Iterator[LabelledDetections]:
        most = concurrency or self.model().concurrency
        waiting: deque[Future[LabelledDetections]] = deque()
        with ThreadPoolExecutor(most, "seatrial-client") as pool:
            try:
                for number, image in enumerate(images):
                    waiting.append(pool.submit(self._nth, number, image, asked))
                    while waiting and (len(waiting) >= most or waiting[0].done()):
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _nth(self, number: int, image: ImageLike, asked: _Asked) -> LabelledDetections:
        with naming(f"image[{number}]"):
            return self._detect(image, asked)


class AsyncClient(_Base):
    """`Client` for asyncio: the same calls to be awaited, ``async with`` to close it.

    A call that is cancelled ends its request, and the service does no more work on it. Images are
    read and encoded in threads. A client may be used from several event loops, one after the other.

    Args:
        url: See `Client`.
        timeout_s: The same.
        retries: The same.
        priority: The same.
        encoding: The same.
        token: The same.
        ca_file: The same.
        connections: The same.

    Raises:
        InvalidConfig: A value cannot be used.
        MissingExtra: httpcore is not installed (the extra ``client``).
    """

    _transport = AsyncTransport

    async def detect(
        self,
        image: ImageLike,
        *,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        deadline_s: float | None = None,
        priority: Priority | None = None,
    ) -> LabelledDetections:
        """Find objects in an image; arguments, result and errors are those of `Client.detect`."""
        asked = self._asked(confidence, iou, max_detections, deadline_s, priority)
        return await self._detect(image, asked)

    def detect_many(
        self,
        images: Iterable[ImageLike] | AsyncIterable[ImageLike],
        *,
        concurrency: int | None = None,
        confidence: float | None = None,
        iou: float | None = None,
        max_detections: int | None = None,
        deadline_s: float | None = None,
        priority: Priority | None = None,
    ) -> AsyncIterator[LabelledDetections]:
        """`Client.detect_many` for ``async for``; `images` may be an asynchronous iterator."""
        asked = self._asked(confidence, iou, max_detections, deadline_s, priority)
        _check_concurrency(concurrency)
        _check_images(images)
        return self._many(images, concurrency, asked)

    async def model(self) -> ServedModel:
        """See `Client.model`."""
        return await self._run(self._calls.model(self._calls.deadline()))

    async def is_ready(self) -> bool:
        """See `Client.is_ready`."""
        return await self._run(self._calls.is_ready())

    async def wait_until_ready(self, timeout_s: float = TIMEOUT_S) -> None:
        """See `Client.wait_until_ready`."""
        await self._run(self._calls.wait_until_ready(timeout_s))

    async def close(self) -> None:
        """Close the connections; a call after this raises InvalidInput."""
        await self._connections.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _detect(self, image: ImageLike, asked: _Asked) -> LabelledDetections:
        deadline = self._calls.deadline(asked.deadline_s)
        if isinstance(image, bytes):
            data = image
        else:
            data = await asyncio.to_thread(self._encoded, image)
        with _of(image):
            return await self._run(self._call(data, asked, deadline))

    async def _run(self, call: Call[T]) -> T:
        result: T = await self._connections.run(call)
        return result

    async def _many(
        self,
        images: Iterable[ImageLike] | AsyncIterable[ImageLike],
        concurrency: int | None,
        asked: _Asked,
    ) -> AsyncIterator[LabelledDetections]:
        most = concurrency or (await self.model()).concurrency
        waiting: deque[asyncio.Task[LabelledDetections]] = deque()
        number = 0
        try:
            async for image in _taken(images):
                waiting.append(asyncio.create_task(self._nth(number, image, asked)))
                number += 1
                while waiting and (len(waiting) >= most or waiting[0].done()):
                    yield await waiting[0]
                    waiting.popleft()
            while waiting:
                yield await waiting[0]
                waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _nth(self, number: int, image: ImageLike, asked: _Asked) -> LabelledDetections:
        with naming(f"image[{number}]"):
            return await self._detect(image, asked)


async def _taken(images: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(images, AsyncIterable):
        async for image in images:
            yield image
    else:
        for image in images:
            yield image


def _of(image: ImageLike) -> contextlib.AbstractContextManager[None]:
    """Errors about a file name it."""
    is_path = isinstance(image, str | PathLike)
    return naming(image) if is_path else contextlib.nullcontext()


def _one_of(name: str, value: T, known: tuple[T, ...]) -> T:
    if value not in known:
        raise InvalidConfig(f"{name} {value!r} is not one of {', '.join(map(str, known))}")
    return value


def _check_images(images: object) -> None:
    """Check that several images are given: a text would be taken letter by letter."""
    if isinstance(images, str | bytes | bytearray | memoryview | PathLike):
        raise InvalidInput(
            "detect_many takes several images, and this is one",
            hint="put it into a list, detect_many([image]), or call detect(image)",
        )


def _check_concurrency(concurrency: int | None) -> None:
    if concurrency is not None and (
        isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1
    ):
        raise InvalidConfig(f"concurrency {concurrency!r} is not a whole number from 1 on")
