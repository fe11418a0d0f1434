"""``seatrial models``: what is in the store, and how it gets there."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.filesize import decimal

from seatrial.artifact import Artifact, Store
from seatrial.cli.console import err, home, out, print_json, progress_display, store
from seatrial.cli.usage import MAY_BE_EMPTY
from seatrial.errors import InvalidInput
from seatrial.models.facts import ModelFacts
from seatrial.models.leftovers import leftovers, remove_leftover
from seatrial.report.numbers import counted, noun
from seatrial.report.table import Table

if TYPE_CHECKING:
    from seatrial.models.hubs.listing import Listing

app = App(help_format="markdown", name="models", help="Search, fetch, import and list models.")


@app.command
def search(
    text: str = "",
    *,
    task: Annotated[str, MAY_BE_EMPTY] = "object-detection",
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
    model: str,
    *,
    name: str | None = None,
    replace: bool = False,
    allow_pickle: bool = False,
    facts: ModelFacts | None = None,
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
        facts: What one .onnx file does not say.
    """
    from seatrial.cli.hubs import access
    from seatrial.models.hubs.pull import PullOptions
    from seatrial.models.sources.table import pull

    if name is not None and ":" not in model:
        raise InvalidInput(f"{model} keeps its name", hint="leave out --name")
    options = PullOptions(
        access(), home() / "downloads", name=name, allow_pickle=allow_pickle, told=facts
    )
    with progress_display() as on_progress:
        artifact = pull(store(), model, on_progress=on_progress, replace=replace, hub=options)
    _announce(artifact)


@app.command(name="import")
def import_(
    file: Path,
    *,
    name: str | None = None,
    replace: bool = False,
    allow_pickle: bool = False,
    facts: ModelFacts | None = None,
) -> None:
    """Make an artifact of a model file or of a checkpoint.

    Args:
        file: An ONNX or OpenVINO export of a detector (.onnx, .xml or their folder), an Ultralytics
            .pt file, or a folder that transformers wrote; family, labels and size are read from it.
        name: Name of the artifact; default: the file's stem.
        replace: Replace another artifact of that name.
        allow_pickle: Read a .pt file, which may run code that is in it.
        facts: What the file does not say.
    """
    from seatrial.models.resolve import import_model

    artifact = import_model(
        store(), file, name=name, replace=replace, allow_pickle=allow_pickle, told=facts
    )
    _announce(artifact)


@app.command(name="list")
def list_(*, json: bool = False) -> None:
    """List the artifacts in the store.

    Args:
        json: Print the manifests as JSON.
    """
    at = store()
    artifacts, broken, tags = at.artifacts(), at.unreadable(), at.tags()
    if json:
        print_json({name: artifact.manifest for name, artifact in artifacts.items()})
    elif imports := len(at.imports.names()):
        are = f"{counted(imports, 'import')} of files {'is' if imports == 1 else 'are'} not listed"
        err.print(f"{are}; seatrial models gc removes unused ones")
    if artifacts and not json:
        out.print(_listed(artifacts, tags))
    elif not artifacts and not broken and not json:
        err.print("the store is empty: seatrial models pull ssd-mobilenet-v2")
    for name, reason in broken.items():
        err.print(f"unreadable: {name}: {reason}")
    if broken:
        err.print(f"hint: seatrial models rm {shlex.join(broken)}", style="dim")


def _listed(artifacts: dict[str, Artifact], tags: dict[str, str]) -> Table:
    table = Table("name", "family", "formats", "precision", "input", "classes", "licence", "digest")
    for name, artifact in artifacts.items():
        m = artifact.manifest
        height, width = m.preprocessing.size_hw
        also = "".join(f" ({tag})" for tag, of in tags.items() if of == name)
        table.add_row(
            name + also, m.family, ", ".join(m.formats), m.precision, f"{width}x{height}",
            str(len(m.labels)), m.licence.split(" (")[0], artifact.digest[:12],
        )  # fmt: skip
    return table


@app.command
def show(name: str, *, json: Annotated[bool, Parameter(show_default=False)] = True) -> None:
    """Print an artifact's manifest as JSON, after checking every file's hash.

    Args:
        name: Name in the store, or an artifact folder.
        json: Has no effect; the manifest is always JSON.
    """
    from seatrial.models.resolve import resolve

    print_json(resolve(store(), name).manifest)


