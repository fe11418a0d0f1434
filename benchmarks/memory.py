"""Memory of the service over many requests.

    python benchmarks/memory.py [--engine null] [--requests 20000] [--sessions 8]

RSS of all of the service's processes, sampled each second. Growth is the mean of the last tenth of
the run against the mean of the second tenth: the first tenth is warm-up.
"""

from __future__ import annotations

import argparse
import statistics
import threading

import measure
import psutil

from seatrial.deployment import Deployment


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--engine", default="null")
    parser.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    parser.add_argument("--model", default=str(measure.MODEL))
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--sessions", type=int, default=8)
    options = parser.parse_args()
    measure.need_shared()
    artifact = measure.open_artifact(options.model)
    deployment = Deployment("model", engine=options.engine, precision=options.precision)
    samples: list[float] = []
    done, over = 0, threading.Event()
    with measure.served(artifact, deployment) as service:
        root = psutil.Process(service.process.pid)
        family = [root, *root.children(recursive=True)]

        def watch() -> None:
            while not over.wait(1.0):
                samples.append(sum(p.memory_info().rss for p in family) / 1e6)

        watcher = threading.Thread(target=watch)
        watcher.start()
        to, requests = measure.jpeg_bodies(service.url, measure.encoded(53))
        while done < options.requests:
            done += len(measure.load(to, requests, options.sessions, 20.0).samples)
            print(done, f"{samples[-1]:.1f} MB", flush=True)
        over.set()
        watcher.join()
    tenth = max(1, len(samples) // 10)
    before, after = (statistics.mean(s) for s in (samples[tenth : 2 * tenth], samples[-tenth:]))
    measure.save(
        f"memory_{options.engine}",
        {
            "requests": done,
            "rss_after_warm_up_mb": before,
            "rss_at_end_mb": after,
            "growth": after / before - 1,
            "samples_mb": measure.rounded(samples, 1),
        },
    )


if __name__ == "__main__":
    main()
