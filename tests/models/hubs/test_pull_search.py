"""Search: sorting, paging, filters, and whether a family here can run what is found."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import pytest

from seatrial.errors import MissingExtra
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.compatible import Compatibility
from seatrial.models.hubs.listing import Query
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.reference import parse
from seatrial.system.extras import install_command

CONFIG = json.dumps({"model_type": "detr"}).encode()


def order(hub: Any, key: str, limit: int) -> list[str]:
    found = [repo for name, repo in hub.repos.items() if repo.task == "object-detection"]
    return [r.id for r in sorted(found, key=lambda r: getattr(r, key), reverse=True)][:limit]


@pytest.mark.parametrize(
    ("source", "sort", "key"),
    [
        ("huggingface", "downloads", "downloads"),
        ("huggingface", "likes", "likes"),
        ("huggingface", "trending", "trend"),
        ("modelscope", "downloads", "downloads"),
        ("modelscope", "likes", "likes"),
    ],
)
@pytest.mark.parametrize("limit", [1, 20, 130])
def test_the_best_come_first(
    hub: Any, access: Access, many: list[str], source: Any, sort: Any, key: str, limit: int
) -> None:
    found = search(source, Query("detr", "object-detection", sort, limit), access)
    assert [model.name for model in found] == order(hub, key, limit)
    assert all(parse(model.reference).repo == model.name for model in found)


def test_more_than_there_are(access: Access, many: list[str], source: Any) -> None:
    found = search(source, Query("detr", limit=1000), access)
    assert len(found) == len({model.name for model in found}) == 250


def test_all_tasks_and_all_names(access: Access, many: list[str], source: Any) -> None:
    assert len(search(source, Query("", "", limit=1000), access)) == 252


def test_nothing_fits(access: Access, many: list[str], source: Any) -> None:
    assert search(source, Query("no such model"), access) == []


def test_what_is_told_of_a_model(hub: Any, access: Access) -> None:
    files = {"config.json": CONFIG, "model.safetensors": bytes(4000)}
    hub.add("acme/detr", files, downloads=12, likes=3, gated=True, licence="mit", tags=["detr"])
    (model,) = search("huggingface", Query("detr"), access)
    assert (model.downloads, model.likes, model.licence, model.gated) == (12, 3, "mit", True)
    assert (model.size_bytes, model.size_of) == (4000, "weights")
    assert model.updated.startswith("2026-05-04")
    assert model.verdict == Compatibility("yes", "detr")
    (model,) = search("modelscope", Query("detr"), access)
    assert (model.downloads, model.likes, model.licence, model.gated) == (12, 3, "mit", True)
    assert (model.size_bytes, model.size_of) == (4000 + len(CONFIG), "repository")
    assert model.verdict == Compatibility("yes", "detr")


def test_a_model_of_which_little_is_told(hub: Any, access: Access) -> None:
    hub.add("acme/thing", {}, licence="", library="")
    (model,) = search("huggingface", Query("thing"), access)
    assert model.size_bytes is None
    (model,) = search("modelscope", Query("thing"), access)
    assert (model.licence, model.verdict.runs) == ("unknown", "no")


def test_a_yolo_is_pulled_by_its_file(access: Access, yolo: Any, source: Any) -> None:
    (model,) = search(source, Query("yolo"), access)
    assert model.verdict == Compatibility("yes", "yolo", file="onnx/model.onnx")
    assert model.reference == f"{source}:acme/yolo11t/onnx/model.onnx"


def test_a_pickle_is_told_before_it_is_pulled(hub: Any, access: Access, source: Any) -> None:
    hub.add("acme/detr", {"config.json": CONFIG, "pytorch_model.bin": b"x"}, tags=["detr"])
    (model,) = search(source, Query("detr"), access)
    assert model.verdict.describe() == "detr (--allow-pickle)"


@pytest.mark.parametrize("absent", ["huggingface_hub", "modelscope_hub"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == absent else find_spec(name)
    )
    source: Any = absent.removesuffix("_hub")
    with pytest.raises(MissingExtra, match=f"{absent} is not installed.*models on") as refusal:
        search(source, Query("detr"), Access())
    assert refusal.value.hint == install_command("hub")
