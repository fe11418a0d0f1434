"""Finetuning YOLO11n on handwritten digits at 320 px: mAP50 in ten minutes, and in five.

    python benchmarks/finetune.py [--only scratch|held out|pretrained] [--folder FOLDER]

Each run is the command that a user types, in processes of its own; its mAP50 is that of the
exported artifact on the validation split. Held out: the validation pictures have other photos
behind their digits than the training pictures. Seconds are those of the training and its
validations; CPU seconds are those of the whole command, its export and evaluation included: they
tell of a machine that was busy with other things. Needs seatrial[train,yolo,data]; the third run
../shared too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure

from seatrial.train.journal import read_epochs

sys.path.append(str(measure.ROOT / "tests" / "support"))
import torchvision_operators

SIDE_PX = 320
LIMIT_S = 600.0
CHECKPOINT = measure.SHARED / "models" / "yolo11n.pt"
RECIPE = """\
epochs = {epochs}
batch = 8
image_size = {side}
precision = "bf16"
[optimiser]
learning_rate = 0.002
[schedule]
warmup_epochs = 1.0
[augmentation]
mosaic = 0.0
flip = 0.0
[compute]
workers = 1
"""


@dataclass(frozen=True)
class Run:
    """One finetuning, and what it must reach."""

    epochs: int
    map50: float
    seconds: float
    held_out: bool = False
    pretrained: bool = False


RUNS = {
    "scratch": Run(8, 0.80, LIMIT_S),
    "held out": Run(8, 0.70, LIMIT_S, held_out=True),
    "pretrained": Run(4, 0.80, LIMIT_S / 2, pretrained=True),  # and no less than scratch
}


def main() -> None:
    """Train, and save what was reached; a single run is only printed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=RUNS)
    parser.add_argument("--folder", type=Path, help="for sets and runs, to look at afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="seatrial-benchmark-") as scratch:
        folder = (options.folder or Path(scratch)).resolve()
        figures: dict[str, dict[str, Any]] = {}
        for name in [options.only] if options.only else RUNS:
            if RUNS[name].pretrained and not CHECKPOINT.is_file():
                print(f"{name} skipped: no ../shared (models/yolo11n.pt)", file=sys.stderr)
                continue
            least = RUNS[name].map50
            if RUNS[name].pretrained and "scratch" in figures:
                least = figures["scratch"]["mAP50"]
            figures[name] = figures_of(name, folder, least)
            print(json.dumps(figures[name]), file=sys.stderr)
        if options.only is None:
            measure.save("finetune", figures, ("torch", "ultralytics"))


def figures_of(name: str, folder: Path, least: float) -> dict[str, Any]:
    """Train once.

    Args:
        name: Key of `RUNS`.
        folder: For its sets and folders.
        least: mAP50 that it must reach.
    """
    run = RUNS[name]
    key = name.replace(" ", "-")
    home = folder / "home"
    paths = [*torchvision_operators.for_children(), *(p for p in sys.path if p)]
    environment = {
        **os.environ,
        "SEATRIAL_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(paths),
    }
    recipe = folder / f"{key}.toml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE.format(epochs=run.epochs, side=SIDE_PX))
    base = [str(CHECKPOINT), "--allow-pickle"] if run.pretrained else ["scratch:yolo11n"]
    command = [
        *(sys.executable, "-m", "seatrial.cli.main", "finetune", "--trainer", "ultralytics"),
        *("--data", f"yolo:{digits(folder, environment, held_out=run.held_out)}"),
        *("--recipe", str(recipe), "-o", key, "--restart", "--replace", "--json"),
        *("--from", *base),
    ]
    cpu_s, begun = children_cpu_s(), time.monotonic()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    wall_s, cpu_s = time.monotonic() - begun, children_cpu_s() - cpu_s
    report = json.loads(done.stdout)
    epochs = read_epochs(home / "runs" / key)
    seconds = sum(row.train_s + row.val_s for row in epochs)
    map50 = report["after"]["figures"]["ap50"]
    reached = map50 >= least and seconds <= run.seconds
    return {
        "epochs": run.epochs,
        "steps": report["steps"],
        "mAP50": map50,
        "at least": least,
        "seconds": seconds,
        "at most": run.seconds,
        "CPU seconds": cpu_s,
        "seconds with export": wall_s,
        "reached": "yes" if reached else "no",
        "pictures": f"{report['training']['pictures']} + {report['validation']['pictures']}",
        "mAP50 by epoch": ", ".join(f"{row.ap50:.3f}" for row in epochs),
    }


def digits(folder: Path, environment: dict[str, str], *, held_out: bool) -> Path:
    """The set, made if it is not there."""
    data = folder / ("digits-held-out" if held_out else "digits")
    if not data.is_dir():
        flags = ["--hold-out-backgrounds"] if held_out else []
        subprocess.run(
            [
                *(sys.executable, "-m", "seatrial.cli.main", "data", "sample", "digits"),
                *("-o", str(data), "--size", str(SIDE_PX), *flags),
            ],
            env=environment,
            check=True,
            stdout=sys.stderr,
        )
    return data


def children_cpu_s() -> float:
    """CPU time of the processes that were waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
