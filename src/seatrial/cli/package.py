"""``seatrial package``: a deployment as another server takes it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from seatrial.cli.console import err, out, print_json, store
from seatrial.report.table import Table

app = App(
    help_format="markdown",
    name="package",
    help="Write a deployment as another inference server takes it.",
)


@app.command
def triton(
    deployment: Path,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    backend: Literal["auto", "python", "onnxruntime", "openvino", "tensorrt"] = "auto",
    environment: str = "",
    force: bool = False,
    json: bool = False,
) -> None:
    """Write a model repository that a stock Triton serves: the detector, and its graph.

    Tensors have the names and shapes that the Open Inference Protocol of `seatrial serve` has: a
    client works with both. Models of other names that are in the folder stay as they are.

    Args:
        deployment: TOML file, see docs/reference/deployment.md.
        output: Folder of the repository; made if it is not there.
        backend: What runs the graph. auto takes the backend with the runtime of the deployment's
            engine, and python where there is none; python runs the engine in Seatrial's own code.
        environment: Python environment of the models, a folder or an archive, as
            EXECUTION_ENV_PATH takes it [default: the server's].
        force: Replace models of the same names, where no file of theirs was edited.
        json: Print the summary as JSON.
    """
    from seatrial.deployment import Deployment
    from seatrial.models.resolve import resolve
    from seatrial.serve.triton.repository import write_repository

    described = Deployment.read(deployment)
    packaged = write_repository(
        output,
        resolve(store(), described.model, deployment=deployment),
        described,
        backend=backend,
        environment=environment,
        force=force,
    )
    if json:
        print_json(packaged)
        return
    table = Table("model", "backend", "instances")
    for one in packaged.models:
        table.add_row(one.name, one.backend, str(one.instances))
    out.print(table)
    for note in packaged.notes:
        err.print(f"note: {note}", highlight=False, soft_wrap=True)
    install = shlex.join(("pip", "install", "--no-deps", "-r", str(output / packaged.requirements)))
    start = shlex.join(("tritonserver", f"--model-repository={output}", *packaged.server_options))
    err.print(
        f"wrote {output}; in the Python of the server: {install}; start it with: {start}",
        highlight=False,
        soft_wrap=True,
    )
