"""Files that changed are noticed, however they were replaced."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from seatrial.serve.watched_files import WatchedFiles

pytestmark = pytest.mark.usefixtures("time_limit")


def test_each_way_of_changing_a_file_is_noticed(tmp_path: Path) -> None:
    file, link, calls = tmp_path / "a", tmp_path / "link", []
    file.write_text("one")
    link.symlink_to("a")
    watch = WatchedFiles([link], lambda: calls.append(1), every_s=1e6)
    watch.look()
    assert calls == []
    file.write_text("longer")
    watch.look()
    other = tmp_path / "b"
    other.write_text("longer")
    os.replace(other, file)  # of the same size
    watch.look()
    (tmp_path / "c").write_text("longer")
    turned = tmp_path / "turned"
    turned.symlink_to("c")
    os.replace(turned, link)  # as Kubernetes turns its secrets
    watch.look()
    times = (tmp_path / "c").stat()
    (tmp_path / "d").write_text("lonGer")
    os.utime(tmp_path / "d", ns=(times.st_atime_ns, times.st_mtime_ns))
    os.replace(tmp_path / "d", tmp_path / "c")  # of the same time as well
    watch.look()
    assert len(calls) == 4
    (tmp_path / "c").unlink()
    watch.look()
    watch.look()
    watch.close()
    assert len(calls) == 5


def test_a_thread_looks_by_itself_until_it_is_closed(tmp_path: Path) -> None:
    file, noticed = tmp_path / "a", threading.Event()
    file.write_text("one")
    watch = WatchedFiles([file], noticed.set, every_s=0.01)
    file.write_text("another")
    assert noticed.wait(60)
    watch.close()


def test_an_error_does_not_end_the_watch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, calls, noticed = tmp_path / "a", [0], threading.Event()
    file.write_text("one")

    def fail_once() -> None:
        calls[0] += 1
        if calls[0] == 1:
            file.write_text("another")
            raise ZeroDivisionError
        noticed.set()

    watch = WatchedFiles([file], fail_once, every_s=0.01)
    file.write_text("the second")
    assert noticed.wait(60)
    watch.close()
    assert "ZeroDivisionError" in caplog.text


def test_without_files_there_is_no_thread() -> None:
    before = threading.active_count()
    WatchedFiles([], lambda: None).close()
    assert threading.active_count() == before
