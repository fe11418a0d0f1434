"""The service of this working tree against that of another commit, measured by turns.

python benchmarks/against_commit.py COMMIT [--engine openvino] [--precision f32]
                                    [--rounds 7] [--seconds 6]

Both services run at the same time, and only one of them is under load. The order changes from
round to round. A ratio is taken within the round; what is printed is the median of the rounds.
One request at a time has turns of a few calls, as long as all rounds together (see
`single_stream`); with `--rounds 0` for 60 s, and nothing else is measured.

The CPU time per request is that of the service's processes under load. It depends far less on
neighbours of the machine than the rate does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import measure
import single_stream

from seatrial.serve.address import free_port

READY_WITHIN_S, ALONE_S = 120.0, 60.0
SESSIONS = 8
FIGURES = ("served_per_s", "service_cpu_ms_per_request")


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("commit")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    measure.need_shared()
    images = measure.encoded(64, only_hw=(480, 640))
    rows: dict[str, dict[str, list[float]]] = {
        side: {figure: [] for figure in FIGURES} for side in ("before", "after")
    }
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seatrial-old-")))
        old = stack.enter_context(checkout(options.commit, scratch / "tree"))
        sides = {
            "before": stack.enter_context(served(old, scratch / "before", options)),
            "after": stack.enter_context(served(measure.ROOT, scratch / "after", options)),
        }
        for number in range(options.rounds):
            order = list(sides) if number % 2 == 0 else list(reversed(sides))
            for side in order:
                url, pid = sides[side]
                to, requests = measure.jpeg_bodies(url, images)
                begun_s = measure.cpu_s(pid)
                busy = measure.load(to, requests, SESSIONS, options.seconds)
                used_ms = 1000 * (measure.cpu_s(pid) - begun_s)
                rows[side]["served_per_s"].append(measure.throughput(busy))
                used_ms /= measure.requests_of(busy)
                rows[side]["service_cpu_ms_per_request"].append(used_ms)
        ways: dict[str, single_stream.Way] = {}
        for side, (url, _) in sides.items():
            ways[side], close = single_stream.over_http(url)
            stack.callback(close)
        single_stream.by_turns(ways, images, 3.0)
        alone_s = options.rounds * options.seconds or ALONE_S
        calls, _ = single_stream.by_turns(ways, images, alone_s)
    figures: dict[str, object] = {"commit": options.commit}
    for side, bursts in calls.items():
        figures[f"{side}, ms"] = single_stream.medians_ms(bursts)
    for stage in ("latency", "overhead"):
        difference = single_stream.difference_ms(calls["after"], calls["before"], stage)
        figures[f"{stage} after - before, ms"] = difference
    for figure in FIGURES if options.rounds else ():
        before, after = rows["before"][figure], rows["after"][figure]
        ratios = [b / a for a, b in zip(before, after, strict=True)]
        figures |= {
            f"{figure}_before": statistics.median(before),
            f"{figure}_after": statistics.median(after),
            f"{figure}_ratio": statistics.median(ratios),
            f"{figure}_ratio_rounds": measure.rounded(ratios, 4),
        }
    measure.save(f"against_commit-{options.engine}-{options.precision}", figures)


@contextlib.contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The tree of a commit in a folder of its own."""
    git = ["git", "-C", str(measure.ROOT)]
    subprocess.run([*git, "worktree", "add", "-q", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "worktree", "remove", "--force", str(folder)], check=True)


@contextlib.contextmanager
def served(tree: Path, home: Path, options: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """The URL and the process of a service that runs the code of a tree."""
    port = free_port("127.0.0.1")
    command = [
        sys.executable, "-m", "seatrial.cli.main", "serve", "--model", str(measure.MODEL),
        "--engine", options.engine, "--precision", options.precision, "--port", str(port),
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "SEATRIAL_HOME": str(home)}
    home.mkdir()
    with (home / "service.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process, home / "service.log")
        yield url, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Leave with the log where the service does not start."""
    begun = time.monotonic()
    while time.monotonic() - begun < READY_WITHIN_S and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{url}/readyz", timeout=2),
        ):
            return
        time.sleep(0.2)
    sys.exit(f"the service did not start:\n{log.read_text()}")


if __name__ == "__main__":
    main()
