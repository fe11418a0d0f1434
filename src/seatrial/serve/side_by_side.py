"""Several images of one request: side by side on the lanes, and in turn with other requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from starlette.types import Message

from seatrial.deployment import Thresholds
from seatrial.detect.decode import foretold_cost
from seatrial.detect.detector import Detected
from seatrial.errors import InvalidImage, naming
from seatrial.serve.admission import Dispatcher
from seatrial.serve.asked import Asked
from seatrial.serve.forecast import Promise
from seatrial.serve.tickets import Admitted

T = TypeVar("T")


async def detect_images(
    dispatcher: Dispatcher,
    ticket: Admitted,
    images: Sequence[memoryview],
    options: Thresholds,
    finish: Callable[[Detected, Admitted, memoryview], T],
    gone: asyncio.Future[Message],
) -> list[T]:
    """Detect in each image, on threads of the service.

    One more image than the lanes take is under way at a time: the lanes stay busy while the next
    image is decoded, and a request that comes meanwhile waits for no more than these.

    Args:
        dispatcher: Runs them.
        ticket: The request's ticket, held; it takes no lane itself.
        images: Encoded images.
        options: Thresholds.
        finish: Makes of a result, the ticket of its image and the encoded image what is kept; on
            the image's thread.
        gone: See `Dispatcher.work`.

    Raises:
        Overloaded: All of them would not be answered by the deadline.
        InvalidImage: To decode them all takes longer than a live request may.
        DeadlineExceeded: They were not.
        Abandoned: The client went away.
        InvalidInput: See `Detector.detect`; the message names the image by its index.
    """
    found: dict[int, T] = {}
    # All headers are read before the first image is decoded: a request is refused whole.
    bounds_s = await asyncio.to_thread(_bounds_s, images)
    with _promised(dispatcher, ticket, images, bounds_s) as promises:
        waiting = iter(range(len(images)))

        async def lane() -> None:
            for index in waiting:
                asked = Asked(0, max(1e-6, ticket.remaining_s()), ticket.batch)
                with Admitted(dispatcher, promises[index], asked, 0) as own, _named(index):
                    own.deadline_s = ticket.deadline_s  # as a message names it
                    own.names_deadline = ticket.names_deadline
                    own.one_of_several = True

                    def work(index: int = index, own: Admitted = own) -> T:
                        result = dispatcher.detect(own, images[index], options)
                        return finish(result, own, images[index])

                    ticket.check()
                    found[index] = await dispatcher.work(own, work, gone)

        width = min(len(images), dispatcher.detector.at_a_time + 1)
        lanes = [asyncio.ensure_future(lane()) for _ in range(width)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for one in lanes:
                one.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
    return [found[index] for index in range(len(images))]


def _named(index: int) -> contextlib.AbstractContextManager[None]:
    return naming(f"image {index}")


def _bounds_s(images: Sequence[memoryview]) -> list[float]:
    """Most CPU time that each image takes to decode, seconds."""
    return [foretold_cost(image).cpu_s for image in images]


def check_together(dispatcher: Dispatcher, ticket: Admitted, bound_s: float) -> None:
    """Refuse images of which decoding alone takes longer than a request may.

    A live request keeps others waiting, and names its deadline itself: whatever it says, it has the
    deployment's. A batch has its own.

    Args:
        dispatcher: Runs them.
        ticket: The request's ticket, held.
        bound_s: Most CPU time that decoding takes, of all images together.

    Raises:
        InvalidImage: It is foretold to take longer.
    """
    limit_s = dispatcher.deadline_s
    if ticket.batch:
        limit_s = max(limit_s, ticket.deadline_s)
    foretold_s = dispatcher.forecast.pace * bound_s / dispatcher.detector.at_a_time
    if foretold_s > limit_s:
        kind = "a batch" if ticket.batch else "a live request"
        raise InvalidImage(
            f"the images would take {1e3 * foretold_s:.0f} ms to decode, and {kind} has "
            f"{1e3 * limit_s:.0f} ms for that",
            hint="send fewer at a time, or as a batch with more time",
        )


@contextlib.contextmanager
def _promised(
    dispatcher: Dispatcher,
    ticket: Admitted,
    images: Sequence[memoryview],
    bounds_s: Sequence[float],
) -> Iterator[list[Promise]]:
    """A forecast of each image in the place of the request's; those that never ran are withdrawn.

    Raises:
        Overloaded: The last of them would be too late.
    """
    forecast = dispatcher.forecast
    forecast.ended(ticket.promise)
    ticket.expire_with_body()
    check_together(dispatcher, ticket, sum(bounds_s))
    promises: list[Promise] = []
    try:
        for image, bound_s in zip(images, bounds_s, strict=True):
            promise = forecast.promise(len(image), batch=ticket.batch)
            forecast.accept(promise)
            promises.append(promise)
            forecast.arrived(promise)
            if forecast.work_s(bound_s) > promise.work_s:
                forecast.weighed(promise, bound_s)
        dispatcher.check_deadline(promises[-1], ticket.remaining_s(), here=1)
        yield promises
    finally:
        for promise in promises:
            forecast.ended(promise)
