"""The sample detector and the sample photos, fetched and built once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seatrial.artifact import Artifact, Store, sha256_file
from seatrial.errors import SourceUnavailable
from seatrial.lifecycle import tensorflow_ssd
from seatrial.lifecycle.data.samples import sample_photos
from seatrial.lifecycle.registry_wheels import fetch


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where downloads are kept: SEATRIAL_TEST_CACHE between sessions, else for this one."""
    kept = os.environ.get("SEATRIAL_TEST_CACHE")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("downloads")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def frozen_graph(cache: Path) -> Path:
    path = cache / tensorflow_ssd.SOURCE.name
    if path.is_file() and sha256_file(path) == tensorflow_ssd.SOURCE.sha256:
        return path
    try:
        return fetch([tensorflow_ssd.SOURCE], cache, print)[0]
    except SourceUnavailable as error:
        _skip_if_unreachable(error)
        raise


@pytest.fixture(scope="session")
def photos(cache: Path) -> dict[str, Path]:
    """Sample photos by name without suffix."""
    try:
        return {path.stem: path for path in sample_photos(cache / "photos", print)}
    except SourceUnavailable as error:
        _skip_if_unreachable(error)
        raise


@pytest.fixture(scope="session")
def ssd(frozen_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """``ssd-mobilenet-v2`` as `pull` makes it, but for the download, which is done."""
    store = Store(tmp_path_factory.mktemp("store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorflow_ssd, "fetch", lambda files, folder, on_progress: [frozen_graph])
        return tensorflow_ssd.pull(store, "ssd-mobilenet-v2", print, replace=False)


def _skip_if_unreachable(error: SourceUnavailable) -> None:
    if "cannot be reached" in error.message:
        pytest.skip(error.message)
