"""A hub on 127.0.0.1 that speaks the routes of Hugging Face and of ModelScope, and models on it.

Large files are redirected to a second server, as both hubs do. What the server does wrong, it
does on request: see `Fault`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec
import numpy as np
import pytest
from onnx import numpy_helper

from seatrial.lifecycle.hub.access import HUGGINGFACE, MODELSCOPE, Access
from seatrial.lifecycle.hub.pull import Options

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


class Fault(msgspec.Struct):
    """What goes wrong with answers to paths that contain a text.

    Attributes:
        path: The text.
        times: How often; then all is well.
        cut: Close the connection after that many bytes of the body.
        status: Answer so, with `headers`, instead.
        corrupt: Change the first byte.
        ignore_range: Send the whole file, whatever was asked.
        body: Answer 200 with this instead.
        hang: Wait for it before anything is sent.
        location: Redirect there.
    """

    path: str
    times: int = 1
    cut: int | None = None
    status: int = 0
    headers: dict[str, str] = {}
    corrupt: bool = False
    ignore_range: bool = False
    body: bytes | None = None
    hang: threading.Event | None = None
    location: str = ""


class Seen(msgspec.Struct):
    """A request that arrived. ``host`` tells the hub from its CDN."""

    path: str
    headers: dict[str, str]
    host: str


class FakeHub:
    """The servers, what is on them, what they were asked."""

    def __init__(self, token: str = "hf_secret") -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.token = token
        self.hub = _Server(self)
        self.cdn = _Server(self)
        self.url, self.cdn_url = self.hub.url, self.cdn.url

    def add(self, repo_id: str, files: dict[str, bytes], **facts: Any) -> Repo:
        """Put a repository on the hub, with one commit."""
        repo = Repo(repo_id, {}, **facts)
        self.repos[repo_id] = repo
        self.push(repo_id, files)
        return repo

    def push(self, repo_id: str, files: dict[str, bytes]) -> str:
        """Add a commit, and move main to it."""
        text = repr(sorted(files.items())) + str(len(self.repos[repo_id].commits))
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.repos[repo_id].commits[sha] = files
        return sha

    def asked(self, part: str) -> list[Seen]:
        """Requests whose path contains a text."""
        return [seen for seen in self.seen if part in seen.path]

    def fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.path in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    def close(self) -> None:
        self.hub.stop()
        self.cdn.stop()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake
        self.url = f"http://127.0.0.1:{self.server_port}"
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: Any) -> None: ...

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the client went away
            super().handle()

    def do_GET(self) -> None:
        fake = self.server.fake
        fake.seen.append(Seen(self.path, dict(self.headers), self.server.url))
        fault = fake.fault(unquote(self.path))
        if fault and self._misbehave(fault):
            return
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts[0] == "cdn":
            self._content(fake.repos["/".join(parts[1:3])].commits[parts[3]], parts, fault)
        elif parts[:3] == ["openapi", "v1", "models"]:
            self._modelscope_models(parts[3:], query)
        elif parts[:3] == ["api", "v1", "models"]:
            self._modelscope_files(parts[3:], query, fault)
        elif parts[:2] == ["api", "models"]:
            self._models(parts[2:], query)
        elif "resolve" in parts:
            self._resolve(parts, fault)
        else:
            self._fail(404, "EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _misbehave(self, fault: Fault) -> bool:
        if fault.hang is not None:
            fault.hang.wait(30)
        if fault.location:
            self._send(302, b"", {"Location": fault.location})
        elif fault.status:
            self._send(fault.status, b"{}", fault.headers)
        elif fault.body is not None:
            self._send(200, fault.body, {})
        return bool(fault.location or fault.status or fault.body is not None)

    # Hugging Face

    def _models(self, parts: list[str], query: dict[str, list[str]]) -> None:
        if not parts:
            self._search(query)
            return
        routes = [at for at, part in enumerate(parts) if part in ("revision", "refs")]
        repo = self._repo("/".join(parts[: routes[0]] if routes else parts))
        if repo is None:
            return
        if parts[-1] == "refs":
            refs = {"branches": [{"name": "main"}], "tags": [], "converts": []}
            self._json(refs)
            return
        commit = repo.commit(parts[-1] if routes else "main")
        if commit is None:
            self._fail(404, "RevisionNotFound")
            return
        model = _describe(repo, commit) | {"siblings": _siblings(repo, commit)}
        self._json(model | {"cardData": {"license": repo.licence}})

    def _search(self, query: dict[str, list[str]]) -> None:
        def one(name: str, default: str) -> str:
            return query.get(name, [default])[0]

        repos = [
            repo
            for repo in self.server.fake.repos.values()
            if one("search", "").lower() in repo.id.lower()
            and one("pipeline_tag", repo.task) == repo.task
        ]
        keys = {"downloads": "downloads", "likes": "likes", "trendingScore": "trend"}
        if one("sort", "downloads") in keys:
            key = keys[one("sort", "downloads")]
            repos.sort(key=lambda repo: getattr(repo, key), reverse=True)
        start, limit = int(one("cursor", "0")), int(one("limit", "1000"))
        kept = {"id", "modelId", *query.get("expand", [])}
        page = [
            {k: v for k, v in _describe(repo, repo.head).items() if k in kept}
            for repo in repos[start : start + limit]
        ]
        headers = {}
        if start + limit < len(repos):
            again = urlencode(
                [(k, v) for k, vs in query.items() for v in vs if k != "cursor"]
                + [("cursor", str(start + limit))]
            )
            # The hub writes its own public name here, also when a mirror asks.
            headers["Link"] = f'<https://huggingface.co/api/models?{again}>; rel="next"'
        self._json(page, headers)

    def _resolve(self, parts: list[str], fault: Fault | None) -> None:
        at = parts.index("resolve")
        repo = self._repo("/".join(parts[:at]))
        if repo is None:
            return
        if repo.gated and not self._trusted():
            self._fail(401, "GatedRepo", "Access to this model is restricted.")
            return
        commit, path = repo.commit(parts[at + 1]), "/".join(parts[at + 2 :])
        if commit is None or path not in repo.commits[commit]:
            self._fail(404, "EntryNotFound")
            return
        data = repo.commits[commit][path]
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_sha1(data)}"'}
        if not path.endswith(LFS):
            self._send(200, data, headers)  # no ranges here
            return
        headers |= {
            "X-Linked-Size": str(len(data)),
            "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"',
            "Location": f"{self.server.fake.cdn_url}/cdn/{repo.id}/{commit}/{quote(path)}",
        }
        self._send(302, b"", headers)

    # ModelScope

    def _modelscope_models(self, parts: list[str], query: dict[str, list[str]]) -> None:
        repos = list(self.server.fake.repos.values())
        if parts:
            repo = self.server.fake.repos.get("/".join(parts))
            if repo is None:
                self._json({"success": False, "message": "not found"}, status=404)
                return
            self._json({"success": True, "data": _modelscope(repo)})
            return
        text = query.get("search", [""])[0].lower()
        task = query.get("filter.task", [""])[0].removeprefix("image-")
        repos = [r for r in repos if text in r.id.lower() and task in ("", r.task)]
        sort = query.get("sort", ["default"])[0]
        if sort in ("downloads", "likes"):
            repos.sort(key=lambda repo: getattr(repo, sort), reverse=True)
        number, size = int(query["page_number"][0]), int(query["page_size"][0])
        if size > 50 or number * size > 3000:
            self._json({"success": False, "message": "page_size"}, status=400)
            return
        page = [_modelscope(repo) for repo in repos[(number - 1) * size : number * size]]
        data = {"models": page, "total_count": len(repos), "page_number": number}
        self._json({"success": True, "data": data})

    def _modelscope_files(
        self, parts: list[str], query: dict[str, list[str]], fault: Fault | None
    ) -> None:
        repo = self.server.fake.repos.get("/".join(parts[:2]))
        commit = repo.commit(query["Revision"][0]) if repo else None
        if repo is None or commit is None:
            self._json({"Code": 10010205001, "Message": "not found"}, status=404)
            return
        if repo.gated and f"m_session_id={self.server.fake.token}" not in self._cookie():
            self._json({"Code": 10010205002, "Message": "no access"}, status=403)
            return
        files = repo.commits[commit]
        if parts[2:] == ["repo", "files"]:
            listed = [_modelscope_file(path, data) for path, data in files.items()]
            listed.append({"Path": "onnx", "Name": "onnx", "Type": "tree", "Size": 0})
            data = {"Files": listed, "LatestCommitter": {"Id": commit}}
            self._json({"Code": 200, "Data": data})
            return
        path = query["FilePath"][0]
        if path.endswith(LFS):
            url = f"{self.server.fake.cdn_url}/cdn/{repo.id}/{commit}/{quote(path)}?oss"
            self._send(302, b"", {"Location": url})
        else:
            self._send(200, files[path], {})

    # Both

    def _content(self, files: dict[str, bytes], parts: list[str], fault: Fault | None) -> None:
        """The CDN: ranges, which ModelScope's answers with status 200."""
        data = files["/".join(parts[4:]).partition("?")[0]]
        if fault and fault.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        start, total, headers = 0, len(data), {"Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if asked and not (fault and fault.ignore_range):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= total:
                self._send(416, b"", {"Content-Range": f"bytes */{total}"})
                return
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        partial = "Content-Range" in headers and not self.path.endswith("?oss")
        cut = fault.cut if fault else None
        self._send(206 if partial else 200, data[start:], headers, cut=cut)

    def _repo(self, repo_id: str) -> Repo | None:
        repo = self.server.fake.repos.get(repo_id)
        if repo is None or (repo.private and not self._trusted()):
            # The hub does not tell strangers what it has not from what it hides.
            self._fail(401, "RepoNotFound", "Invalid username or password.")
            return None
        return repo

    def _trusted(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.fake.token}"

    def _cookie(self) -> str:
        return self.headers.get("Cookie") or ""

    def _fail(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(status, json.dumps({"error": message}).encode(), headers)

    def _json(self, value: Any, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), headers or {})

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is None:
            self.wfile.write(body)
        else:
            self.wfile.write(body[:cut])
            self.wfile.flush()
            self.close_connection = True


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _siblings(repo: Repo, commit: str) -> list[dict[str, Any]]:
    found = []
    for path, data in repo.commits[commit].items():
        entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": _git_sha1(data)}
        if path.endswith(LFS):
            digest = hashlib.sha256(data).hexdigest()
            entry["blobId"] = "0" * 40  # of the pointer, not of the content
            entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
        found.append(entry)
    return found


def _describe(repo: Repo, commit: str) -> dict[str, Any]:
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


def _modelscope(repo: Repo) -> dict[str, Any]:
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


def _modelscope_file(path: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    lfs = path.endswith(LFS)
    return {
        "Path": path, "Name": Path(path).name, "Size": len(data), "Sha256": digest,
        "Type": "blob", "IsLFS": lfs, "Revision": "f" * 40,
    }  # fmt: skip


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """An empty hub."""
    fake = FakeHub()
    try:
        yield fake
    finally:
        fake.close()


@pytest.fixture
def fault() -> type[Fault]:
    """Makes a `Fault`: ``hub.faults.append(fault("/cdn/", cut=1000))``."""
    return Fault


@pytest.fixture
def access(hub: FakeHub) -> Access:
    """The way to it, without patience."""
    return Access(
        msgspec.structs.replace(HUGGINGFACE, endpoint=hub.url),
        msgspec.structs.replace(MODELSCOPE, endpoint=hub.url),
        timeout_s=10.0,
        patience_s=0.0,
    )


@pytest.fixture
def options(access: Access, tmp_path: Path) -> Options:
    """Pulls from the hub into a folder beside the store."""
    return Options(access, tmp_path / "downloads")


@pytest.fixture(scope="session")
def weighty(tiny_model: Callable[..., Any]) -> bytes:
    """The tiny detector as an ONNX file of some 3 MB."""
    model = tiny_model()
    ballast = np.random.default_rng(0).standard_normal(750_000).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    return bytes(model.SerializeToString())


@pytest.fixture
def yolo(hub: FakeHub, weighty: bytes) -> Repo:
    """A repository with ONNX files."""
    files = {"README.md": b"# yolo", "onnx/model.onnx": weighty, "yolo11t.pt": b"PK"}
    return hub.add("acme/yolo11t", files, tags=["yolo"], library="ultralytics", licence="agpl-3.0")


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The package, with torch behind it.

    Where torchvision is a build without its operators (CPU machines that have torch from a
    registry), they are declared, not defined: transformers imports it and calls none of them here.
    """
    package, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    try:
        importlib.import_module("torchvision")
    except ImportError:
        pass  # transformers does without
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)  # its operators go when it does
    return package


_DECLARED: list[Any] = []
