"""Models opened by name: what is refused before anything is loaded, what can be compared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seatrial.artifact import Artifact, Store
from seatrial.demo.models import Model
from seatrial.demo.opening import Opener, open_models, opener, service
from seatrial.deployment import CoreLayout, Deployment
from seatrial.errors import InvalidArtifact, InvalidConfig, ServiceFailed


def deployment_of(name: str) -> Deployment:
    return Deployment(name, engine="onnxruntime", layout=CoreLayout(1, 1, 1, wide=False))


@pytest.fixture
def store(tmp_path: Path, tiny_artifact: Artifact, other_artifact: Artifact) -> Store:
    """A store with two models."""
    for artifact in (tiny_artifact, other_artifact):
        shutil.copytree(artifact.path, tmp_path / "store" / artifact.manifest.name)
    return Store(tmp_path / "store")


def test_a_model_that_does_not_exist_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArtifact, match="no artifact named 'nosuch'"):
        opener("nosuch", store, deployment_of)


@pytest.mark.parametrize(
    ("url", "error"),
    [("ftp://127.0.0.1", InvalidConfig), ("http://127.0.0.1:1", ServiceFailed)],
)
def test_a_service_that_cannot_be_shown_is_refused(url: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        service(url)


def test_an_address_is_a_service(store: Store) -> None:
    with pytest.raises(ServiceFailed, match=r"nothing answers at .*: Connection refused"):
        opener("http://127.0.0.1:1", store, deployment_of)


def test_other_models_of_the_store_can_be_compared(store: Store) -> None:
    (store.root / "broken").mkdir()
    (store.root / "broken" / "manifest.json").write_text("{}")  # is not offered
    shown = opener("tiny", store, deployment_of)
    with open_models(shown, None, store, deployment_of) as models:
        assert (models.shown.name, models.rivals, models.first_rival) == ("tiny", ["other"], None)
        rival = models.rival("other")
        assert rival.labels == ("crimson traffic light", "green", "blue")
        assert models.rival("other") is rival


def test_the_model_is_left_out_under_every_name_it_has(store: Store) -> None:
    by_path = opener(str(store.root / "tiny"), store, deployment_of)
    with open_models(by_path, None, store, deployment_of) as models:
        assert models.rivals == ["other"]


def test_the_first_rival_is_opened_at_once(store: Store) -> None:
    names = [opener(name, store, deployment_of) for name in ("tiny", "other")]
    with open_models(names[0], names[1], store, deployment_of) as models:
        assert (models.rivals, models.first_rival) == (["other"], "other")
    # The same model can be compared with itself.
    with open_models(names[0], names[0], store, deployment_of) as models:
        assert models.rivals == ["tiny", "other"]


def test_nothing_stays_open_if_the_rival_cannot_be_opened(
    store: Store, open_tiny: Callable[..., Any]
) -> None:
    closed: list[str] = []
    model: Model = open_tiny("tiny")
    close = model.close
    model.close = lambda: (closed.append("tiny"), close())[1]  # type: ignore[method-assign]

    def fail() -> Model:
        raise InvalidArtifact("damaged")

    with pytest.raises(InvalidArtifact, match="damaged"):
        open_models(Opener("tiny", lambda: model), Opener("bad", fail), store, deployment_of)
    assert closed == ["tiny"]
