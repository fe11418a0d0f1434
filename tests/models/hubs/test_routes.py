"""The hub of these tests speaks as the hubs do: their own clients understand it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seatrial.models.hubs.access import Access
from seatrial.models.hubs.listing import Query
from seatrial.models.hubs.pull import search


def test_huggingface_hub_reads_the_same_from_it(
    hub: Any, access: Access, yolo: Any, weighty: bytes, tmp_path: Path
) -> None:
    package = pytest.importorskip("huggingface_hub")
    api = package.HfApi(endpoint=hub.url, token=False)
    (theirs,) = api.list_models(
        search="yolo", pipeline_tag="object-detection", sort="downloads", limit=5,
        expand=["downloads", "tags", "siblings"],
    )  # fmt: skip
    (ours,) = search("huggingface", Query("yolo", limit=5), access)
    assert (theirs.id, theirs.downloads) == (ours.name, ours.downloads)
    info = api.model_info(yolo.id, files_metadata=True)
    assert info.sha == yolo.head
    path = package.hf_hub_download(
        yolo.id, "onnx/model.onnx", endpoint=hub.url, cache_dir=tmp_path, token=False
    )
    assert Path(path).read_bytes() == weighty
    card = package.hf_hub_download(
        yolo.id, "README.md", endpoint=hub.url, cache_dir=tmp_path, token=False
    )
    assert Path(card).read_bytes() == b"# yolo"
    with pytest.raises(package.errors.RevisionNotFoundError):
        api.model_info(yolo.id, revision="v9")
    with pytest.raises(package.errors.RepositoryNotFoundError):
        api.model_info("acme/nothing")
    yolo.gated = True
    with pytest.raises(package.errors.GatedRepoError):
        package.get_hf_file_metadata(
            package.hf_hub_url(yolo.id, "README.md", endpoint=hub.url), token=False
        )


def test_modelscope_hub_reads_the_same_from_it(
    hub: Any, access: Access, yolo: Any, weighty: bytes, tmp_path: Path
) -> None:
    package = pytest.importorskip("modelscope_hub")
    api = package.HubApi(endpoint=hub.url, token="")
    theirs = api.list_repos("model", search="yolo", sort="downloads", page_size=5)
    (ours,) = search("modelscope", Query("yolo", limit=5), access)
    assert [model.repo_id for model in theirs] == [ours.name]
    path = api.download_file(yolo.id, "model", "onnx/model.onnx", local_dir=tmp_path)
    assert Path(path).read_bytes() == weighty
