"""``seatrial models``: what is in the store, and how it gets there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.filesize import decimal
from rich.table import Table

from seatrial.artifact import Artifact
from seatrial.cli.console import err, home, out, print_json, progress_display, store
from seatrial.errors import InvalidInput

if TYPE_CHECKING:
    from seatrial.models.hubs.listing import Listing

app = App(help_format="markdown", name="models", help="Search, fetch, import and list models.")


@app.command
def search(
    text: str = "",
    *,
    task: str = "object-detection",
    sort: Literal["downloads", "trending", "likes"] = "downloads",
    source: Literal["huggingface", "modelscope"] = "huggingface",
    limit: int = 20,
    json: bool = False,
) -> None:
    """Search a model hub, and tell which models run here: seatrial models search "detr".

    Args:
        text: Words in the model's name; default: all models.
        task: Task in Hugging Face's words; an empty one is any.
        sort: Figure to sort by, highest first. ModelScope has no trend: its default ranking is
            used instead.
        source: The hub; HF_ENDPOINT and MODELSCOPE_ENDPOINT name mirrors.
        limit: Most models to show.
        json: Print the models as JSON.
    """
    from seatrial.cli.hubs import access
    from seatrial.models.hubs import pull as hubs
    from seatrial.models.hubs.listing import Query

    found = hubs.search(source, Query(text, task, sort, limit), access())
    if json:
        print_json(found)
        return
    if not found:
        err.print(f"nothing on {source} fits {text!r} for {task or 'any task'}")
        return
    out.print(_table(found))
    runnable = next((model for model in found if model.verdict.runs == "yes"), None)
    if runnable:
        err.print(f"seatrial models pull {runnable.reference}", style="dim", highlight=False)


@app.command
def pull(
    model: str, *, name: str | None = None, replace: bool = False, allow_pickle: bool = False
) -> None:
    """Fetch a model and make an artifact of it.

    seatrial models pull huggingface:facebook/detr-resnet-50

    Args:
        model: A model on a hub, SOURCE:OWNER/NAME, with /PATH/FILE.onnx for one file of it or
            @REVISION after it; SOURCE is huggingface or modelscope. Or a name:
            ssd-mobilenet-v2, yolo11n, yolo11s, yolo11m, yolo11l, yolo11x.
        name: Name of the artifact, for models on hubs; default: that of the model.
        replace: Fetch it again where the store has it already.
        allow_pickle: Take weights that come as a pickle only; they are read without running code.
    """
    from seatrial.cli.hubs import access
    from seatrial.models.hubs.pull import PullOptions
    from seatrial.models.sources.table import pull

    if name is not None and ":" not in model:
        raise InvalidInput(f"{model} keeps its name", hint="leave out --name")
    options = PullOptions(access(), home() / "downloads", name=name, allow_pickle=allow_pickle)
    with progress_display() as on_progress:
        artifact = pull(store(), model, on_progress=on_progress, replace=replace, hub=options)
    _announce(artifact)


@app.command(name="import")
def import_(
    file: Path, *, name: str | None = None, replace: bool = False, allow_pickle: bool = False
) -> None:
    """Make an artifact of a model file or of a checkpoint.

    Args:
        file: An ONNX export of a detector, an Ultralytics .pt file, or a folder that transformers
            wrote; family, labels and size are read from it.
        name: Name of the artifact; default: the file's stem.
        replace: Replace another artifact of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
    """
    from seatrial.models.resolve import import_model

    artifact = import_model(store(), file, name=name, replace=replace, allow_pickle=allow_pickle)
    _announce(artifact)


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
def show(name: str, *, json: Annotated[bool, Parameter(show_default=False)] = True) -> None:
    """Print an artifact's manifest as JSON, after checking every file's hash.

    Args:
        name: Name in the store, or an artifact folder.
        json: Has no effect; the manifest is always JSON.
    """
    from seatrial.models.resolve import resolve

    print_json(resolve(store(), name).manifest)


def _table(found: list[Listing]) -> Table:
    table = Table(
        "name", "downloads", "likes", "licence", "size", "updated", "runs here as", expand=False
    )
    for column in (1, 2, 4):
        table.columns[column].justify = "right"
    for column in (1, 2, 4, 5):
        table.columns[column].no_wrap = True
    table.columns[0].overflow = "fold"  # a name that is cut cannot be pulled
    for model in found:
        size = "-" if model.size_bytes is None else decimal(model.size_bytes)
        table.add_row(
            model.name, f"{model.downloads:,}", f"{model.likes:,}",
            model.licence + (" (gated)" if model.gated else ""), size, model.updated[:10] or "-",
            model.verdict.describe(),
        )  # fmt: skip
    return table


def _announce(artifact: Artifact) -> None:
    m = artifact.manifest
    height, width = m.preprocessing.size_hw
    err.print(
        f"{m.name}: {m.family}, {width}x{height}, {len(m.labels)} classes, "
        f"{', '.join(m.formats)}, licence {m.licence}",
        highlight=False,
    )
    out.print(str(artifact.path), soft_wrap=True, highlight=False)
