"""``seatrial trial``: the best deployment for a contract on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from seatrial.bench.options import require_client
from seatrial.cli.console import command_line, err, out, print_json, progress_display
from seatrial.cli.verdict import EXIT_CODES
from seatrial.report.table import Table

if TYPE_CHECKING:
    from seatrial.trial.trial_report import TrialReport


def trial(
    contract: Path,
    /,
    *,
    model: Annotated[tuple[str, ...], Parameter(consume_multiple=True)],
    dataset: str | None = None,
    annotations: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    skip_missing: bool = False,
    images: Path | None = None,
    calibration: Path | None = None,
    budget: str = "15m",
    allow_pickle: bool = False,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("trial"),
    json: bool = False,
) -> None:
    """Find the deployment that holds a contract with the highest capacity, and judge it.

    Engines, precisions, input sizes, INT8 and divisions of the cores are tried: first accuracy and
    the speed of the engine alone, then the promising ones on a service, most of the time the best
    two. Writes trial.html, trial.json and, for a deployment that holds, deployment.toml. A trial
    that was ended goes on when it is started again. Exit code 0: the contract holds. 8: no
    candidate holds it. 9: it cannot be decided.

    Args:
        contract: TOML file; the table [server] says rate and latency.
        model: Models to try: names in the store, artifact folders, model files. Smaller canvases
            and other formats can be made of checkpoints.
        dataset: coco:FOLDER of images, yolo:FOLDER with a data.yaml, or voc:FOLDER: images that
            training has not seen. Needed where the contract judges accuracy.
        annotations: COCO's JSON file, another data.yaml, or a list of classes [default: found].
        split: Which set, where the folder has several.
        skip_missing: Leave out images that the labels name and that are not there.
        images: Folder of images to send [default: those of the dataset].
        calibration: Folder of images that INT8 is calibrated on [default: the images to send].
        budget: Longest time of the whole trial, with exports: 15m, 90s, 1h30m.
        allow_pickle: Read .pt files, which may run code that is in them.
        output: Folder of the reports and of the journal from which a trial goes on.
        json: Print trial.json too.
    """
    require_client()
    from seatrial.api.trying import find_deployment

    with progress_display() as on_progress:
        report = find_deployment(
            contract,
            model,
            dataset=dataset,
            annotations=annotations,
            split=split,
            skip_missing=skip_missing,
            images=images,
            calibration=calibration,
            budget=budget,
            allow_pickle=allow_pickle,
            output=output,
            command=command_line(),
            on_progress=on_progress,
        )
    if json:
        print_json(report)
    else:
        _show(report)
    err.print(report.statement, highlight=False)
    for caveat in report.caveats:
        err.print(f"{caveat}.", highlight=False)
    names = ["trial.html", "trial.json", *(["deployment.toml"] if report.deployment else [])]
    err.print(f"wrote {' and '.join(str(output / name) for name in names)}", soft_wrap=True)
    if report.verdict.outcome != "holds":
        sys.exit(EXIT_CODES[report.verdict.outcome])


def _show(report: TrialReport) -> None:
    """Print the clauses, and the candidates that were timed or served."""
    found = Table(report.contract.name, "wanted", "found", "verdict")
    for row in report.verdict.rows:
        wanted = f"{row.clause.label} {row.clause.wanted}".strip()
        found.add_row(row.clause.metric, wanted, row.text, row.outcome)
    out.print(found)
    tried = Table("candidate", "AP", "engine alone", "capacity", "served for")
    for one in report.rows:
        if one.raw_hz is None:
            continue
        capacity = one.capacity
        tried.add_row(
            f"{one.name}{' *' if one.stage == 'chosen' else ''}",
            "-" if one.ap is None else f"{one.ap:.4f}",
            f"{one.raw_hz:.3g}/s",
            "-"
            if capacity is None
            else f"{capacity.rate_hz:.3g}/s ({capacity.low_hz:.3g} to {capacity.high_hz:.3g})",
            f"{one.served_s:.0f} s" if one.served_s else "-",
        )
    out.print(tried)
