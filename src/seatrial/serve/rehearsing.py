"""The rehearsal of a swap: an artifact is tried in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from seatrial.deployment import Deployment
from seatrial.errors import NotSwapped
from seatrial.report.numbers import counted
from seatrial.serve.parent import PARENT
from seatrial.system.files import writing

SHORT = "was there too little memory?"
REHEARSAL_S = 600.0
# The command line, without a file of its name on the path. Its imports take a second of a core, and
# requests come first from the start.
COMMAND_LINE = "import os; os.nice(19); from seatrial.cli.main import main; main()"

# Said where neither model reported a box: it was tried that both run, and no more.
NOT_COMPARED = "no box was compared: neither reports one on them, see reload.images"


def without_comparison(rehearsal: Mapping[str, Any]) -> str:
    """The words for a rehearsal in which no box was compared; empty for another one.

    Args:
        rehearsal: From `rehearse_apart`.
    """
    if rehearsal["comparison"]["agreement"] is not None:
        return ""
    return f"tried on {counted(rehearsal['images'], 'image')}; {NOT_COMPARED}"


def rehearse_apart(
    named: str, folder: Path, served: str, deployment: Deployment, scratch: Path
) -> dict[str, Any]:
    """Try an artifact against the one that is served, in a process that requests go before.

    Args:
        named: Name or path of the artifact.
        folder: Where a relative path begins.
        served: Path of the artifact that is served.
        deployment: Engine, layout, and the rules of a swap.
        scratch: Folder for the deployment's file.

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
        done = subprocess.run(
            command, cwd=folder, env=env, capture_output=True, timeout=REHEARSAL_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotSwapped(f"{named} gave no answers within {REHEARSAL_S:g} s") from error
    except OSError as error:
        raise NotSwapped(f"{named} cannot be tried: {error.strerror}") from error
    if done.returncode == 0:
        with contextlib.suppress(msgspec.DecodeError):
            return msgspec.json.decode(done.stdout, type=dict[str, Any])
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        killed = f"; {SHORT}" if name == "SIGKILL" else ""
        raise NotSwapped(f"{named} ended the process that tried it ({name}){killed}")
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    if not lines:  # who else waits for children of this process may have its exit code
        raise NotSwapped(f"the process that tried {named} ended without a word; {SHORT}")
    hint = next((ln[6:] for ln in lines if ln.startswith("hint: ")), "")
    message = next((ln[7:] for ln in lines if ln.startswith("error: ")), lines[-1])
    raise NotSwapped(message, hint=hint)
