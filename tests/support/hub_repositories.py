"""Repositories of a hub, and how Hugging Face and ModelScope describe them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec

LFS = (".safetensors", ".onnx", ".bin", ".pt", ".onnx_data")
UPDATED = "2026-05-04T03:02:01.000Z"


class Repo(msgspec.Struct):
    """A repository: files of each commit, and what the hub says of it. The last commit is main."""

    id: str
    commits: dict[str, dict[str, bytes]]
    licence: str = "apache-2.0"
    downloads: int = 0
    likes: int = 0
    trend: int = 0
    task: str = "object-detection"
    tags: list[str] = []
    library: str = "transformers"
    gated: bool = False
    private: bool = False

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, revision: str) -> str | None:
        if revision in ("main", "master"):
            return self.head
        return revision if revision in self.commits else None


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def siblings(repo: Repo, commit: str) -> list[dict[str, Any]]:
    found = []
    for path, data in repo.commits[commit].items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
        if path.endswith(LFS):
            digest = hashlib.sha256(data).hexdigest()
            entry["blobId"] = "0" * 40  # of the pointer, not of the content
            entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
        found.append(entry)
    return found


def describe(repo: Repo, commit: str) -> dict[str, Any]:
    files = repo.commits[commit]
    model: dict[str, Any] = {
        "_id": "6000",
        "id": repo.id,
        "modelId": repo.id,
        "sha": commit,
        "lastModified": UPDATED,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "trendingScore": repo.trend,
        "library_name": repo.library,
        "pipeline_tag": repo.task,
        "gated": "manual" if repo.gated else False,
        "private": repo.private,
        "tags": [*repo.tags, f"license:{repo.licence}"],
        "siblings": [{"rfilename": path} for path in files],
    }
    with contextlib.suppress(KeyError, ValueError, TypeError):
        model["config"] = {"model_type": json.loads(files["config.json"])["model_type"]}
    if "model.safetensors" in files:
        count = len(files["model.safetensors"]) // 4
        model["safetensors"] = {"parameters": {"F32": count}, "total": count}
    return model


def modelscope(repo: Repo) -> dict[str, Any]:
    return {
        "id": repo.id,
        "display_name": repo.id,
        "downloads": repo.downloads,
        "likes": repo.likes,
        "license": repo.licence,
        "file_size": sum(map(len, repo.commits[repo.head].values())),
        "last_modified": UPDATED,
        "gated": repo.gated,
        "private": False,
        "tasks": [f"image-{repo.task}"],
        "tags": [f"library:{repo.library}", *repo.tags],
    }


def modelscope_file(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    lfs = path.endswith(LFS)
    return {
        "Path": path, "Name": Path(path).name, "Size": len(data), "Sha256": digest,
        "Type": "blob", "IsLFS": lfs, "Revision": "f" * 40,
    }  # fmt: skip
