"""``seatrial reload``, ``canary`` and ``rehearse``: another model while a service runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from seatrial.cli.admin import (
    ReloadAnswer,
    ServiceOptions,
    StatusAnswer,
    ask_service,
)
from seatrial.cli.console import err, out, print_json, store
from seatrial.cli.usage import is_model, with_model
from seatrial.deployment import Deployment
from seatrial.errors import InvalidArtifact, InvalidConfig, NotSwapped
from seatrial.report.numbers import counted, percent
from seatrial.report.table import Table

app = App(
    name="canary",
    help="Serve a second model beside the first: for a share of the requests, or as a shadow.",
    help_format="markdown",
)


def reload(
    deployment: Path | None = None,
    *,
    model: str | None = None,
    abandon: bool = False,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Have a running service serve another model, without a request lost.

    The model is tried in a process of its own, loaded beside the present one in each server
    process, and takes its place between two requests. One that is damaged, does not run, or does
    not answer as reload.* of the deployment wants is not swapped in: exit code 8.

    Args:
        deployment: Deployment file of the service, for its address [default: port 3000].
        model: Name in the store, an artifact folder or a model file [default: what the service
            was started with, looked up anew].
        abandon: Give up the change that is under way, whoever asked for it: a reload, SIGHUP, or
            the start of a canary. Exit code 8: there is none, or the processes switch already.
        service: Which service.
        json: Print JSON.
    """
    from seatrial.serve.rehearsing import without_comparison

    if abandon:
        if model is not None:
            raise InvalidConfig(
                "--abandon gives a change up, and --model asks for one", hint="give one of them"
            )
        _show("POST /admin/reload/abandon", {}, deployment, service, json=json)
        return

    named = str(deployment)
    if deployment is not None and not deployment.exists() and is_model(named):
        hint = with_model(sys.argv[1:], named)
        raise InvalidConfig(f"{named!r} is a model: --model names it", hint=hint)
    body = {"model": model} if model else {}
    told, answer = ask_service("POST /admin/reload", body, deployment, service, kind=ReloadAnswer)
    if json:
        print_json(told)
        return
    if answer.before is None or answer.rehearsal is None:
        err.print(f"{answer.model} is served already: nothing is changed")
        return
    agreed = answer.rehearsal.comparison.agreement
    if agreed is None:
        how = without_comparison(told["rehearsal"])
    else:
        images = counted(answer.rehearsal.images, "image")
        how = f"tried on {images}; they agree on {agreed.share:.1%} of their boxes"
    out.print(f"{answer.model} is served in place of {answer.before.model} ({how})")


