#!/usr/bin/env python3
"""Is the choice of a trial as good as that of an exhaustive sweep on the same machine?

    python benchmarks/trial_vs_sweep.py contract.toml --model yolo11n.pt --dataset coco:FOLDER

The trial has 15 minutes. Then each candidate that it could have served (all engines, precisions,
canvases and INT8 whose accuracy does not fail, with each division of the cores) is served for
--each seconds, and the capacities are compared: that of the trial's choice, as the sweep measures
it, over the best one of the sweep. Both keep a journal: a sweep that was ended goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from seatrial.api.home import store
from seatrial.api.trial_workshop import LocalWorkshop, subject_of, this_machine
from seatrial.api.trying import find_deployment
from seatrial.conditions import conditions
from seatrial.config import encode_json
from seatrial.contract import Contract
from seatrial.datasets.read import read_labelled
from seatrial.load.images import load_images
from seatrial.models.resolve import resolve
from seatrial.trial.candidates import arrangements, default_arrangement, refinements
from seatrial.trial.journal import TrialJournal
from seatrial.trial.plan import images_folder
from seatrial.trial.preparation import Preparation, Prepared
from seatrial.trial.race import Capacity
from seatrial.trial.sea_trial import TrialPlan
from seatrial.trial.served import Bench
from seatrial.trial.time_budget import TimeBudget, read_budget

app = App()
UNLIMITED_S = 86_400.0


class Swept(msgspec.Struct, frozen=True):
    """A candidate of the sweep."""

    name: str
    accuracy: str
    raw_hz: float
    capacity: Capacity | None


class Sweep(Preparation):
    """A preparation that leaves nothing out but what fails the accuracy."""

    def every(self) -> list[Prepared]:
        """All candidates that run here, and whose accuracy does not fail."""
        self._prepare(default_arrangement(self.subjects[0], self.machine), must=True)
        plain = arrangements(self.subjects, self.machine)
        others = (other for one in plain for other in refinements(one, self.machine))
        for one in [*plain, *others]:
            if one.key not in self.found:
                self._prepare(one)
        return [one for one in self.found.values() if one.raw and one.outcome != "fails"]

    def _pointless(self, one: object) -> str:
        return ""


@app.default
def main(
    contract: Path,
    /,
    *,
    model: str,
    dataset: str,
    annotations: Path | None = None,
    calibration: Path | None = None,
    budget: str = "15m",
    each: float = 90.0,
    least: float = 0.5,
    output: Annotated[Path, Parameter(name=["--output", "-o"])] = Path("sweep"),
) -> None:
    """Run the trial, then the sweep, and print both.

    Args:
        contract: TOML file.
        model: Model file or name.
        dataset: Labelled images.
        annotations: Their labels.
        calibration: Images for INT8.
        budget: Of the trial.
        each: Seconds for which each candidate of the sweep is served.
        least: Raw speed, as a share of the best one's, below which a candidate is not served: no
            service is that much nearer to its engine than another one.
        output: Folder.
    """
    report = find_deployment(
        contract, [model], dataset=dataset, annotations=annotations, calibration=calibration,
        budget=budget, allow_pickle=True, output=output / "trial", on_progress=_say,
    )  # fmt: skip
    print(report.statement)
    wanted, labelled = Contract.read(contract), read_labelled(dataset, annotations)
    folder = images_folder(labelled)
    artifact = resolve(store(), model, allow_pickle=True)
    images, machine = load_images(folder, limit=256, seed=0), this_machine()
    plan = TrialPlan(
        wanted, (subject_of(artifact),), machine, images, labelled.digest(), read_budget(budget)
    )
    workshop = LocalWorkshop(store(), (artifact,), labelled, folder, calibration or folder)
    place = output / "sweep"
    place.mkdir(parents=True, exist_ok=True)
    journal = TrialJournal(place, plan.key)
    clock = TimeBudget(UNLIMITED_S, journal.spent_s)
    sweep = Sweep(wanted, plan.subjects, machine, workshop, journal, clock, _say)
    bench = Bench(wanted, images, workshop, journal, clock, place, _say)
    every = sorted(sweep.every(), key=lambda one: -(one.raw.rate_hz if one.raw else 0.0))
    best_raw_hz = max((one.raw.rate_hz for one in every if one.raw), default=0.0)
    found: list[Swept] = []
    for state in every:
        raw_hz = 0.0 if state.raw is None else state.raw.rate_hz
        chosen = state.one.words == report.chosen
        known = bench.known([state.one.key]).get(state.one.key)
        capacity = None if known is None else known[0]
        if capacity is None and (raw_hz >= least * best_raw_hz or chosen):
            capacity = bench.turn(state, each + bench.start_s)
        found.append(Swept(state.one.words, state.outcome, raw_hz, capacity))
    served = [one for one in found if one.capacity is not None]
    best = max(served, key=lambda one: one.capacity.rate_hz if one.capacity else 0.0)
    again = next((one for one in served if one.name == report.chosen), None)
    share = None
    if again is not None and again.capacity is not None and best.capacity is not None:
        share = again.capacity.rate_hz / best.capacity.rate_hz
    result = {
        "conditions": conditions("benchmarks/trial_vs_sweep.py"),
        "trial": {
            "chosen": report.chosen,
            "elapsed_s": report.elapsed_s,
            "budget_s": report.budget_s,
        },
        "sweep": {"best": best, "served": len(served), "elapsed_s": clock.spent_s},
        "choice_over_best": share,
        "candidates": found,
    }
    (output / "trial_vs_sweep.json").write_bytes(encode_json(result))
    for one in found:
        print(f"{one.name}: raw {one.raw_hz:.3g}/s, {one.capacity}")
    print(f"best of the sweep: {best.name}")
    print(f"choice of the trial: {report.chosen}, {share} of the best, {report.elapsed_s:.0f} s")


def _say(what: str, done: int = 0, total: int = 0, *, unit: str = "") -> None:
    if not done:
        print(what, flush=True)


if __name__ == "__main__":
    app()
