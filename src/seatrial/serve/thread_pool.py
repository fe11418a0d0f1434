"""Threads that work for an event loop.

`concurrent.futures` makes a future with a lock, a condition and a list for each piece of work, and
asks a semaphore written in Python for an idle thread. Here a piece of work is one object, and its
end is one call.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from seatrial.serve.log import GoesOn
from seatrial.system.frames import release_frames

T = TypeVar("T")
# Takes what the work gave, or what it raised; on the thread.
Done = Callable[[Any, BaseException | None], object]


class Job(Generic[T]):
    """A piece of work on its way to a thread, and until it has ended there.

    Args:
        work: The work.
        done: Called on the thread at its end.

    Attributes:
        ended: Whether the work is over.
    """

    __slots__ = ("done", "dropped", "ended", "error", "result", "work")

    def __init__(self, work: Callable[[], T], done: Done) -> None:
        self.work, self.done = work, done
        self.ended = self.dropped = False
        self.result: T | None = None
        self.error: BaseException | None = None

    def drop(self) -> None:
        """Do not begin it, if no thread has yet; its end is told all the same."""
        self.dropped = True

    def run(self) -> None:
        """Do the work."""
        if not self.dropped:
            try:
                self.result = self.work()
            except BaseException as error:  # noqa: BLE001 - whoever waits for it decides
                self.error = error
        self.ended = True

    def tell(self) -> None:
        """Tell its end, and keep nothing of it: whoever submitted it may keep the job."""
        result, error = self.result, self.error
        self.result = self.error = None
        release_frames(error)
        try:
            self.done(result, error)
        finally:
            del result, error  # a traceback holds this frame, and the image


class ThreadPool:
    """Threads, which are started when they are needed.

    Args:
        most: Largest number of threads.
        name: Beginning of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._idle = 0  # threads that no job was put into the queue for
        self._closed = False
        self._lock = threading.Lock()

    def submit(self, job: Job[Any]) -> None:
        """Have a thread do some work.

        Raises:
            RuntimeError: The pool is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("no work is taken any more: the threads are closed")
            if self._idle:
                self._idle -= 1
            elif len(self._threads) < self._most:
                self._start()
            self._jobs.put(job)

    def close(self, *, wait: bool) -> None:
        """Take no more work.

        Args:
            wait: Whether to wait for what was submitted; without it, what has not begun is dropped.
        """
        with self._lock:
            self._closed = True
            threads = tuple(self._threads)
        if not wait:
            self._drop_all()
        for _ in threads:
            self._jobs.put(None)
        for thread in threads if wait else ():
            thread.join()

    def _drop_all(self) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.drop()
                job.run()
                job.tell()

    def _start(self) -> None:
        # One that is stuck in an engine must not keep the process from ending.
        name = f"{self._name}_{len(self._threads)}"
        thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        goes_on = GoesOn("the end of a piece of work was not told")
        while (job := self._jobs.get()) is not None:
            job.run()
            with self._lock:  # before the next job can come
                self._idle += 1
            with goes_on:  # a thread that ended here would be taken for an idle one
                job.tell()
            del job  # not kept until the next one