@app.command
def start(
    model: str,
    /,
    deployment: Path | None = None,
    *,
    share: str | None = None,
    shadow: str | None = None,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Serve a second model beside the first.

    Args:
        model: Name in the store, an artifact folder or a model file.
        deployment: Deployment file of the service, for its address [default: port 3000].
        share: Share of the requests that it answers: 5%, or 0.05; all of them are 100%.
        shadow: Share of the images that it gets a copy of, in idle lanes: its boxes are compared
            with the answers, and discarded.
        service: Which service.
        json: Print JSON.
    """
    if deployment is not None and Path(model).suffix == ".toml":
        raise InvalidConfig(
            f"the model comes first, then the deployment file: {model} is not a model",
            hint=shlex.join(["seatrial", "canary", "start", str(deployment), model]),
        )
    if (share is None) == (shadow is None):
        raise InvalidConfig("give one of --share and --shadow", hint="for example --share 5%")
    given = share if shadow is None else shadow
    body = {"model": model, "share": _share(given or ""), "shadow": shadow is not None}
    _show("POST /admin/canary", body, deployment, service, json=json)


@app.command
def status(
    deployment: Path | None = None,
    *,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Show what each process serves, and how the canary does.

    Args:
        deployment: Deployment file of the service, for its address [default: port 3000].
        service: Which service.
        json: Print JSON.
    """
    _show("GET /admin/status", {}, deployment, service, json=json)


@app.command
def promote(
    deployment: Path | None = None,
    *,
    force: bool = False,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Serve the canary alone, once it has answered requests.

    Args:
        deployment: Deployment file of the service, for its address [default: port 3000].
        force: Promote a canary that has answered no request, and a shadow that has compared none.
        service: Which service.
        json: Print JSON.
    """
    body = {"force": True} if force else {}
    _show("POST /admin/canary/promote", body, deployment, service, json=json)


@app.command
def abandon(
    deployment: Path | None = None,
    *,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Let the canary go, or give up its start; the first model serves on alone.

    Args:
        deployment: Deployment file of the service, for its address [default: port 3000].
        service: Which service.
        json: Print JSON.
    """
    _show("POST /admin/canary/abandon", {}, deployment, service, json=json)


def rehearse(
    served: str,
    model: str,
    /,
    *,
    deployment: Annotated[Path | None, Parameter()] = None,
    json: bool = False,
) -> None:
    """Try whether a model could take the place of a served one, as a reload does; serve nothing.

    Both answer the same images. Exit code 8: it could not; the message says why.

    Args:
        served: Name in the store, an artifact folder or a model file: what is served.
        model: The same, of what is to take its place.
        deployment: Deployment file: engine, layout and reload.* [default: the defaults].
        json: Print JSON.
    """
    from seatrial.models.resolve import resolve
    from seatrial.rehearsal import give_way
    from seatrial.rehearsal import rehearse as library
    from seatrial.serve.parent import end_with_owner
    from seatrial.serve.rehearsing import NOT_COMPARED

    end_with_owner()
    give_way()
    chosen = Deployment(model) if deployment is None else Deployment.read(deployment)
    before = resolve(store(), served)
    try:
        after = resolve(store(), model)
    except InvalidArtifact as error:  # as a reload says it
        raise NotSwapped(error.message, hint=error.hint) from error
    found = library(before, after, chosen)
    if json:
        print_json(found)
        return
    agreed, images = found.comparison.agreement, counted(found.images, "image")
    how = (
        f"it was tried on {images}; {NOT_COMPARED}"
        if agreed is None
        else f"{agreed.share:.1%} of the boxes agree on {images}"
    )
    memory = f"it takes {found.memory_bytes / 2**20:.0f} MiB"
    out.print(f"{found.name} could be served: {how}; {memory}")


def _share(text: str) -> float:
    percent = text.endswith("%")
    try:
        share = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        share = 0.0
    if share >= 1 and not percent:  # 1 may mean a hundredth, and would be all
        raise InvalidConfig(
            f"the share {text} has no unit: it is a percentage or a part of 1",
            hint=f"write {text}%, or a fraction below 1 such as 0.05; all is 100%",
        )
    if not 0 < share <= 1:
        raise InvalidConfig(f"{text!r} is not a share", hint="for example 5%, or 0.05")
    return share


def _show(
    command: str,
    body: dict[str, Any],
    deployment: Path | None,
    service: ServiceOptions | None,
    *,
    json: bool,
) -> None:
    """Give a command about canaries, and print the status that comes of it."""
    told, answer = ask_service(command, body, deployment, service, kind=StatusAnswer)
    if json:
        print_json(told)
        return
    table = Table("process", "model", "digest")
    for one in answer.processes:
        table.add_row(str(one.pid), one.name, one.digest[:12])
    out.print(table)
    canary = answer.canary
    if canary is None:
        err.print("no canary")
        return
    what = "a shadow of {} of the images" if canary.shadow else "a canary with {} of the requests"
    out.print(f"{canary.model} ({canary.digest[:12]}): {what.format(percent(canary.share))}")
    if canary.failure:
        out.print(f"it serves no more: {canary.failure}")
    # Nothing is compared where the canary's answers are those of the service.
    compared = {"images": canary.images, "boxes": canary.boxes} if canary.shadow else {}
    for kind, counts in {"requests": canary.requests, **compared}.items():
        out.print(f"{kind}: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    if means := _mean_latencies(canary.requests, canary.seconds):
        out.print(f"mean latency: {', '.join(means)}")
    if canary.agreement is not None:
        out.print(f"agreement: {canary.agreement:.1%} of the boxes")


def _mean_latencies(requests: Mapping[str, int], seconds: Mapping[str, float]) -> list[str]:
    """Mean latency of each variant that has answers: ``3.2 ms live``."""
    return [
        f"{1000 * total / answered:.3g} ms {variant}"
        for variant, total in seconds.items()
        if (answered := requests.get(f"{variant}_answered", 0))
    ]
