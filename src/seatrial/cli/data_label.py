"""``seatrial data label``: drafts of labels by a bigger model, for people to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json, progress_display, store
from seatrial.cli.deployment import DeploymentOptions


def label(
    source: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    options: DeploymentOptions | None = None,
    confidence: float = 0.35,
    weakest: float = 0.1,
    every: int = 10,
    detect_every: int = 1,
    track: bool | None = None,
    longest_gap_s: float = 1.0,
    shortest: int = 3,
    classes: list[str] | None = None,
    json: bool = False,
) -> None:
    """Draft labels for a video or a folder of pictures with a bigger model.

    Objects of a video are followed: gaps between detections are filled, weak detections on a track
    count, what flickers is dropped. Written for review: COCO (instances.json, with score, track
    and origin of every box) and Label Studio (label_studio.json to import, label_studio.xml as the
    labelling interface).

    Args:
        source: A video, or a folder of pictures.
        output: Folder to make.
        options: The model, and how it is run.
        confidence: Detections from here on are drafts, 0-1.
        weakest: Detections from here on can go on with a track, 0-1.
        every: Keep one of so many frames of a video as a picture.
        detect_every: Look at one of so many frames; the rest is faster and followed less surely.
        track: Follow objects [default: in a video yes, in a folder no].
        longest_gap_s: Longest gap to fill, seconds; in a folder, pictures.
        shortest: Least detections that make a track.
        classes: Only these [default: all that are seen]; repeat the option.
        json: Print what was written as JSON.
    """
    from seatrial.datasets.prelabel import Rules, Teacher, draft
    from seatrial.models.resolve import resolve
    from seatrial.serve.startup import open_detector

    rules = Rules(
        confidence,
        weakest,
        every,
        detect_every,
        track,
        longest_gap_s,
        shortest,
        tuple(classes or ()),
    )
    deployment = (options or DeploymentOptions()).resolve()
    artifact = resolve(store(), deployment.model)
    with open_detector(artifact, deployment) as detector, progress_display() as on_progress:
        teacher = Teacher(
            artifact.manifest.name,
            artifact.manifest.labels,
            detector.detect,
            len(detector.engine.narrow) + 1,  # one picture is decoded while the lanes infer
        )
        made = draft(source, output, teacher, rules, on_progress)
    if json:
        print_json(made)
        return
    told = ", ".join(f"{name} {number}" for name, number in made.classes.items()) or "nothing"
    followed = "" if made.tracks is None else f", {made.tracks} tracks"
    err.print(f"{made.looked_at} looked at, {made.images} kept{followed}: {told}", highlight=False)
    err.print(", ".join(f"{n} {origin}" for origin, n in made.origins.items()), highlight=False)
    for name in made.skipped:
        err.print(f"left out: {name}", highlight=False)
    err.print(f"look at them: seatrial data preview {made.folder}", highlight=False)
    out.print(made.folder, soft_wrap=True, highlight=False)
