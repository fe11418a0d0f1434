"""``seatrial models``: what is in the store, and how it gets there."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App
from rich.table import Table

from seatrial.artifact import Artifact
from seatrial.cli.console import err, out, print_json, progress, store

app = App(name="models", help="Fetch, import and list models.")


@app.command
def pull(name: str, *, replace: bool = False) -> None:
    """Fetch a model by name and make an artifact of it.

    Args:
        name: ssd-mobilenet-v2, or yolo11n, yolo11s, yolo11m, yolo11l, yolo11x.
        replace: Fetch it again where the store has it already.
    """
    from seatrial.lifecycle import acquire

    _announce(acquire.pull(store(), name, on_progress=progress, replace=replace))


@app.command(name="import")
def import_(file: Path, *, name: str | None = None, replace: bool = False) -> None:
    """Make an artifact of a model file.

    Args:
        file: An ONNX export of a detector; its family, labels and size are read from the file.
        name: Of the artifact; the file's stem by default.
        replace: Replace another artifact of that name.
    """
    from seatrial.lifecycle import acquire

    _announce(acquire.import_onnx(store(), file, name=name, replace=replace))


@app.command(name="list")
def list_(*, json: bool = False) -> None:
    """List the artifacts in the store.

    Args:
        json: Print the manifests as JSON.
    """
    artifacts = [Artifact.open(store().root / name, verify=False) for name in store().names()]
    if json:
        print_json({a.manifest.name: a.manifest for a in artifacts})
        return
    if not artifacts:
        err.print("the store is empty: seatrial models pull ssd-mobilenet-v2")
        return
    table = Table("name", "family", "formats", "precision", "input", "classes", "licence", "digest")
    for artifact in artifacts:
        m = artifact.manifest
        height, width = m.preprocessing.size_hw
        table.add_row(
            m.name, m.family, ", ".join(m.formats), m.precision, f"{width}x{height}",
            str(len(m.labels)), m.licence.split(" (")[0], artifact.digest[:12],
        )  # fmt: skip
    out.print(table)


@app.command
def show(name: str) -> None:
    """Print an artifact's manifest as JSON, after checking every file's hash.

    Args:
        name: Name in the store, or an artifact folder.
    """
    from seatrial.lifecycle import acquire

    print_json(acquire.resolve(store(), name).manifest)


def _announce(artifact: Artifact) -> None:
    m = artifact.manifest
    height, width = m.preprocessing.size_hw
    err.print(
        f"{m.name}: {m.family}, {width}x{height}, {len(m.labels)} classes, "
        f"{', '.join(m.formats)}, licence {m.licence}",
        highlight=False,
    )
    out.print(str(artifact.path), soft_wrap=True, highlight=False)
