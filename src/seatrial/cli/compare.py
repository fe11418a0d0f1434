"""``seatrial compare``: services against each other, and a service over its history."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter

from seatrial.bench.compare_options import CompareOptions, law_of, percent_of
from seatrial.bench.options import require_client
from seatrial.cli.console import command_line, err, out, print_json, progress_display
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.verdict import leave, show_verdict
from seatrial.errors import InvalidConfig
from seatrial.load.arrivals import ClosedLoop
from seatrial.system.extras import check_installed

if TYPE_CHECKING:
    from seatrial.bench.compare import StartService
    from seatrial.bench.compare_report import CompareReport, Contender, ContenderKind
    from seatrial.load.target import Target

REPORT = "report.json"
ADDRESSES = ("http://", "https://", "grpc://", "grpcs://")
LABELS = "ABCDEFGH"


def compare(
    what: tuple[str, ...] = (),
    /,
    *,
    options: Annotated[CompareOptions, Parameter(name="*")] = CompareOptions(),  # noqa: B008  frozen
    credentials: CredentialOptions | None = None,
    fail_if_slower: str | None = None,
    force: bool = False,
    history: Path | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
    json: bool = False,
) -> None:
    """Say whether B is faster or slower than A, the same, or not to be told apart from it.

    A, B and more are deployments, which are started; addresses of running services; or reports
    that seatrial bench wrote. Services are measured in turn, in rounds of the order A B B A, with
    one under load at a time; each round is one vote. Writes compare.html and compare.json.

    With --history alone, it finds the commits at which the figures of a service changed.

    Args:
        what: Two or more: deployment files (TOML), names of models, addresses, or reports (JSON).
            The first is what the others are compared with.
        options: How to measure.
        credentials: What running services want to see.
        fail_if_slower: Share by which none may be slower than the first: 5%. Exit code 8: one is
            slower by more; 9: it cannot be decided.
        force: Compare reports of different machines or images.
        history: File that seatrial bench --history wrote.
        output: Folder for compare.html and compare.json.
        json: Print the comparison as JSON.
    """
    check_installed("scipy", extra="bench", purpose="comparing services")
    if history is not None:
        if what or fail_if_slower is not None:
            raise InvalidConfig(
                "--history shows the changes of one history; it compares nothing else",
                hint=f"seatrial compare --history {history}",
            )
        _show_history(history, json=json)
        return
    from seatrial.system.files import check_writable

    most = None if fail_if_slower is None else percent_of(fail_if_slower, "--fail-if-slower")
    contenders = contenders_of(what)
    check_writable(output)
    if contenders[0].kind == "report":
        report = _of_reports(contenders, options, force=force)
    else:
        if force:
            raise InvalidConfig("--force is for reports", hint="leave it out")
        report = _of_services(contenders, options, credentials or CredentialOptions())
    if most is not None:
        from seatrial.bench.compare_words import verdict_of

        report = msgspec.structs.replace(report, verdict=verdict_of(report, most))
    _show(report, output, json=json)


def contenders_of(words: Sequence[str]) -> list[Contender]:
    """The services or reports that the words of the command name.

    Raises:
        InvalidConfig: Fewer than two, more than eight, or reports beside services.
    """
    from seatrial.bench.compare_report import Contender

    if not 2 <= len(words) <= len(LABELS):
        raise InvalidConfig(
            f"{len(words)} given to compare; 2 to {len(LABELS)} are needed",
            hint="seatrial compare before.toml after.toml --images FOLDER",
        )
    found = [
        Contender(label, word, _kind(word)) for label, word in zip(LABELS, words, strict=False)
    ]
    kinds = {one.kind for one in found}
    if "report" in kinds and len(kinds) > 1:
        raise InvalidConfig(
            "a report was measured before, and is compared with reports alone",
            hint="name the deployment that the report is of, and both are measured in turn",
        )
    return found


def _kind(word: str) -> ContenderKind:
    if word.lower().startswith(ADDRESSES):
        return "service"
    if re.fullmatch(r"[\w.-]+:\d+", word):
        raise InvalidConfig(f"{word} has no scheme", hint=f"a service is named http://{word}")
    if Path(word, REPORT).is_file() and not Path(word, "manifest.json").exists():
        raise InvalidConfig(f"{word} is a folder with a report", hint=f"name {word}/{REPORT}")
    return "report" if word.lower().endswith(".json") else "deployment"


def _of_reports(
    contenders: Sequence[Contender], options: CompareOptions, *, force: bool
) -> CompareReport:
    from seatrial.bench.compare_reports import compare_reports

    plain = CompareOptions(
        percentile=options.percentile,
        sessions=options.sessions,
        rate=options.rate,
        arrivals=options.arrivals,
        same_within=options.same_within,
    )
    if options != plain:
        raise InvalidConfig(
            "reports have been measured: of the options of a measurement only --percentile, "
            "--sessions, --rate, --arrivals and --same-within are for them",
            hint="leave the others out, or name deployments",
        )
    law = law_of(options)
    return compare_reports(
        contenders,
        [Path(one.name) for one in contenders],
        figure=options.percentile,
        sessions=options.sessions,
        law=None if isinstance(law, ClosedLoop) else law.words(),
        margin=options.margin,
        force=force,
        command=command_line(),
    )


def _of_services(
    contenders: Sequence[Contender], options: CompareOptions, credentials: CredentialOptions
) -> CompareReport:
    require_client()
    from seatrial.bench.compare import measure_comparison
    from seatrial.bench.compare_options import check_compare
    from seatrial.load.images import load_images

    check_compare(options)
    if options.images is None:
        raise InvalidConfig("no images to send", hint="--images FOLDER")
    url = next((one.name for one in contenders if one.kind == "service"), None)
    shown = credentials.read(url)
    named, starting, pixels = _starting(contenders)
    folder = Path(options.images)
    images = load_images(folder, limit=options.image_limit, seed=options.seed, max_pixels=pixels)
    try:
        with progress_display() as on_progress:
            return measure_comparison(
                named,
                starting,
                options,
                images,
                on_progress=on_progress,
                command=command_line(),
                credentials=shown,
            )
    except KeyboardInterrupt:
        err.print("no report was written")
        raise


def _starting(
    contenders: Sequence[Contender],
) -> tuple[list[Contender], StartService, int | None]:
    """The contenders with their deployments, what starts them, and the largest image of all."""
    from seatrial.api.services import started
    from seatrial.load.target import Target
    from seatrial.progress import silent

    opened, named, pixels = {}, [], []
    for one in contenders:
        if one.kind != "deployment":
            named.append(one)
            continue
        options = _deployment_options(one.name)
        deployment = options.resolve()
        opened[one.label] = deployment, options.open(deployment)
        pixels.append(deployment.limits.image_pixels)
        told = msgspec.to_builtins(deployment)
        if options.deployment is not None:  # the report does not show the file's folder
            told["model"] = deployment.model.removeprefix(
                f"{options.deployment.absolute().parent}/"
            )
        named.append(msgspec.structs.replace(one, deployment=told))

    @contextlib.contextmanager
    def start(contender: Contender) -> Iterator[Target]:
        if contender.label not in opened:
            yield Target(contender.name)
            return
        with started(*opened[contender.label], silent) as service:
            yield Target(service.url)

    return named, start, min(pixels, default=None)


def _deployment_options(word: str) -> DeploymentOptions:
    if word.endswith(".toml"):
        return DeploymentOptions(deployment=Path(word))
    return DeploymentOptions(model=word)


def _show(report: CompareReport, output: Path, *, json: bool) -> None:
    """Print the comparison, write it, and end with the verdict's exit code."""
    from seatrial.bench.compare_page import write_comparison
    from seatrial.bench.compare_terminal import render_comparison

    # Printed first: a disk that has filled up meanwhile loses no measurement.
    if json:
        print_json(report)
    else:
        out.print(render_comparison(report))
    try:
        html, data = write_comparison(report, output / "compare.html")
        err.print(f"wrote {html} and {data}", highlight=False, soft_wrap=True)
    finally:
        if report.verdict is not None:
            show_verdict(report.verdict, json=json)
    leave(report.verdict)


def _show_history(path: Path, *, json: bool) -> None:
    """Print the changes of a history."""
    from seatrial.bench.history import HistoryChanges, read_history, series_of
    from seatrial.bench.history_terminal import render_history

    series = series_of(read_history(path))
    if json:
        print_json(HistoryChanges(series=tuple(series)))
    else:
        out.print(render_history(series))
