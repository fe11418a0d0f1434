"""Models by name, from the source that the table names."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seatrial.artifact import Store
from seatrial.errors import InvalidInput, MissingExtra
from seatrial.models.import_onnx import import_onnx
from seatrial.models.sources.table import SOURCES, pull
from seatrial.progress import silent

ModelFile = Callable[..., Path]


@pytest.mark.parametrize("name", SOURCES)
def test_every_entry_is_a_function_that_takes_what_it_is_given(name: str) -> None:
    module, _, function = SOURCES[name].partition(":")
    found = getattr(importlib.import_module(module), function)
    assert list(inspect.signature(found).parameters) == ["store", "name", "on_progress", "replace"]


def test_replacing_fetches_again(
    store: Store, model_file: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seatrial.models.sources import ultralytics

    asked: list[bool] = []
    there = import_onnx(store, model_file(), name="yolo11n")
    monkeypatch.setattr(
        ultralytics, "pull", lambda store, name, on_progress, *, replace: asked.append(replace)
    )
    assert pull(store, "yolo11n", on_progress=silent).digest == there.digest
    assert asked == []
    pull(store, "yolo11n", on_progress=silent, replace=True)
    pull(store, "yolo11s", on_progress=silent)
    assert asked == [True, False]


def test_pulling_a_name_that_nobody_knows(store: Store) -> None:
    with pytest.raises(InvalidInput, match="unknown model 'yolo11nn'") as refusal:
        pull(store, "yolo11nn", on_progress=silent)
    assert refusal.value.hint.startswith("did you mean 'yolo11n'? known: ssd-mobilenet-v2, ")
    with pytest.raises(InvalidInput, match="unknown model 'else'") as refusal:
        pull(store, "else", on_progress=silent)
    assert refusal.value.hint.startswith("known: ")
    assert all(name in refusal.value.hint for name in SOURCES)


def test_pulling_what_is_there_already_opens_it(store: Store, model_file: ModelFile) -> None:
    told: list[str] = []
    there = import_onnx(store, model_file(), name="yolo11n")
    assert pull(store, "yolo11n", on_progress=told.append).digest == there.digest
    assert told == ["yolo11n is in the store already"]


@pytest.mark.parametrize("name", ["yolo11n", "yolo11x"])
def test_yolo_by_name_without_the_extra_names_it(
    store: Store, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)  # as if it were not installed
    with pytest.raises(MissingExtra, match=f"ultralytics .*pulling {name}") as refusal:
        pull(store, name, on_progress=lambda text: None)
    assert "[yolo]" in refusal.value.hint
    assert store.names() == []
    assert list(store.root.iterdir()) == []


def test_a_reference_goes_to_the_hubs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from seatrial.models.hubs import pull as hubs
    from seatrial.models.hubs.access import Access

    asked: list[tuple[object, ...]] = []

    def stand_in(store: Store, text: str, options: object, *, on_progress: object, replace: bool):
        asked.append((text, options, replace))
        return "artifact"

    monkeypatch.setattr(hubs, "pull", stand_in)
    public = hubs.PullOptions(Access(), store.root.parent / "downloads")
    given = hubs.PullOptions(Access(attempts=1), store.root)
    assert pull(store, "huggingface:a/b", on_progress=silent) == "artifact"
    pull(store, "modelscope:a/b", on_progress=silent, replace=True, hub=given)
    assert asked == [("huggingface:a/b", public, False), ("modelscope:a/b", given, True)]
