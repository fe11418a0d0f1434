"""A hub on 127.0.0.1 that speaks the routes of Hugging Face and of ModelScope.

Large files are redirected to a second server, as both hubs do. What the server does wrong, it
does on request: see `Fault`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

import msgspec

from hub_repositories import (
    LFS,
    Repo,
    describe,
    git_sha1,
    modelscope,
    modelscope_file,
    siblings,
)


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
    """A request that arrived; ``host`` tells the hub from its CDN."""

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
        # Another host name, as the hubs' CDNs have: cookies know no ports.
        self.url, self.cdn_url = self.hub.url, self.cdn.url.replace("127.0.0.1", "localhost")

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
        headers = {name.title(): value for name, value in self.headers.items()}
        fake.seen.append(Seen(self.path, headers, self.server.url))
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
            main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.head}
            refs = {"branches": [main], "tags": [], "converts": []}
            self._json(refs)
            return
        commit = repo.commit(parts[-1] if routes else "main")
        if commit is None:
            self._fail(404, "RevisionNotFound")
            return
        model = describe(repo, commit) | {"cardData": {"license": repo.licence}}
        if "blobs" in query:  # sizes and hashes only on request, as the hub has it
            model["siblings"] = siblings(repo, commit)
        self._json(model)

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
            {k: v for k, v in describe(repo, repo.head).items() if k in kept}
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
        headers = {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(data)}"'}
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
            self._json({"success": True, "data": modelscope(repo)})
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
        page = [modelscope(repo) for repo in repos[(number - 1) * size : number * size]]
        data = {"models": page, "total_count": len(repos), "page_number": number}
        self._json({"success": True, "data": data})

    def _modelscope_files(
        self, parts: list[str], query: dict[str, list[str]], fault: Fault | None
    ) -> None:
        repo = self.server.fake.repos.get("/".join(parts[:2]))
        commit = repo.commit(query["Revision"][0]) if repo and "Revision" in query else None
        if repo is None or commit is None:
            self._json({"Code": 10010205001, "Message": "not found"}, status=404)
            return
        if repo.gated and f"m_session_id={self.server.fake.token}" not in self._cookie():
            self._json({"Code": 10010205002, "Message": "no access"}, status=403)
            return
        files = repo.commits[commit]
        if parts[2:] == ["repo", "files"]:
            listed = [modelscope_file(path, data) for path, data in files.items()]
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
