"""``seatrial evaluate``: tables or JSON, the comparison with a parent, the verdict as exit code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from scripted_service import scripted
from seatrial.artifact import Artifact, Store
from seatrial.cli.deployment import DeploymentOptions
from seatrial.cli.evaluate import evaluate as command
from seatrial.datasets.read import read_labelled
from seatrial.errors import InvalidArtifact, InvalidConfig, InvalidInput, NotWritable
from seatrial.manifest import Step
from seatrial.serve.process import ServiceProcess


def test_it_compares_with_a_parent(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, capsysbinary: Any
) -> None:
    command(
        str(tiny_artifact.path),
        dataset=f"coco:{scenes}",
        parent=str(tiny_artifact.path),
        save_detections=tmp_path / "found.json",
        json=True,
    )
    report = json.loads(capsysbinary.readouterr().out)
    assert report["scores"]["figures"]["ap"] == pytest.approx(1)
    assert report["parent"]["ap"]["difference"] == 0
    rows = json.loads((tmp_path / "found.json").read_bytes())
    assert {row["category_id"] for row in rows} == {5, 15, 25}
    assert len(rows) == 6


def test_a_served_child_is_found_by_its_digest(
    start_service: Callable[..., ServiceProcess],
    tiny_artifact: Artifact,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: Any,
) -> None:
    """What was finetuned may give other boxes than its parent: AP alone is judged."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    store = Store(tmp_path / "artifacts")
    facts = {"name": "trained", "parent": tiny_artifact.digest, "step": Step("finetune")}
    with store.staging() as folder:
        shutil.copy(tiny_artifact.file("onnx"), folder)
        child = store.commit(folder, msgspec.structs.replace(tiny_artifact.manifest, **facts))
    with start_service(child, runtime="uvicorn") as service:
        command(
            url=service.url,
            dataset=f"coco:{scenes}",
            parent=str(tiny_artifact.path),
            json=True,
        )
    report = json.loads(capsysbinary.readouterr().out)
    metrics = [row["clause"]["metric"] for row in report["parent_verdict"]["rows"]]
    assert metrics == ["ap_drop"]


