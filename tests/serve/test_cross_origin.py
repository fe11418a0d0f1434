"""Pages of other origins: what a browser is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from seatrial.deployment import Limits, Server
from seatrial.errors import InvalidConfig
from seatrial.serve.cross_origin import check_origins

Running = Any
APP, OTHER = "https://app.example.com", "https://other.example.com"
ASKS = {"Access-Control-Request-Method": "POST"}
ALLOWED = "access-control-allow-origin"

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.fixture(scope="module")
def shared(
    run_app: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text("t" * 32)
    server = Server(token_file=str(file), cors_origins=(APP,))
    with run_app(Limits(queue=1), server=server) as served:
        yield served


def test_off_by_default(running: Running, photo: bytes) -> None:
    answer = running.client.post("/detect", content=photo, headers={"Origin": APP})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert running.client.options("/detect", headers={"Origin": APP, **ASKS}).status_code == 405


def test_a_preflight_needs_no_token_and_no_place(shared: Running) -> None:
    # Tracing in the page adds its own to each request.
    asked = "authorization,baggage,content-type,traceparent,tracestate,x-request-id"
    wanted = {"Access-Control-Request-Headers": f"{asked},x-request-timeout-ms"}
    with shared.lanes_held():
        answer = shared.client.options("/detect", headers={"Origin": APP, **ASKS, **wanted})
    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == APP
    assert "authorization" in answer.headers["access-control-allow-headers"].lower()


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": OTHER},
        {"Access-Control-Request-Method": "DELETE"},
        {"Access-Control-Request-Headers": "x-other"},
    ],
)
def test_a_preflight_that_is_refused_is_an_error_of_ours(
    shared: Running, changed: dict[str, str]
) -> None:
    answer = shared.client.options("/detect", headers={"Origin": APP, **ASKS, **changed})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "CrossOrigin"
    assert (ALLOWED in answer.headers) == ("Origin" not in changed)


def test_errors_can_be_read_by_the_page_too(shared: Running, photo: bytes) -> None:
    """Those before the application included: without the mark a browser keeps them to itself."""
    token = {"Authorization": f"Bearer {'t' * 32}"}
    for origin, marked in ((APP, True), (OTHER, False)):
        headers = {"Origin": origin}
        answer = shared.client.post("/detect", content=photo, headers=headers)
        assert (answer.status_code, ALLOWED in answer.headers) == (401, marked)
        with shared.lanes_held():
            answer = shared.client.post("/detect", content=photo, headers={**headers, **token})
        assert (answer.status_code, ALLOWED in answer.headers) == (503, marked)
        exposed = answer.headers.get("access-control-expose-headers", "")
        assert "Retry-After" in exposed
        answer = shared.client.post("/detect", content=photo, headers={**headers, **token})
        assert (answer.status_code, ALLOWED in answer.headers) == (200, marked)


def test_a_fault_can_be_read_by_the_page_and_is_a_line_of_the_log(
    shared: Running,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    until: Callable[..., Any],
) -> None:
    monkeypatch.setattr("seatrial.serve.app.read_image", lambda *given: 1 // 0)
    for origin, marked in ((APP, True), (OTHER, False)):
        headers = {"Origin": origin, "Authorization": f"Bearer {'t' * 32}"}
        answer = shared.client.post("/detect", content=b"x", headers=headers)
        assert (answer.status_code, ALLOWED in answer.headers) == (500, marked)
        assert answer.json()["error"]["code"] == "InternalError"
        assert answer.headers["connection"] == "close"
        until(lambda: "failed by a fault of the service" in capsys.readouterr().err)


@pytest.mark.parametrize(
    "origins", [["app.example.com"], [APP + "/"], ["https://App.example.com"], ["*", APP], ["null"]]
)
def test_what_is_no_origin_is_refused_at_the_start(origins: list[str]) -> None:
    with pytest.raises(InvalidConfig, match="cors_origins"):
        check_origins(origins)


def test_origins_that_may_be_written() -> None:
    check_origins(["*"])
    check_origins([APP, "http://localhost:8080", "http://[::1]:3000"])


def test_the_deployment_names_them(tmp_path: Path) -> None:
    from seatrial.deployment import Deployment

    file = tmp_path / "deployment.toml"
    file.write_text(f'model = "m"\n[server]\ncors_origins = ["{APP}"]\ntoken_file = "t"\n')
    read = Deployment.read(file)
    assert read.server.cors_origins == (APP,)
    assert read.server.token_file == str(tmp_path / "t")
    file.write_text(read.to_toml())
    assert Deployment.read(file) == read
