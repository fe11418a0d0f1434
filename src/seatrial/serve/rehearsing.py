"""The rehearsal of a swap: an artifact is tried in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from seatrial.deployment import Deployment, Reload
from seatrial.errors import InvalidConfig, NotSwapped
from seatrial.report.numbers import counted
from seatrial.serve.parent import PARENT
from seatrial.system.files import beside, writing

SHORT = "was there too little memory?"
REHEARSAL_S = 600.0
LOOK_S = 0.25  # whether who asked is still there
# The command line, without a file of its name on the path. Its imports take a second of a core, and
# requests come first from the start.
COMMAND_LINE = "import os; os.nice(19); from seatrial.cli.main import main; main()"

# Said where neither model reported a box: it was tried that both run, and no more.
NOT_COMPARED = "no box was compared: neither reports one on them, see reload.images"


def check_rules(rules: Reload) -> None:
    """Check that there is what a model is to be tried on, before a service starts.

    Raises:
        InvalidConfig: A folder or file that the deployment names is not there, or is another thing.
    """
    from seatrial.contract import Contract
    from seatrial.system.images import image_files

    for key, folder in (("images", rules.images), ("dataset", rules.dataset)):
        place = Path((folder or "").rpartition(":")[2] if key == "dataset" else folder or "")
        if folder is not None and not place.exists():
            hint = beside(
                place, otherwise=f"correct reload.{key} of the deployment, or leave it out"
            )
            raise InvalidConfig(f"reload.{key}: {place} does not exist", hint=hint)
    if rules.images is not None and not image_files(Path(rules.images), foreign=False):
        raise InvalidConfig(
            f"reload.images: there is no image in {rules.images}",
            hint="name a folder of images, as the service gets them",
        )
    if rules.contract is not None:
        Contract.read(Path(rules.contract), judged=["accuracy"])


def without_comparison(rehearsal: Mapping[str, Any]) -> str:
    """The words for a rehearsal in which no box was compared; empty for another one.

    Args:
        rehearsal: From `rehearse_apart`.
    """
    if rehearsal["comparison"]["agreement"] is not None:
        return ""
    return f"tried on {counted(rehearsal['images'], 'image')}; {NOT_COMPARED}"


def rehearse_apart(
    named: str,
    folder: Path,
    served: str,
    deployment: Deployment,
    scratch: Path,
    has_left: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Try an artifact against the one that is served, in a process that requests go before.

    Args:
        named: Name or path of the artifact.
        folder: Where a relative path begins.
        served: Path of the artifact that is served.
        deployment: Engine, layout, and the rules of a swap.
        scratch: Folder for the deployment's file.
        has_left: Whether who asked waits no more: the process is ended then.

    Returns:
        A `seatrial.rehearsal.Rehearsal` as JSON.

    Raises:
        NotSwapped: It may not be served; the message says why.
    """
    # The file may be one that only this process can open.
    file = scratch / "deployment.toml"
    with writing(scratch, setting="TMPDIR"):
        file.write_text(deployment.to_toml())
    # A name is never an option.
    words = ["rehearse", "--deployment", str(file), "--json", "--", served, named]
    command = [sys.executable, "-c", COMMAND_LINE, *words]
    env = {**os.environ, PARENT: str(os.getpid())}  # it ends with the service
    try:
        with subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                output, errors = _wait(process, named, has_left)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise NotSwapped(f"{named} cannot be tried: {error.strerror}") from error
    if process.returncode == 0:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(output, type=dict[str, Any])
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        killed = f"; {SHORT}" if name == "SIGKILL" else ""
        raise NotSwapped(f"{named} ended the process that tried it ({name}){killed}")
    lines = errors.decode(errors="replace").strip().splitlines()
    if not lines:  # who else waits for children of this process may have its exit code
        raise NotSwapped(f"the process that tried {named} ended without a word; {SHORT}")
    hint = next((ln[6:] for ln in lines if ln.startswith("hint: ")), "")
    message = next((ln[7:] for ln in lines if ln.startswith("error: ")), lines[-1])
    raise NotSwapped(message, hint=hint)


def _wait(
    process: subprocess.Popen[bytes], named: str, has_left: Callable[[], bool]
) -> tuple[bytes, bytes]:
    """Standard output and error of the process that tries a model, once it has ended."""
    give_up = time.monotonic() + REHEARSAL_S
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=LOOK_S)
        if has_left():
            raise left(named)
        if time.monotonic() >= give_up:
            raise NotSwapped(f"{named} gave no answers within {REHEARSAL_S:g} s")


def left(named: str) -> NotSwapped:
    """The error for a change whose asker has left before the switch."""
    return NotSwapped(f"who asked for {named} has left before it was served: nothing is changed")