def test_it_prints_a_table_for_people(
    tiny_artifact: Artifact, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(str(tiny_artifact.path), dataset=f"coco:{scenes}")
    shown = capsys.readouterr().out
    assert "ap_small" in shown
    assert "green" in shown
    assert {"precision", "recall", "best"} <= set(shown.split())  # the operating point
    assert "against the parent" not in shown


def test_it_shows_how_confidences_moved(
    tiny_artifact: Artifact, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tiny_artifact.path)
    command(path, dataset=f"coco:{scenes}", parent=path)
    shown = capsys.readouterr().out
    (mean,) = re.findall(r"mean shift of confidence\W+([\d.]+)", shown)
    (top,) = re.findall(r"0\.9 to 1\.0\W+(\d+)\W+([\d.]+)\W+([\d.]+)", shown)
    assert float(mean) == 0
    assert int(top[0]) > 0
    assert top[1] == top[2]


def test_it_ends_with_the_verdict(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "gate"\n[accuracy]\nap = 0.9\n')
    with pytest.raises(SystemExit) as ended:
        command(str(tiny_artifact.path), dataset=f"coco:{scenes}", contract=contract)
    assert ended.value.code == 9  # perfect, on too few images
    assert "gate cannot be decided" in capsys.readouterr().err
    labels = json.loads((scenes / "instances.json").read_text())
    few = len(labels["images"])
    for copy in (1, 2):
        for image in labels["images"][:few]:
            name = f"{copy}-{image['file_name']}"
            (scenes / name).write_bytes((scenes / image["file_name"]).read_bytes())
            number = image["id"] + 1000 * copy
            labels["images"].append({**image, "id": number, "file_name": name})
            labels["annotations"] += [
                {**row, "image_id": number}
                for row in labels["annotations"]
                if row["image_id"] == image["id"]
            ]
    (scenes / "instances.json").write_text(json.dumps(labels))
    command(str(tiny_artifact.path), dataset=f"coco:{scenes}", contract=contract)
    assert "gate holds" in capsys.readouterr().err
    half = scenes / "half.json"
    for row in labels["annotations"]:
        row["bbox"][2] /= 2
    half.write_text(json.dumps(labels))
    with pytest.raises(SystemExit) as ended:
        command(
            str(tiny_artifact.path),
            dataset=f"coco:{scenes}",
            annotations=half,
            contract=contract,
            json=True,
        )
    printed = capsys.readouterr()
    assert ended.value.code == 8
    document = json.loads(printed.out)
    assert document["verdict"]["outcome"] == "fails"
    assert document["intervals"]["ap"]["high"] < 0.9
    assert "gate fails" in printed.err


def test_it_refuses_engine_options_for_a_running_service(scenes: Path) -> None:
    from seatrial.cli.deployment import DeploymentOptions

    with pytest.raises(InvalidConfig, match="--url measures a running service"):
        command(
            dataset=f"coco:{scenes}",
            url="http://127.0.0.1:1",
            options=DeploymentOptions(precision="bf16"),
        )
    with pytest.raises(InvalidConfig, match="--threshold 2"):
        command("x", dataset=f"coco:{scenes}", threshold=2)


def test_a_measurement_that_was_broken_off_goes_on(
    service: ServiceProcess, scenes: Path, tmp_path: Path, capsysbinary: Any
) -> None:
    kept = tmp_path / "answers"

    said: list[str] = []

    def measured(**options: Any) -> Any:
        command(url=service.url, dataset=f"coco:{scenes}", json=True, **options)
        printed = capsysbinary.readouterr()
        said[:] = [line for line in printed.err.decode().splitlines() if "answer" in line]
        return json.loads(printed.out)["scores"]

    def answers() -> float:
        text = httpx.get(f"{service.url}/metrics").text
        found = re.findall(r'^seatrial_requests_total{.*route="/detect".*} (\S+)$', text, re.M)
        return sum(map(float, found))

    whole = measured(at_a_time=1)
    before = answers()
    assert measured(resume=kept) == whole
    lines = kept.read_bytes().splitlines(keepends=True)
    assert answers() - before == len(lines) > 2
    assert said == []
    kept.write_bytes(b"".join(lines[:2]))
    assert measured(resume=kept, at_a_time=2) == whole
    assert answers() - before == 2 * len(lines) - 2
    assert said == [f"{kept} has 2 answers of this model already"]
    model = json.loads(lines[0])["model"].encode()
    others = [line.replace(model, b"0" * 64) for line in lines]
    kept.write_bytes(b"".join([*others, lines[0]]))
    assert measured(resume=kept) == whole
    left = f"{len(lines)} answers of another model, engine or precision are left aside"
    assert said == [f"{kept} has 1 answer of this model already; {left}"]
    kept.write_bytes(b"".join(others))
    assert measured(resume=kept) == whole
    assert said == [f"{kept}: {left}"]
    for wrong in ({"at_a_time": 0}, {"at_a_time": 33}):
        with pytest.raises(InvalidConfig, match="--at-a-time"):
            measured(**wrong)
    for path in (next(scenes.rglob("*.*g")), tmp_path / "none" / "answers"):
        with pytest.raises((InvalidInput, NotWritable)):
            measured(resume=path)
    for alone in ({"at_a_time": 1}, {"resume": kept}):
        with pytest.raises(InvalidConfig, match="is for a running service"):
            command("x", dataset=f"coco:{scenes}", **alone)


def test_the_model_of_a_triton_is_named(
    service: ServiceProcess, scenes: Path, capsysbinary: Any
) -> None:
    words = {"digest": "d", "labels": '["red", "green", "blue"]', "engine": "e", "device": "cpu"}
    words |= {"precision": "f32"}
    config = {"parameters": {key: {"string_value": text} for key, text in words.items()}}
    outputs = [
        {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": 0}}
        for name, kind, shape in (
            ("boxes", "FP32", [0, 4]), ("scores", "FP32", [0]), ("class_ids", "INT64", [0]),
        )
    ]  # fmt: skip
    index, found = b'[{"name": "a"}, {"name": "b"}]', json.dumps({"outputs": outputs}).encode()
    for path, asked in (("b", "/v2/models/b/infer"), ("/v2/models/b/versions/1/infer",) * 2):
        with scripted((200, {}, index), (200, {}, found)) as triton:
            triton.model = (200, {}, json.dumps(config).encode())
            command(url=triton.url, path=path, dataset=f"coco:{scenes}", json=True)
            assert {*triton.posted[1:]} == {asked}
        assert json.loads(capsysbinary.readouterr().out)["subject"]["name"] == "b"
    with pytest.raises(InvalidConfig, match="names a model of a running Triton"):
        command(str(scenes), path="b", dataset=f"coco:{scenes}")
    with pytest.raises(InvalidConfig, match="is a service of Seatrial"):
        command(url=service.url, path="b", dataset=f"coco:{scenes}")


def test_boxes_that_cannot_be_written_are_one_error_before_the_work(
    scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWritable) as refusal:
        command(
            "no-such-model",
            dataset=f"coco:{scenes}",
            save_detections=tmp_path / "file" / "found.json",
        )
    assert "--save-detections" in refusal.value.hint


def test_an_unknown_parent_is_reported_before_the_work(
    tiny_artifact: Artifact, scenes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    monkeypatch.setattr(
        "seatrial.accuracy.evaluate.evaluate", lambda *given, **options: pytest.fail("measured")
    )
    with pytest.raises(InvalidArtifact, match="no artifact named 'no-such-parent'"):
        command(str(tiny_artifact.path), dataset=f"coco:{scenes}", parent="no-such-parent")


def test_the_page_has_the_interval_the_verdict_and_the_parent(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract, page = tmp_path / "contract.toml", tmp_path / "new" / "page.html"
    contract.write_text('name = "gate"\n[accuracy]\nap50 = 0.25\n')
    path = str(tiny_artifact.path)
    with pytest.raises(SystemExit):
        command(path, dataset=f"coco:{scenes}", parent=path, contract=contract, report=page)
    assert f"wrote {page}" in capsys.readouterr().err.replace("\n", "")
    html = page.read_text()
    shown = (
        "gate cannot be decided",
        "AP50 at least 0.25",
        "too few for an interval",
        "Accuracy and its interval",
        "Against the parent",
        "green",
        "Conditions",
        "made by",
        "digest of the images",
        "Precision over recall",
        "Confusion matrix",
        "Images with most errors",
    )
    for words in shown:
        assert words in html, words


def test_a_page_that_cannot_be_written_is_one_error_before_the_work(
    scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotWritable) as refusal:
        command("no-such-model", dataset=f"coco:{scenes}", report=tmp_path / "file" / "page.html")
    assert "--report" in refusal.value.hint


@pytest.mark.parametrize("way", ["an image", "the labels", "a link to the labels", "the model"])
def test_no_input_is_overwritten_by_the_detections(
    tiny_artifact: Artifact, scenes: Path, tmp_path: Path, way: str
) -> None:
    labels = next(path for path in scenes.rglob("*.json"))
    model = next(path for path in tiny_artifact.path.iterdir() if path.suffix == ".onnx")
    target = {"an image": next(scenes.rglob("*.png")), "the model": model}.get(way, labels)
    content = target.read_bytes()
    if "link" in way:
        target = tmp_path / "link.json"
        target.symlink_to(labels)
    with pytest.raises(InvalidInput, match="is one of the inputs") as refusal:
        command(str(model), dataset=f"coco:{scenes}", save_detections=target)
    assert refusal.value.hint == "name another file (--save-detections)"
    assert target.read_bytes() == content


@pytest.mark.parametrize("way", ["the parent", "a parent's folder", "the store", "a deployment"])
def test_no_model_is_overwritten_by_the_detections(
    tiny_artifact: Artifact,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Neither one that is named otherwise than first, nor any file in an artifact's folder."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    model = tmp_path / "model.onnx"
    shutil.copy(tiny_artifact.file("onnx"), model)
    artifact = shutil.copytree(tiny_artifact.path, tmp_path / "artifacts" / "tiny")
    copy = shutil.copytree(tiny_artifact.path, tmp_path / "copy")
    (tmp_path / "service.toml").write_text(f'model = "{model}"\n')
    given: dict[str, Any] = {
        "the parent": {"artifact": "tiny", "parent": str(model)},
        "a parent's folder": {"artifact": "tiny", "parent": str(copy)},
        "the store": {"artifact": "tiny"},
        "a deployment": {"options": DeploymentOptions(deployment=tmp_path / "service.toml")},
    }[way]
    target = {"a parent's folder": copy / "manifest.json", "the store": artifact / "new.json"}
    place = target.get(way, model)
    before = place.read_bytes() if place.exists() else None
    own = [given.pop("artifact")] if "artifact" in given else []
    with pytest.raises(InvalidInput, match=r"is one of the inputs|which is read$"):
        command(*own, dataset=f"coco:{scenes}", save_detections=place, **given)
    assert (place.read_bytes() if place.exists() else None) == before


def test_no_input_is_overwritten_by_the_page(scenes: Path, tmp_path: Path) -> None:
    page = tmp_path / "service.html"
    page.write_text('model = "not-looked-for"\n')
    given = {"options": DeploymentOptions(deployment=page), "report": page}
    with pytest.raises(InvalidInput, match="is one of the inputs"):
        command(dataset=f"coco:{scenes}", **given)
    contract = tmp_path / "contract.html"
    contract.write_text('name = "gate"\n[accuracy]\nap = 0.9\n')
    with pytest.raises(InvalidInput, match="is one of the inputs"):
        command("x", dataset=f"coco:{scenes}", contract=contract, report=contract)
    with pytest.raises(InvalidConfig, match="--save-detections and --report both name"):
        new = tmp_path / "new.html"
        command("x", dataset=f"coco:{scenes}", save_detections=new, report=new)


def test_two_models_are_not_taken_for_one(scenes: Path) -> None:
    with pytest.raises(InvalidConfig, match="two models are named: a and --model b") as refusal:
        command("a", dataset=f"coco:{scenes}", options=DeploymentOptions(model="b"))
    assert "seatrial evaluate a --parent b" in refusal.value.hint


def test_images_that_chose_the_epoch_decide_no_clause(
    tiny_artifact: Artifact,
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: Any,
) -> None:
    """The labels are known by their digest, and the finetuning by the lineage in the store."""
    monkeypatch.setenv("SEATRIAL_HOME", str(tmp_path))
    store = Store(tmp_path / "artifacts")
    labels = read_labelled(f"coco:{scenes}").digest()

    def commit(name: str, step: Step, parent: Artifact) -> Artifact:
        facts = {"name": name, "parent": parent.digest, "step": step}
        with store.staging() as folder:
            shutil.copy(tiny_artifact.file("onnx"), folder)
            return store.commit(folder, msgspec.structs.replace(tiny_artifact.manifest, **facts))

    trained = commit("trained", Step("finetune", {"val": labels}), tiny_artifact)
    commit("served", Step("export"), trained)
    contract = tmp_path / "contract.toml"
    contract.write_text('name = "gate"\n[accuracy]\nap50 = 0.01\n')
    with pytest.raises(SystemExit):
        command("served", dataset=f"coco:{scenes}", contract=contract, json=True)
    (row,) = json.loads(capsysbinary.readouterr().out)["verdict"]["rows"]
    assert row["outcome"] == "undecided"
    assert row["reason"].startswith("the same images chose the epoch of trained")
