"""Send a running service requests made from its own description, and check every answer against it.

python benchmarks/fuzz_interface.py --url http://127.0.0.1:3000 [--requests 1000] [--seed 0]

Half of the requests fit the description, and half break it somewhere (Schemathesis). A token comes
from SEATRIAL_TOKEN. Prints the number of answers by status, and what was wrong, as JSON; the exit
code is 1 where something was.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode, checks

checks.load_all_checks()
# 500 is checked here: 501, 503, 504 and 505 are answers that are meant.
CHECKS = [
    checks.CHECKS.get_one(name)
    for name in (
        "status_code_conformance", "content_type_conformance", "response_headers_conformance",
        "response_schema_conformance", "negative_data_rejection", "missing_required_header",
        "unsupported_method", "allow_header_conformance",
    )
]  # fmt: skip
REJECTION = checks.CHECKS.get_one("negative_data_rejection")
# Traces, memory addresses, and files of the machine.
LEAK = re.compile(rb'Traceback|File "|0x[0-9a-f]{6}|site-packages|\.py\b|/(?:home|work|usr|tmp)/')
SHOWN = 20  # failures
FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP"}


@dataclass
class Report:
    """The outcome of a run.

    Attributes:
        statuses: Number of answers by operation and status.
        failures: Operation and kind -> the first failure in words.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)


def picture(kind: str) -> bytes:
    """A small image file."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 16), (200, 30, 30)).save(buffer, kind)
    return buffer.getvalue()


def damaged(data: bytes, number: int) -> bytes:
    """The same file with some bytes changed, or cut off."""
    chance, out = random.Random(number), bytearray(data)
    for _ in range(chance.randint(1, 4)):
        out[chance.randrange(len(out))] = chance.randrange(256)
    return bytes(out[: chance.choice((len(out), len(out), chance.randrange(len(out))))])


@functools.cache
def know_images() -> None:
    """Tell Schemathesis what bodies of images look like."""
    files = [picture(kind) for kind in FORMATS.values()]
    whole = st.sampled_from(files)
    broken = st.builds(damaged, whole, st.integers(0, 2**16))
    for media_type in FORMATS:
        schemathesis.openapi.media_type(media_type, whole | broken)
    schemathesis.openapi.media_type(
        "application/octet-stream", whole | broken | st.binary(max_size=200)
    )


def fuzz(url: str, examples: int, number: int = 0, token: str | None = None) -> Report:
    """Send each operation so many requests of either kind.

    Args:
        url: Address of the service.
        examples: Requests that fit, and as many that do not, for each operation.
        number: Seed.
        token: Bearer token.
    """
    know_images()
    report, session = Report(), requests.Session()
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    described = session.get(f"{url}/openapi.json", headers=headers, timeout=60).json()
    schema = schemathesis.openapi.from_dict(described)
    for found in schema.get_all_operations():
        operation = found.ok()  # type: ignore[union-attr]
        for mode in GenerationMode:
            # Hypothesis has nothing to break where an operation takes nothing.
            takes = operation.body or any(map(len, (operation.query, operation.headers)))
            if mode is GenerationMode.NEGATIVE and not takes:
                continue
            send = functools.partial(_send, report, session, url, headers)
            _run(operation.as_strategy(generation_mode=mode), send, examples, number)
    return report


def _run(strategy: Any, send: Any, examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def each(case: Any) -> None:
        send(case)

    each()


def _send(report: Report, session: Any, url: str, headers: dict[str, str], case: Any) -> None:
    label = case.operation.label
    try:
        answer = case.call(base_url=url, session=session, headers=headers, timeout=60)
    except requests.RequestException as error:
        report.failures.setdefault(f"{label}: {type(error).__name__}", str(error)[:1000])
        return
    report.statuses[label, answer.status_code] += 1
    wrong = []
    if answer.status_code == 500:
        wrong.append(("500", answer.content[:300].decode("utf-8", "replace")))
    if answer.status_code >= 400 and (leak := LEAK.search(answer.content)):
        wrong.append(("leak", repr(leak[0])))
    # A request that breaks the description may be too slow or too long before that is seen.
    early = [REJECTION] if answer.status_code in (408, 413) else []
    try:
        case.validate_response(answer, checks=CHECKS, excluded_checks=early)
    except BaseException as error:  # a group of failures
        if isinstance(error, KeyboardInterrupt):
            raise
        kinds = [type(one).__name__ for one in getattr(error, "exceptions", [error])]
        wrong.append((" ".join(kinds), str(error)[:3000]))
    for kind, said in wrong:
        report.failures.setdefault(f"{label}: {kind}", said)


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--requests", type=int, default=1000, help="of each kind and operation")
    parser.add_argument("--seed", type=int, default=0)
    asked, begun = parser.parse_args(), time.monotonic()
    report = fuzz(asked.url, asked.requests, asked.seed, os.environ.get("SEATRIAL_TOKEN"))
    by_status = Counter[int]()
    for (_, status), count in report.statuses.items():
        by_status[status] += count
    shown = {
        "requests": by_status.total(),
        "seconds": round(time.monotonic() - begun),
        "statuses": dict(sorted(by_status.items())),
        "failures": dict(list(report.failures.items())[:SHOWN]),
    }
    print(json.dumps(shown, indent=1))
    sys.exit(bool(report.failures))


if __name__ == "__main__":
    main()
