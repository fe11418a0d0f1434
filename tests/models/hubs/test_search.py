"""Search: sorting, paging, filters, and whether a family here can run what is found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from seatrial.errors import InvalidInput
from seatrial.models.hubs.access import Access
from seatrial.models.hubs.compatible import MODEL_TYPES, Compatibility, judge
from seatrial.models.hubs.listing import Query
from seatrial.models.hubs.pull import search
from seatrial.models.hubs.reference import parse

CONFIG = json.dumps({"model_type": "detr"}).encode()
SOURCES = ("huggingface", "modelscope")


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def many(hub: Any) -> list[str]:
    """250 models with detr in their name, and some others."""
    for number in range(250):
        # Three orders that have nothing to do with each other.
        hub.add(
            f"acme/detr-{number:03d}", {"config.json": CONFIG, "model.safetensors": b"x"},
            downloads=number * 7 % 250, likes=number * 11 % 250, trend=number * 13 % 250,
        )  # fmt: skip
    hub.add("acme/vit", {"config.json": b"{}"}, task="image-classification", downloads=9999)
    hub.add("acme/detr-panoptic", {"config.json": CONFIG}, task="image-segmentation")
    return list(hub.repos)


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


@pytest.mark.parametrize(("limit", "pages"), [(20, 1), (100, 1), (101, 2), (250, 3)])
def test_pages_of_huggingface(
    hub: Any, access: Access, many: list[str], limit: int, pages: int
) -> None:
    assert len(search("huggingface", Query("detr", limit=limit), access)) == limit
    assert len(hub.seen) == pages
    # The mirror hands on the hub's own addresses; it is the mirror that is asked again.
    assert {seen.host for seen in hub.seen} == {hub.url}


@pytest.mark.parametrize(("limit", "pages"), [(20, 1), (50, 1), (51, 2), (250, 5)])
def test_pages_of_modelscope(
    hub: Any, access: Access, many: list[str], limit: int, pages: int
) -> None:
    assert len(search("modelscope", Query("detr", limit=limit), access)) == limit
    assert len(hub.asked("openapi")) == pages


def test_more_than_there_are(access: Access, many: list[str], source: Any) -> None:
    found = search(source, Query("detr", limit=1000), access)
    assert len(found) == len({model.name for model in found}) == 250


def test_all_tasks_and_all_names(access: Access, many: list[str], source: Any) -> None:
    assert len(search(source, Query("", "", limit=1000), access)) == 252


def test_nothing_fits(access: Access, many: list[str], source: Any) -> None:
    assert search(source, Query("no such model"), access) == []


@pytest.mark.parametrize("limit", [0, -1, 1001])
def test_limits(limit: int) -> None:
    with pytest.raises(InvalidInput, match="1 to 1000"):
        Query(limit=limit)


def test_modelscope_has_its_own_names_for_tasks(hub: Any, access: Access) -> None:
    search("modelscope", Query("detr", "object-detection", "trending"), access)
    (seen,) = hub.asked("openapi")
    assert "filter.task=image-object-detection" in seen.path
    assert "sort=default" in seen.path


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


def test_modelscope_is_asked_for_the_files_of_the_first_models_only(
    hub: Any, access: Access, many: list[str]
) -> None:
    found = search("modelscope", Query("detr", limit=60), access)
    assert len(hub.asked("repo/files")) == len(hub.asked("FilePath=config.json")) == 50
    assert [model.verdict.runs for model in found] == ["yes"] * 50 + ["unknown"] * 10


@pytest.mark.parametrize("route", ["repo/files", "FilePath"])
def test_files_that_cannot_be_looked_at_are_no_reason_to_fail(
    hub: Any, access: Access, fault: Any, route: str
) -> None:
    hub.add("acme/detr", {"config.json": CONFIG, "model.safetensors": b"x"})
    hub.faults.append(fault(route, status=500, times=9))
    (model,) = search("modelscope", Query("detr"), access)
    assert model.verdict == Compatibility("unknown")


WEIGHTS = ["config.json", "model.safetensors"]


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_transformers_models_that_run(model_type: str) -> None:
    assert judge(model_type, [], WEIGHTS) == Compatibility("yes", MODEL_TYPES[model_type])
    tags = ["library:transformers", f"model_type:{model_type}"]
    assert judge("", tags, None) == Compatibility("yes", MODEL_TYPES[model_type])
    assert judge("", [model_type.replace("_", "-")], WEIGHTS).runs == "yes"


@pytest.mark.parametrize(
    ("model_type", "tags", "files", "said"),
    [
        ("detr", [], ["config.json", "pytorch_model.bin"], "detr (--allow-pickle)"),
        ("detr", [], ["config.json", "onnx/model.onnx"], "detr (onnx/model.onnx)"),
        ("detr", [], ["config.json"], "no (no weights)"),
        ("yolos", ["yolos", "vision"], WEIGHTS, "no (yolos)"),
        ("deformable_detr", ["detr"], WEIGHTS, "no (deformable_detr)"),
        ("", ["ultralytics", "yolo11"], ["a.onnx", "b/c/d.onnx"], "yolo (a.onnx)"),
        ("yolov10", [], ["onnx/model.onnx"], "yolo (onnx/model.onnx)"),
        ("", ["ultralytics"], ["yolo11n.pt"], "no (pickle only; export it to ONNX)"),
        ("", ["library:ultralytics"], None, "? (needs an .onnx file)"),
        ("", ["keras"], ["weights.h5"], "no"),
        ("", [], ["model.onnx"], "?"),
        ("", [], None, "?"),
    ],
)
def test_what_runs_here(model_type: str, tags: list[str], files: list[str], said: str) -> None:
    assert judge(model_type, tags, files).describe() == said
