"""Service folders: what is in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import yaml

from seatrial.artifact import MANIFEST, Artifact
from seatrial.deployment import Deployment, Limits
from seatrial.errors import (
    InvalidInput,
    NotWritable,
)
from seatrial.serve.reload import RELOADED
from seatrial.serve.service_folder import (
    environment,
    place_artifact,
    write_service,
)
from seatrial.serve.triton.repository import write_repository
from seatrial.system.written_folders import RECORD


def test_a_folder_stands_alone(tiny_artifact: Artifact, tmp_path: Path) -> None:
    deployment = Deployment("whatever", engine="null", limits=Limits(queue=7))
    folder = write_service(tmp_path / "a" / "service", tiny_artifact, deployment)
    assert sorted(p.name for p in folder.iterdir()) == [
        RECORD, "bentofile.yaml", "deployment.toml", "model", "service.py",
    ]  # fmt: skip
    written = Deployment.read(folder / "deployment.toml")
    assert written == msgspec.structs.replace(deployment, model=str(folder / "model"))
    assert Artifact.open(folder / "model").digest == tiny_artifact.digest
    assert folder.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["service"]


@pytest.mark.parametrize(
    ("deployment", "extras"),
    [
        (Deployment("m"), "serve,openvino"),
        (Deployment("m", engine="null"), "serve"),
        (Deployment("m", engine="onnxruntime", device="cuda"), "serve,onnxruntime-gpu"),
        (Deployment("m", engine="torch-compile"), "serve,torch"),
    ],
)
def test_a_folder_to_build_from_has_what_it_says_is_installed(
    tiny_artifact: Artifact, tmp_path: Path, deployment: Deployment, extras: str
) -> None:
    folder = write_service(tmp_path / "service", tiny_artifact, deployment, with_package=True)
    (wheel,) = (folder / "wheels").iterdir()
    said = yaml.safe_load((folder / "bentofile.yaml").read_text())
    assert said["python"] == {
        "packages": [f"./wheels/{wheel.name}[{extras}]"],
        "wheels": [f"wheels/{wheel.name}"],
    }


def test_a_link_beside_the_files_of_an_artifact_is_left_behind(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("not for the service")
    copied = tmp_path / "artifact"
    shutil.copytree(tiny_artifact.path, copied)
    (copied / "extra.txt").symlink_to(secret)
    folder = write_service(tmp_path / "service", Artifact.open(copied), Deployment("m"))
    assert sorted(path.name for path in (folder / "model").iterdir()) == sorted(
        path.name for path in tiny_artifact.path.iterdir()
    )


def test_an_older_service_is_replaced_and_anything_else_is_kept(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "service"
    write_service(folder, tiny_artifact, Deployment("m", engine="null"))
    (folder / "left over.txt").write_text("")
    write_service(folder, tiny_artifact, Deployment("m", engine="openvino"))
    assert Deployment.read(folder / "deployment.toml").engine == "openvino"
    assert not (folder / "left over.txt").exists()
    other = tmp_path / "documents"
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    with pytest.raises(InvalidInput, match="holds files already"):
        write_service(other, tiny_artifact, Deployment("m"))
    assert (other / "thesis.tex").read_text() == "x"
    with pytest.raises(InvalidInput, match="is a file"):
        write_service(other / "thesis.tex", tiny_artifact, Deployment("m"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("with_package", [False, True])
def test_a_project_of_somebody_else_is_no_service_folder(
    tiny_artifact: Artifact, tmp_path: Path, with_package: bool
) -> None:
    """Projects of BentoML have a service.py, too."""
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    files = {".git/HEAD": "ref", "service.py": "import bentoml", "notes.md": "weeks"}
    for name, text in files.items():
        (project / name).write_text(text)
    with pytest.raises(InvalidInput, match="holds files already"):
        write_service(project, tiny_artifact, Deployment("m"), with_package=with_package)
    assert {
        str(path.relative_to(project)): path.read_text()
        for path in project.rglob("*")
        if path.is_file()
    } == files


@pytest.mark.parametrize(
    ("name", "what"),
    [
        (".git/HEAD", "it holds .git, which Seatrial did not write there"),
        ("Dockerfile", "it holds Dockerfile, which Seatrial did not write there"),
        ("model/notes.md", "it holds model/notes.md, which Seatrial did not write there"),
        ("service.py", "it holds service.py, which was edited since"),
        ("deployment.toml", "it holds deployment.toml, which was edited since"),
    ],
)
def test_what_was_put_into_a_written_folder_stays(
    tiny_artifact: Artifact, tmp_path: Path, name: str, what: str
) -> None:
    folder = write_service(tmp_path / "s", tiny_artifact, Deployment("m"), with_package=True)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(InvalidInput, match=what) as caught:
        write_service(folder, tiny_artifact, Deployment("m"), with_package=True)
    assert "move it away, or name another folder" in caught.value.hint
    assert (folder / name).read_text() == "mine"


def test_what_runs_leave_in_a_written_folder_goes_with_it(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    folder = write_service(tmp_path / "s", tiny_artifact, Deployment("m"), with_package=True)
    cached = folder / "__pycache__" / "service.cpython-312.pyc"
    cached.parent.mkdir()
    cached.write_bytes(b"")
    place_artifact(tiny_artifact, folder / RELOADED / tiny_artifact.digest)
    again = Deployment("m", engine="null")
    write_repository(folder / "triton" / "repository", tiny_artifact, again)
    mine = folder / RELOADED / "photo.jpg"
    mine.write_text("mine")
    with pytest.raises(InvalidInput, match=r"reloaded/photo\.jpg, which Seatrial did not write"):
        write_service(folder, tiny_artifact, again, with_package=True)
    assert mine.read_text() == "mine"
    mine.unlink()
    write_service(folder, tiny_artifact, again, with_package=True)
    assert Deployment.read(folder / "deployment.toml").engine == "null"
    assert not (folder / "reloaded").exists()


def test_a_service_of_ours_starts_again_after_a_loss_of_power(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """Files are cut short then, the list of them too."""
    folder = write_service(tmp_path / "s", tiny_artifact, Deployment("m"))
    for name in ("service.py", RECORD):
        (folder / name).write_bytes(b"")
    write_service(folder, tiny_artifact, Deployment("m"))
    assert (folder / "service.py").read_text()
    (folder / RECORD).unlink()  # as earlier versions wrote it
    write_service(folder, tiny_artifact, Deployment("m"))
    (folder / RECORD).write_bytes(b"")
    with pytest.raises(InvalidInput, match="cannot be read"):
        write_service(folder, tiny_artifact, Deployment("m"), with_package=True)


def test_the_environment_keeps_what_it_was_and_reports_nothing_home() -> None:
    given = environment({"A": "b", "MALLOC_ARENA_MAX": "7"})
    assert given["A"] == "b"
    assert given["BENTOML_DO_NOT_TRACK"] == "True"
    assert given["MALLOC_ARENA_MAX"] == "7"
    assert int(environment({})["MALLOC_ARENA_MAX"]) >= 1


def test_the_manifest_travels_with_the_folder(tiny_artifact: Artifact, tmp_path: Path) -> None:
    folder = write_service(tmp_path / "s", tiny_artifact, Deployment("m"))
    assert (folder / "model" / MANIFEST).read_bytes() == (
        tiny_artifact.path / MANIFEST
    ).read_bytes()


def test_the_model_of_a_service_takes_no_room_of_its_own(
    tiny_artifact: Artifact, tmp_path: Path
) -> None:
    """Where the file system has hard links; the artifact is put on the disk of the folder."""
    there = shutil.copytree(tiny_artifact.path, tmp_path / "tiny")
    folder = write_service(tmp_path / "service", Artifact.open(there), Deployment("m"))
    for file in tiny_artifact.manifest.files:
        assert (folder / "model" / file.path).samefile(there / file.path)


def test_a_folder_that_cannot_be_written(tiny_artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="file"):
        write_service(tmp_path / "file" / "service", tiny_artifact, Deployment("m"))
