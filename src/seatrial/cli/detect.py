"""``seatrial detect``: images and videos through the request path, in this process."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from seatrial.cli.console import err, out, print_json, store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.foreign_names import hint_for_option
from seatrial.cli.ultralytics_syntax import MODES
from seatrial.cli.usage import is_model, with_model
from seatrial.config import flag, from_options
from seatrial.deployment import DetectionDefaults
from seatrial.errors import InvalidConfig, naming
from seatrial.report.numbers import counted
from seatrial.report.table import Table
from seatrial.system.files import read_bytes, write_atomically, writing

if TYPE_CHECKING:
    from seatrial.artifact import Artifact
    from seatrial.deployment import Deployment
    from seatrial.video.wanted import Wanted

SAVE_HINT = "name another file (--output)"


def detect(
    *image: str,
    source: Annotated[tuple[str, ...], Parameter(show=False)] = (),
    options: DeploymentOptions | None = None,
    confidence: Annotated[float | None, Parameter(name=["--confidence", "--conf"])] = None,
    iou: float | None = None,
    max_detections: Annotated[int | None, Parameter(name=["--max-detections", "--max-det"])] = None,
    classes: tuple[str, ...] = (),
    every: Annotated[int, Parameter(name=["--every", "--vid-stride"])] = 1,
    track: Annotated[bool, Parameter(negative=())] = False,
    output: Annotated[Path | None, Parameter(name=["--output", "-o", "--save"])] = None,
    json: bool = False,
) -> None:
    """Find objects in images and videos.

    A file that cannot be read is named and left out; the exit code is 2 then.

    Args:
        image: Images, videos, folders of them, or patterns such as 'day/*.jpg'.
        source: More of them, in the words of other tools.
        options: The detector.
        confidence: Lowest confidence reported, 0-1 [default: the model's, mostly 0.25].
        iou: Boxes of one class that overlap more are one object, 0-1 [default: the
            model's, mostly 0.7].
        max_detections: Most boxes of one image [default: 300].
        classes: Report these classes alone: names or numbers, separated by commas.
        every: Look at one of so many frames of a video.
        track: Follow objects through a video: each gets a number, in the drawing and in JSON.
        output: Write with the boxes drawn: an image file (JPEG, PNG, WebP, BMP or TIFF, by its
            name) for one image, an MP4 file for one video, a new folder for several.
        json: Print JSON: for one image the answer of the service, else one line for each image
            and each frame.
    """
    from seatrial.cli.detect_many import detect_many
    from seatrial.detect.classes import class_ids
    from seatrial.models.resolve import read_by
    from seatrial.video.inputs import find_inputs
    from seatrial.video.targets import targets_of
    from seatrial.video.wanted import Wanted

    words = [*image, *source]
    _check_words(words, classes)
    if every < 1:
        raise InvalidConfig(f"--every must be 1 or more, not {every}")
    deployment = (options or DeploymentOptions()).resolve()
    given = {"confidence": confidence, "iou": iou, "max_detections": max_detections}
    chosen = _chosen(deployment, given)
    inputs = find_inputs(words)
    if track and not any(one.video for one in inputs):
        raise InvalidConfig("--track follows objects through videos", hint="give a video")
    folders = any(Path(word).is_dir() for word in words)
    targets = {}
    if output is not None:
        read = read_by(store(), deployment.model)
        if options is not None and options.deployment is not None:
            read.append(options.deployment)
        targets = targets_of(inputs, output, folders=folders, read=read)
    one = len(inputs) == 1 and not inputs[0].video and not folders
    one = one and (output is None or targets[inputs[0].path] == output)
    data = read_bytes(inputs[0].path) if one else b""
    artifact = (options or DeploymentOptions()).open(deployment)
    wanted = Wanted(
        chosen.of(artifact.manifest), class_ids(artifact.manifest.labels, classes), every, track
    )
    if one:
        _detect_one(inputs[0].path, data, artifact, deployment, wanted, output, json=json)
    else:
        detect_many(inputs, artifact, deployment, wanted, targets, json=json)


def _check_words(words: Sequence[str], classes: Sequence[str]) -> None:
    """Check that files are named, not options as Ultralytics writes them.

    Raises:
        InvalidConfig: There is no word, or one is ``source=a.jpg``, a number of a class, or a
            model.
    """
    if not words:
        raise InvalidConfig(
            "seatrial detect needs IMAGE", hint="seatrial detect FILE-OR-FOLDER --model NAME"
        )
    for word in words:
        if classes and word.isdecimal() and not Path(word).exists():
            both = ",".join([*classes, word])
            raise InvalidConfig(
                f"{word} is not a file", hint=f"separate classes by commas: --classes {both}"
            )
        if word in MODES and not Path(word).exists():
            raise InvalidConfig(f"{word!r} is not a file", hint="seatrial detect --help")
        if re.fullmatch(r"[a-z_]+\d?=.*", word) and not Path(word).exists():
            raise InvalidConfig(
                f"{word!r} is not a file; options are written with two dashes",
                hint=hint_for_option(("detect",), word) or "seatrial detect --help lists them",
            )
        if is_model(word):
            hint = with_model(sys.argv[1:], word, needs="FILE-OR-FOLDER" if len(words) == 1 else "")
            raise InvalidConfig(f"{word!r} is a model: --model names it", hint=hint)


def _chosen(deployment: Deployment, given: dict[str, Any]) -> DetectionDefaults:
    import msgspec

    plain = msgspec.structs.asdict(deployment.detection)
    plain.update((key, value) for key, value in given.items() if value is not None)
    return from_options(plain, DetectionDefaults, flag)


def _detect_one(
    image: Path,
    data: bytes,
    artifact: Artifact,
    deployment: Deployment,
    wanted: Wanted,
    output: Path | None,
    *,
    json: bool,
) -> None:
    import msgspec

    from seatrial.detect.answer import answer
    from seatrial.detect.decode import as_served
    from seatrial.detect.draw import draw, encode_image
    from seatrial.detect.opening import open_detector

    most = deployment.limits.image_pixels
    with naming(image):
        data = as_served(data, max_pixels=most)
    with open_detector(artifact, deployment) as detector, naming(image):
        result = detector.detect(data, wanted.asked(), max_pixels=most)
    result = replace(result, detections=wanted.kept(result.detections))
    for warning in result.warnings:
        err.print(f"warning: {image} {warning}")
    labels = artifact.manifest.labels
    shown = answer(result, labels, result.stages_ms)
    if output is not None:
        drawn = encode_image(draw(result.image, result.detections, labels), output)
        with writing(output, hint=SAVE_HINT):
            write_atomically(output, drawn)
        err.print(f"wrote {output}")
    if json:
        print_json(msgspec.to_builtins(shown))
        return
    table = Table("label", "confidence", "left", "top", "right", "bottom")
    for box in shown.detections:
        table.add_row(box.label, f"{box.confidence:.3f}", *(f"{v:.1f}" for v in box.box))
    out.print(table)
    engine = detector.engine
    err.print(
        f"{counted(len(shown.detections), 'object')} in {image.name} "
        f"({shown.image.width}x{shown.image.height}); {engine.name} on {engine.device}, "
        f"{engine.precision}, inference {result.stages_ms['infer']:.1f} ms"
    )
