"""Server processes that die or stop, under the real supervisor."""

from __future__ import annotations

import concurrent.futures
import inspect
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import circus.arbiter
import circus.sighandler
import circus.util
import circus.watcher
import httpx
import psutil
import pytest

import local_http
from seatrial.deployment import CoreLayout, Limits
from seatrial.serve.process import ServiceProcess
from seatrial.serve.runtimes.supervisor import WORKER, _cause, _own_words

Start = Callable[..., ServiceProcess]
Until = Callable[[Callable[[], Any]], Any]

pytestmark = pytest.mark.usefixtures("time_limit")


def workers(service: ServiceProcess) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


@pytest.mark.slow
def test_a_process_that_is_killed_is_logged_counted_and_replaced_at_once(
    start_service: Start, photo: bytes, until: Until
) -> None:
    with start_service(engine="null", layout=CoreLayout(workers=2)) as service:
        first, second = workers(service)
        # A process that imports no BentoML, as `OwnWorker` says.
        assert "seatrial.serve.runtimes.worker" in first.cmdline()
        first.kill()
        # The other one serves; the supervisor does not wait for its next look, 10 s later.
        assert local_http.post(f"{service.url}/detect", content=photo).status_code == 200
        began = time.monotonic()
        until(lambda: len({p.pid for p in workers(service)} - {first.pid, second.pid}) == 1)
        assert time.monotonic() - began < 8
        deaths = "seatrial_worker_deaths_total 1.0"
        until(lambda: deaths in local_http.get(f"{service.url}/metrics").text)
        log = service._log.read_text()
        said = f"error: server process {first.pid} was ended by SIGKILL: another one is started"
        assert log.count(said) == 1
    assert service._log.read_text().count("error: server process") == 1  # an end is no death


# While a file is there, the supervisor starts a process or looks after one: it takes no command.
BUSY = """
from pathlib import Path
from seatrial.serve.runtimes import supervisor

look, folder = supervisor._look_at_once, Path(__file__).parent


def looks(arbiter, **facts):
    def busy():
        wanted = (folder / "busy").exists()
        arbiter._exclusive_running_command = "another" if wanted else None
        if wanted:
            (folder / "is-busy").touch()
        if not (folder / "over").exists():
            arbiter.loop.call_later(0.02, busy)

    busy()
    return look(arbiter, **facts)


supervisor._look_at_once = looks
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_comes_while_the_supervisor_is_busy_is_not_forgotten(
    start_service: Start, until: Until, number: int
) -> None:
    with start_service(engine="null", code=BUSY) as service:
        folder = Path(workers(service)[0].cwd())
        (folder / "busy").touch()
        until((folder / "is-busy").exists)
        service.process.send_signal(number)
        time.sleep(0.3)
        assert service.process.poll() is None
        (folder / "busy").unlink()
        (folder / "over").touch()
        assert service.process.wait(30) == 0


@pytest.mark.slow
def test_a_process_that_is_stopped_for_a_while_loses_no_request(
    start_service: Start, photo: bytes, until: Until
) -> None:
    limits = Limits(deadline_s=0.5)
    with start_service(engine="null", limits=limits) as service:
        (worker,) = workers(service)
        worker.send_signal(signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            sent = [
                pool.submit(httpx.post, f"{service.url}/detect", content=photo, timeout=30)
                for _ in range(8)
            ]
            time.sleep(3)
            assert not any(answer.done() for answer in sent)
            worker.send_signal(signal.SIGCONT)
            statuses = {answer.result().status_code for answer in sent}
        assert statuses <= {200, 503, 504}
        # What it has learnt of times while it stood still may make it refuse a few.
        until(lambda: local_http.post(f"{service.url}/detect", content=photo).status_code == 200)
        assert workers(service) == [worker]
        page = local_http.get(f"{service.url}/metrics").text
        assert 'seatrial_lane_faults_total{reason="stuck"} 0.0' in page


def test_causes_in_words() -> None:
    assert _cause(-9) == "was ended by SIGKILL"
    assert _cause(-70) == "was ended by signal 70"
    assert _cause(6) == "ended with code 6"
    assert _cause(None) == "ended with code None"


def test_another_process_than_bentomls_is_started_where_it_can_take_its_place() -> None:
    given = ["-m", WORKER, "x", "--fd", "$(circus.sockets.api)", "--worker-id", "$(CIRCUS.WID)",
             "--backlog", "9"]  # fmt: skip
    own = _own_words(given, Path("/s/service.py"), 3)
    assert own == [
        "-m", "seatrial.serve.runtimes.worker", "/s/service.py", "$(circus.sockets.api)",
        "$(CIRCUS.WID)", "9", "3",
    ]  # fmt: skip
    encrypted = [*given, "--ssl-certfile", "c.pem"]
    assert _own_words(encrypted, Path("/s/service.py"), 3) == encrypted
    another = ["-m", "another.worker"]
    assert _own_words(another, Path("/s/service.py"), 3) == another


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what BentoML imports
def test_what_is_used_of_bentoml_is_there() -> None:
    """None of it is documented: another version may have changed it."""
    from _bentoml_impl.server import serving
    from bentoml._internal.configuration.containers import BentoMLContainer

    assert serving._SERVICE_WORKER_SCRIPT == WORKER
    source = inspect.getsource(serving.serve_http)
    for name in ("--fd", "--worker-id", "--backlog", "_SERVICE_WORKER_SCRIPT"):
        assert name in source
    assert "ensure_prometheus_dir()" in source
    assert callable(BentoMLContainer.prometheus_multiproc_dir.set)


def test_what_is_used_of_circus_is_there() -> None:
    """None of it is documented: another version may have changed it."""
    options = inspect.signature(circus.watcher.Watcher.__init__).parameters
    assert {"graceful_timeout", "hooks", "respawn"} <= set(options)
    source = inspect.getsource(circus.watcher.Watcher)
    for hook in ("before_start", "before_stop"):
        assert f"call_hook('{hook}')" in source
    assert 'call_hook("after_reap"' in source.replace("'", '"')
    assert '"exit_code": exit_code' in source
    assert "_stopping" in inspect.getsource(circus.arbiter.Arbiter)
    assert "_exclusive_running_command" in inspect.getsource(circus.util.synchronized)
    handler = inspect.getsource(circus.sighandler.SysHandler)
    assert 'self.controller.dispatch, (None, make_json("quit"))' in handler
    assert handler.count("self.quit()") > 2
    assert "def _register(self):" in handler
    assert callable(circus.arbiter.Arbiter.manage_watchers)