@app.command
def rm(*names: str, force: bool = False) -> None:
    """Remove artifacts from the store; of a tag, the tag alone.

    Args:
        names: Names or tags, or names of what the list calls unreadable.
        force: Remove artifacts too that have tags, with the tags, or that others were made of:
            those no longer know their parent.
    """
    at = store()
    if not names:
        raise InvalidInput("seatrial models rm needs a NAME", hint="seatrial models list has them")
    tags, entries = at.tags(), at.entries()
    for name in names:  # all are checked before the first is removed
        if name not in entries:
            at.open(name)
            raise InvalidInput(
                f"{name} is an import of a file, which has no name of its own in the store",
                hint="seatrial models gc removes imports that are not used any more",
            )
        if name not in tags and not force:
            _check_alone(at, name, names)
    gone: set[str] = set()
    for name in names:
        if name in gone:  # named twice, or a tag that went with its artifact
            continue
        for one in (removed := at.remove(name)):
            err.print(f"removed {one}" + (f", a tag of {tags[one]}" if one in tags else ""))
        gone |= {*removed}


def _check_alone(at: Store, name: str, names: Sequence[str]) -> None:
    """Refuse to remove what others of the store need, but for what is removed as well."""
    served = [tag for tag, of in at.tags().items() if of == name and tag not in names]
    if served:
        raise InvalidInput(
            f"{name} has the {noun(len(served), 'tag')} {', '.join(served)}: a deployment may "
            f"serve {'it' if len(served) == 1 else 'them'}",
            hint=f"move a tag first: seatrial models tag NAME {served[0]} --replace; or --force",
        )
    made = [child for child in at.children(name) if child not in names]
    if made:
        was, it = ("was", "it") if len(made) == 1 else ("were", "they")
        raise InvalidInput(
            f"{', '.join(made)} {was} made of {name}",
            hint=f"remove {'that' if len(made) == 1 else 'those'} too, or --force: {it} will not "
            f"know {'its' if len(made) == 1 else 'their'} parent any more",
        )


@app.command
def tag(name: str, tag: str, *, replace: bool = False) -> None:
    """Give an artifact a second name, such as the one that a deployment serves.

    seatrial models tag digit-reader-int8 production

    Args:
        name: Name of the artifact.
        tag: Second name; every command takes it in place of the first.
        replace: Move the tag, where another artifact has it.
    """
    artifact = store().tag(name, tag, replace=replace)
    err.print(f"{tag} is {artifact.manifest.name} ({artifact.digest[:12]})")


@app.command
def gc(*, dry_run: bool = False, json: bool = False) -> None:
    """Remove what killed commands left in the store, and imports of files that are not used.

    Artifacts and the files of running commands stay. An import (of --model FILE) goes when
    nothing used it for a day and no artifact was made of it: the next use imports it again. An
    artifact that a killed command took out of its place is put back.

    Args:
        dry_run: Print the folders, and remove nothing.
        json: Print the folders as JSON.
    """
    at = store()
    folders = leftovers(at)
    freed = 0
    for folder in folders:
        size = sum(p.lstat().st_size for p in (folder, *folder.rglob("*")) if p.is_file())
        freed += size if dry_run or remove_leftover(at, folder) else 0
    if json:
        print_json([str(folder) for folder in folders])
        return
    for folder in folders:
        out.print(str(folder), soft_wrap=True)
    what = "would be removed" if dry_run else "removed"
    err.print(f"{what}: {counted(len(folders), 'folder')}, {decimal(freed)}")


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
    from seatrial.models.recognise import background_note

    m = artifact.manifest
    height, width = m.preprocessing.size_hw
    err.print(
        f"{m.name}: {m.family}, {width}x{height}, {counted(len(m.labels), 'class', 'classes')}, "
        f"{', '.join(m.formats)}, licence {m.licence}",
        highlight=False,
    )
    if note := background_note(m.step.config):
        err.print(note, style="dim", highlight=False)
    if not {*m.formats} - {"transformers", "ultralytics"}:
        err.print(
            f"it has weights alone; to run it: seatrial export {m.name} --to onnx --images FOLDER",
            style="dim",
        )
    out.print(str(artifact.path), soft_wrap=True, highlight=False)
