"""``seatrial judge``: one verdict on a service against its whole contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seatrial.bench.options import MeasureOptions, require_client
from seatrial.cli.console import command_line, err, print_json, progress_display, store
from seatrial.cli.credentials import CredentialOptions
from seatrial.cli.deployment import DeploymentOptions, TritonOptions
from seatrial.cli.running import check_service, image_pixels, running_service
from seatrial.cli.verdict import leave, show_verdict
from seatrial.deployment import RuntimeName
from seatrial.errors import InvalidConfig


def judge(
    contract: Path,
    /,
    *,
    service: DeploymentOptions | None = None,
    url: str | None = None,
    credentials: CredentialOptions | None = None,
    on: RuntimeName | None = None,
    triton: TritonOptions | None = None,
    dataset: str | None = None,
    annotations: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    skip_missing: bool = False,
    images: Path | None = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("."),
    measure: Annotated[
        MeasureOptions, Parameter(name="*", consume_multiple=True)
    ] = MeasureOptions(),  # noqa: B008  frozen
    path: str = "/detect",
    field: str | None = None,
    json: bool = False,
) -> None:
    """Measure a service, running (--url) or started for it (--model), and judge all clauses.

    What the contract has clauses for is measured: accuracy on labelled images through the service,
    latency of lone requests, load. Writes verdict.html and verdict.json, and the reports that they
    rest on. Exit code 0: all clauses hold. 8: one fails. 9: none fails, and one is undecided.

    Args:
        contract: TOML file with the clauses.
        service: What to start, where no --url is given.
        url: Address of a running service.
        credentials: What it wants to see.
        on: Runtime to start it on: bentoml, uvicorn or triton [default: that of the deployment].
        triton: The server that --on triton starts.
        dataset: coco:FOLDER of images, yolo:FOLDER with a data.yaml, or voc:FOLDER: images that
            training has not seen. Needed where the contract judges accuracy.
        annotations: COCO's JSON file, another data.yaml, or a list of classes [default: found].
        split: Which set, where the folder has several. The validation set is not the default,
            as training chooses the epoch on it.
        skip_missing: Leave out images that the labels name and that are not there.
        images: Folder of images to send [default: those of the dataset].
        output: Folder for the reports.
        measure: How much is measured, and how long.
        path: Path at which a foreign service takes images; of a Triton /v2/models/NAME/infer
            [default there: the first model that says its classes; without clauses on accuracy, the
            first that takes an encoded image].
        field: Multipart field of a foreign service [default: the raw body].
        json: Print verdict.json too.
    """
    require_client()
    from seatrial.load.target import Target
    from seatrial.trial.html_report import check_places, write_verdict
    from seatrial.trial.plan import read_trial
    from seatrial.trial.run import judge_service

    # What is wrong is reported before a service is started, not after a minute of load.
    service, triton = service or DeploymentOptions(), triton or TritonOptions()
    check_service(url, service)
    if url is not None and (on is not None or triton != TritonOptions()):
        raise InvalidConfig(
            "--url judges a running service where it runs",
            hint="leave --url out to start a deployment on a runtime (--deployment, --on)",
        )
    shown = (credentials or CredentialOptions()).read(url)
    trial = read_trial(
        contract,
        dataset=dataset,
        annotations=annotations,
        split=split,
        skip_missing=skip_missing,
        images=images,
        measure=measure,
        max_pixels=image_pixels(url, service),
    )
    check_places(trial, output)
    try:
        with (
            running_service(url, service, grpc=False, triton=triton, runtime=on) as (
                address,
                artifact,
            ),
            progress_display() as on_progress,
        ):
            made = judge_service(
                Target(address, path=path, field=field),
                trial,
                lineage=lambda digest: store().lineage(artifact or store().with_digest(digest)),
                command=command_line(),
                on_progress=on_progress,
                credentials=shown,
            )
    except KeyboardInterrupt:
        err.print("no verdict was written")
        raise
    report = made.report
    try:
        report = write_verdict(made, output)
    finally:  # a disk that has filled up meanwhile loses no verdict
        if json:
            print_json(report)
        show_verdict(report.verdict, json=json)
    files = " and ".join(str(output / name) for name in ("verdict.html", "verdict.json"))
    err.print(f"wrote {files}", soft_wrap=True)
    leave(report.verdict)
