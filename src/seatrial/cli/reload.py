"""``seatrial reload``, ``canary`` and ``rehearse``: another model while a service runs."""

from __future__ import annotations

import sys
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
from seatrial.errors import InvalidConfig
from seatrial.report.numbers import counted
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
        service: Which service.
        json: Print JSON.
    """
    from seatrial.serve.rehearsing import without_comparison

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
        share: Share of the requests that it answers: 5%, or 0.05.
        shadow: Share of the images that it gets a copy of, in idle lanes: its boxes are compared
            with the answers, and discarded.
        service: Which service.
        json: Print JSON.
    """
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
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Serve the canary alone.

    Args:
        deployment: Deployment file of the service, for its address [default: port 3000].
        service: Which service.
        json: Print JSON.
    """
    _show("POST /admin/canary/promote", {}, deployment, service, json=json)


@app.command
def abandon(
    deployment: Path | None = None,
    *,
    service: ServiceOptions | None = None,
    json: bool = False,
) -> None:
    """Let the canary go; the first model serves on alone.

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
    found = library(resolve(store(), served), resolve(store(), model), chosen)
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
    out.print(f"{canary.model} ({canary.digest[:12]}): {what.format(f'{canary.share:.3g}')}")
    if canary.failure:
        out.print(f"it serves no more: {canary.failure}")
    for kind, counts in (
        ("requests", canary.requests),
        ("images", canary.images),
        ("boxes", canary.boxes),
    ):
        out.print(f"{kind}: {', '.join(f'{number} {name}' for name, number in counts.items())}")
    if canary.agreement is not None:
        out.print(f"agreement: {canary.agreement:.1%} of the boxes")
