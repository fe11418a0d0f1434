"""YOLO by name or checkpoint, through Ultralytics' own exporter (an optional extra: AGPL-3.0)."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from seatrial.artifact import Artifact, Store
from seatrial.errors import InvalidArtifact, MissingExtra, SourceUnavailable
from seatrial.models.import_onnx import import_onnx
from seatrial.progress import Progress
from seatrial.system.extras import import_ultralytics_package

OPSET = 17


def pull(store: Store, name: str, on_progress: Progress, *, replace: bool) -> Artifact:
    """Fetch a checkpoint, export it to ONNX and make an artifact of it; see `table.Source`."""
    with store.staging() as folder:
        exported = export(name, folder, on_progress)
        uri = f"ultralytics:{name}.pt"
        return import_onnx(store, exported, name=name, replace=replace, uri=uri)


def export(name: str, folder: Path, on_progress: Progress) -> Path:
    """Export a checkpoint to ONNX.

    Args:
        name: ``yolo11n``, ``yolo11s``, ...: ``NAME.pt`` of the working folder if there is one,
            else Ultralytics' own download.
        folder: Folder that the export is written to.
        on_progress: Called with messages.

    Returns:
        The ONNX file.

    Raises:
        MissingExtra: Ultralytics is not installed.
        SourceUnavailable: The weights cannot be reached.
        InvalidArtifact: They do not load or do not export.
    """
    try:
        ultralytics = import_ultralytics_package(purpose=f"pulling {name}")
    except MissingExtra as error:
        error.hint += (
            f" (AGPL-3.0), or export it elsewhere (yolo export model={name}.pt format=onnx) and "
            f"run seatrial models import {name}.onnx"
        )
        raise
    checkpoint = folder / f"{name}.pt"
    local = Path(f"{name}.pt")
    if local.is_file():
        on_progress(f"using {local}")
        shutil.copyfile(local, checkpoint)
    else:
        on_progress(f"downloading {name}.pt")
        _download(checkpoint)
    on_progress(f"exporting {name}.pt to ONNX")
    try:
        model = ultralytics.YOLO(checkpoint)
        with contextlib.redirect_stdout(None):
            exported = model.export(format="onnx", opset=OPSET, simplify=False)
    except Exception as error:  # torch's and Ultralytics' errors share no base but Exception
        raise InvalidArtifact(f"{name}.pt does not load or export: {error}") from error
    checkpoint.unlink()
    return Path(exported)


def _download(checkpoint: Path) -> None:
    downloads = import_ultralytics_package(
        "ultralytics.utils.downloads", purpose="pulling YOLO weights"
    )
    try:
        downloads.attempt_download_asset(checkpoint)
    except Exception as error:  # urllib's, requests' and Ultralytics' own
        raise _unreachable(checkpoint) from error
    if not checkpoint.is_file():
        raise _unreachable(checkpoint)


def _unreachable(checkpoint: Path) -> SourceUnavailable:
    return SourceUnavailable(
        f"the weights {checkpoint.name} cannot be reached from this machine",
        hint=f"put {checkpoint.name} into the working folder, or export it elsewhere "
        f"(yolo export model={checkpoint.name} format=onnx) and run "
        f"seatrial models import {checkpoint.stem}.onnx",
    )
