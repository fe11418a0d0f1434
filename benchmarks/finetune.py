"""Finetuning on handwritten digits: mAP50 in ten minutes on two cores, and in half of that.

    python benchmarks/finetune.py [--only scratch|held|pretrained] [--weights yolo11n.pt]

Each run is the command that a user types, in processes of its own; its mAP50 is that of the
exported artifact. Seconds are those of the training and its validations, without the export. A
machine that is busy with other things makes them longer: CPU seconds are told beside them.
Needs seatrial[train,yolo,data].
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from seatrial.hardware import usable_cores
from seatrial.lifecycle.finetune.journal import read_epochs

RESULTS = Path(__file__).parent / "results"
SIDE_PX = 320
LIMIT_S = 600.0
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
"""
# Name -> epochs, backgrounds held out, begins with weights, least mAP50, most seconds.
RUNS: dict[str, tuple[int, bool, bool, float, float]] = {
    "scratch": (7, False, False, 0.80, LIMIT_S),
    "held": (7, True, False, 0.70, LIMIT_S),
    "pretrained": (3, False, True, 0.80, LIMIT_S / 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=sorted(RUNS))
    parser.add_argument("--weights", type=Path, default=Path("../shared/models/yolo11n.pt"))
    parser.add_argument("--folder", type=Path, help="keep sets and runs here")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="finetune-"))
    for name in [options.only] if options.only else list(RUNS):
        if name == "pretrained" and not options.weights.is_file():
            print(f"skipped: {name}: no {options.weights}")
            continue
        row = measure(name, folder.resolve(), options.weights.resolve())
        RESULTS.mkdir(exist_ok=True)
        file = RESULTS / f"finetune_{name}.json"
        file.write_text(json.dumps(row, indent=2) + "\n")
        print(f"{name}: mAP50 {row['map50']:.4f} in {row['train_s']:.0f} s -> {file}")


def measure(name: str, folder: Path, weights: Path) -> dict[str, Any]:
    """One run, from the pictures to the artifact."""
    epochs, held, pretrained, least, most = RUNS[name]
    home, data = folder / "home", folder / ("held" if held else "digits")
    environment = {**os.environ, "SEATRIAL_HOME": str(home)}
    seatrial = [sys.executable, "-m", "seatrial.cli.main"]
    if not data.is_dir():
        sample = [*seatrial, "data", "sample", "digits", "-o", str(data), "--size", str(SIDE_PX)]
        flag = ["--hold-out-backgrounds"] if held else []
        subprocess.run([*sample, *flag], env=environment, check=True)
    recipe = folder / f"{name}.toml"
    recipe.write_text(RECIPE.format(epochs=epochs, side=SIDE_PX))
    base = [str(weights), "--allow-pickle"] if pretrained else ["scratch:yolo11n"]
    command = [
        *seatrial, "finetune", "--trainer", "ultralytics", "--data", f"yolo:{data}",
        "--recipe", str(recipe), "-o", name, "--restart", "--replace", "--json", "--from", *base,
    ]  # fmt: skip
    before, begun = _cpu_s(), time.monotonic()
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    wall_s, cpu_s = time.monotonic() - begun, _cpu_s() - before
    report = json.loads(done.stdout)
    rows = read_epochs(home / "runs" / name)
    figures = report["after"]["figures"]
    return {
        "run": name,
        "target": {"map50": least, "train_s": most},
        "map50": figures["ap50"],
        "map": figures["ap"],
        "map50_by_epoch": [round(row.ap50, 4) for row in rows],
        "train_s": sum(row.train_s + row.val_s for row in rows),
        "train_s_by_epoch": [round(row.train_s + row.val_s, 1) for row in rows],
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "pictures": [report["training"]["pictures"], report["validation"]["pictures"]],
        "labels": [report["training"]["labels_digest"], report["validation"]["labels_digest"]],
        "steps": report["steps"],
        "recipe": RECIPE.format(epochs=epochs, side=SIDE_PX),
        "base_map50": (report["before"] or {"figures": {"ap50": None}})["figures"]["ap50"],
        "machine": {"processor": platform.processor(), "cores": usable_cores(),
                    "load_average_1m": os.getloadavg()[0]},
        "versions": report["versions"],
    }  # fmt: skip


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
