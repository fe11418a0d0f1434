"""What the demonstration's pages add to the service behind them, in a real browser.

    python benchmarks/demo.py [--rounds 3]

Needs the extra demo, playwright and a Chromium on PATH. Times are the page's own clock: from the
file chosen (the input's change event) to the picture with its boxes drawn (its load event), less
the service's own time for that request. First picture: from the start of the command to the same
event, with the page opened and a file chosen as soon as the address is printed; once to warm up,
then as often as there are rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
from playwright.sync_api import sync_playwright

from seatrial.deployment import Deployment
from seatrial.system.versions import versions

FRONT_ENDS = ("gradio", "streamlit")
SIZE_HW = (480, 640)
PICTURES = 12
PATIENCE_MS = 60_000
WATCH = """
window.times = {};
document.addEventListener("change", event => {
    if (event.target.type == "file") window.times = {chosen: performance.now()};
}, true);
document.addEventListener("load", event => {
    if (event.target.naturalWidth == WIDTH) window.times.shown = performance.now();
}, true);
"""
TOTAL = """name => document.body.innerText.includes(name) && window.times.shown &&
    [...document.querySelectorAll(".seatrial-rows tr")]
        .filter(row => row.checkVisibility() && row.cells[0].innerText == "total")
        .map(row => parseFloat(row.cells[1].innerText))[0]"""


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measure.need_shared()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("skipped: no chromium on PATH")
    artifact = measure.open_artifact()
    model = str(artifact.path)
    added: dict[str, list[float]] = {name: [] for name in FRONT_ENDS}
    service_ms: dict[str, list[float]] = {name: [] for name in FRONT_ENDS}
    first_s: dict[str, list[float]] = {name: [] for name in FRONT_ENDS}
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        files = _files(Path(scratch), options.rounds)
        browser = playwright.chromium.launch(executable_path=chromium)
        for number in range(options.rounds + 1):
            for name in FRONT_ENDS:
                begun = time.perf_counter()
                with _demo(name, "--model", model) as url:
                    page = _open(browser, url)
                    _look(page, files[0])
                    if number:
                        first_s[name].append(time.perf_counter() - begun)
                    page.context.close()
        with measure.served(artifact, Deployment("model")) as service, contextlib.ExitStack() as on:
            pages = {}
            for name in FRONT_ENDS:
                pages[name] = _open(browser, on.enter_context(_demo(name, "--url", service.url)))
                _look(pages[name], files[0])
            for number in range(options.rounds):
                for name, page in pages.items():
                    for file in files[1 + number * PICTURES :][:PICTURES]:
                        seen_ms, total_ms = _look(page, file)
                        added[name].append(seen_ms - total_ms)
                        service_ms[name].append(total_ms)
        browser_version = browser.version
        browser.close()
    measure.save(
        "demo",
        {
            name: {
                "first picture after, s": statistics.median(first_s[name]),
                "service p50, ms": statistics.median(service_ms[name]),
                "added by the page p50, ms": statistics.median(added[name]),
                "added by the page, highest, ms": max(added[name]),
                "pictures": len(added[name]),
                "front end": versions(name)[name],
                "Chromium": browser_version,
            }
            for name in FRONT_ENDS
        },
    )


def _files(folder: Path, rounds: int) -> list[Path]:
    """One picture to warm up, and as many as there are for each round.

    Pages remember what they saw: the same picture comes with another comment in each round.
    """
    pictures = measure.encoded(only_hw=SIZE_HW)[:PICTURES]
    files = []
    for number in range(1 + rounds * len(pictures)):
        data = pictures[number % len(pictures)]
        comment = b"\xff\xfe\x00\x06" + number.to_bytes(4, "big")  # ITU T.81, B.2.4.5
        files.append(folder / f"picture-{number:03d}.jpg")
        files[-1].write_bytes(data[:2] + comment + data[2:])
    return files


@contextlib.contextmanager
def _demo(front_end: str, *arguments: str) -> Iterator[str]:
    """The command as a process, and the address that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "seatrial.cli.main", "demo", front_end, *arguments, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "SEATRIAL_HOME": str(measure.ROOT / "run" / "benchmarks")},
    )
    said = ""
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said += line
            if found := re.match(r"http://\S+(?=  \(Ctrl-C)", line):
                yield found[0]
                return
        sys.exit(f"the demonstration ended:\n{said}")
    finally:
        process.terminate()
        process.communicate()


def _open(browser: Any, url: str) -> Any:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script(WATCH.replace("WIDTH", str(SIZE_HW[1])))
    page.goto(url)
    return page


def _look(page: Any, file: Path) -> tuple[float, float]:
    """Give a file to the page: milliseconds until its boxes are seen, and the service's own."""
    page.locator("input[type=file]").first.set_input_files(file)
    total_ms = page.wait_for_function(TOTAL, arg=f"in {file.name}").json_value()
    times = page.evaluate("window.times")
    return times["shown"] - times["chosen"], total_ms


if __name__ == "__main__":
    main()
