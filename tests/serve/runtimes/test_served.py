"""A deployment as one server process serves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dimmed_artifacts import dimmed_artifact
from seatrial.artifact import Artifact
from seatrial.deployment import CoreLayout, Deployment
from seatrial.errors import InvalidConfig
from seatrial.serve.runtimes import served
from seatrial.serve.runtimes.bento import service
from seatrial.serve.runtimes.served import OwnWorker, Served, become_worker
from seatrial.serve.served_state import ServedState
from seatrial.serve.service_folder import write_service


@pytest.fixture
def folder(tiny_artifact: Artifact, tmp_path: Path) -> Path:
    deployment = Deployment("m", engine="null", layout=CoreLayout(workers=1))
    return write_service(tmp_path / "service", tiny_artifact, deployment)


def test_the_model_is_found_from_the_folder_of_the_file(
    folder: Path, tiny_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    opened = Served(folder / "deployment.toml").open()
    try:
        assert opened.digest == tiny_artifact.digest
    finally:
        opened.close()


def test_what_was_swapped_in_is_served_by_the_name_of_the_start(
    folder: Path, tiny_model: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dimmed_artifact(tiny_model, tmp_path, 0.6, "other")
    ServedState(str(other.path), other.digest, "other", served_as="first").write(tmp_path)
    monkeypatch.setattr(served.starts, "folder", lambda: tmp_path)
    opened = Served(folder / "deployment.toml").open()
    try:
        assert (opened.digest, opened.name) == (other.digest, "first")
    finally:
        opened.close()


def test_a_process_of_our_supervisor_gets_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_own_worker", [])
    become_worker(OwnWorker(3, 1))
    of_worker = service(folder / "deployment.toml")
    assert isinstance(of_worker, Served)
    assert (of_worker._worker, of_worker._failed_starts) == (3, 1)


def test_what_replaces_the_start_is_called_at_the_start(folder: Path) -> None:
    of_folder = Served(folder / "deployment.toml")

    def fail() -> None:
        raise LookupError("replaced")

    of_folder.start = fail  # type: ignore[assignment]
    app = of_folder.application()

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pytest.fail("it started")

    with pytest.raises(LookupError, match="replaced"):
        asyncio.run(start())


def test_a_deployment_that_is_not_valid_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "deployment.toml").write_text('model = "m"\nengin = "null"\n')
    with pytest.raises(InvalidConfig, match="unknown key 'engin'"):
        Served(tmp_path / "deployment.toml")
