"""``seatrial data label``: labels drafted by a bigger model, for people to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json, progress_display
from seatrial.cli.deployment import DeploymentOptions
from seatrial.datasets.prelabel import PrelabelOptions
from seatrial.report.numbers import counted


def label(
    source: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    model: DeploymentOptions | None = None,
    options: Annotated[PrelabelOptions, Parameter(name="*")] = PrelabelOptions(),  # noqa: B008 - frozen
    json: bool = False,
) -> None:
    """Draft labels of a video or of images with a bigger model, for review.

    Objects of a video are tracked: gaps between detections are filled, detections of low
    confidence on a track count, and tracks of very few detections are dropped. The new folder has
    COCO labels (instances.json, with the score, track and origin of every box) and files for Label
    Studio (label_studio.json to import, label_studio.xml as the labelling interface).

    Args:
        source: A video, or a folder of images.
        output: New folder.
        model: The model, and how it is run.
        options: How labels are drafted.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.prelabel import Teacher, prelabel
    from seatrial.detect.opening import open_detector

    deployment = (model or DeploymentOptions()).resolve()
    artifact = (model or DeploymentOptions()).open(deployment)
    with open_detector(artifact, deployment) as detector, progress_display() as on_progress:
        teacher = Teacher(
            name=artifact.manifest.name,
            labels=artifact.manifest.labels,
            detect=detector.detect,
            concurrency=len(detector.engine.narrow) + 1,  # one is decoded while the lanes infer
        )
        made = prelabel(source, output, teacher, options, on_progress)
    if json:
        print_json(made)
        return
    classes = ", ".join(f"{name} {number}" for name, number in made.classes.items()) or "no boxes"
    tracks = "" if made.tracks is None else f", {counted(made.tracks, 'track')}"
    err.print(
        f"detected in {counted(made.looked_at, 'image')}, kept {made.images}{tracks}: {classes}",
        highlight=False,
    )
    err.print(", ".join(f"{n} {origin}" for origin, n in made.origins.items()), highlight=False)
    for note in made.notes:
        err.print(note, highlight=False)
    for name in made.skipped:
        err.print(f"left out: {name}", highlight=False)
    err.print(f"to see the labels: seatrial data preview {made.folder}", highlight=False)
    out.print(made.folder, soft_wrap=True, highlight=False)
