"""The HTTP interface: what is answered, and that nothing bad brings it down."""

from __future__ import annotations

import gc
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import any_text
import local_http
from seatrial.detect.answer import Answer
from seatrial.detect.clock import REQUEST_STAGES, STAGES

Running = Any
Encode = Callable[..., bytes]
Picture = Callable[..., Image.Image]

pytestmark = pytest.mark.usefixtures("time_limit")
REFERENCE = Path(__file__).parents[2] / "docs/reference/http.md"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}


def form(data: bytes, name: str = "image", extra: str = "") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
    return head.encode() + data + b"\r\n--b--\r\n"


def boxes(response: httpx.Response) -> list[list[float]]:
    assert response.status_code == 200, response.text
    return [row["box"] for row in response.json()["detections"]]


def error_of(response: httpx.Response) -> dict[str, str]:
    assert response.headers["content-type"] == "application/json"
    error: dict[str, str] = response.json()["error"]
    assert set(error) == {"code", "message", "hint", "request_id"}
    return error


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("way", ["raw", "octets", "untyped", "form", "form of several"])
def test_a_picture_by_every_way_in(
    running: Running,
    picture: Picture,
    encode: Encode,
    box_of: Callable[..., list[float]],
    image_format: str,
    way: str,
) -> None:
    data = encode(picture(), image_format)
    given: dict[str, Any] = {
        "raw": {"content": data, "headers": {"Content-Type": f"image/{image_format.lower()}"}},
        "octets": {"content": data, "headers": {"Content-Type": "application/octet-stream"}},
        "untyped": {"content": data},
        "form": {"files": {"image": data}},
        "form of several": {"files": {"image": ("a b.jpg", data)}, "data": {"note": "x", "n": "1"}},
    }[way]
    response = running.client.post("/detect", **given)
    assert boxes(response) == [box_of(2, 3)]
    answer = response.json()
    assert answer["image"] == {"width": 128, "height": 128}
    (found,) = answer["detections"]
    assert (found["class_id"], found["label"]) == (0, "red")
    assert 0.8 < found["confidence"] <= 1


def server_timing(response: httpx.Response) -> dict[str, float]:
    entries = (entry.split(";dur=") for entry in response.headers["server-timing"].split(", "))
    return {name: float(value) for name, value in entries}


@pytest.mark.parametrize("path", ["/detect", "/detect.jpg"])
def test_stages_are_without_gaps(running: Running, photo: bytes, path: str) -> None:
    times = server_timing(running.client.post(path, content=photo))
    assert list(times) == [*REQUEST_STAGES, "total"]
    total = times.pop("total")
    assert sum(times.values()) == pytest.approx(total, abs=0.001 * len(times))
    assert all(value > 0 for value in times.values())


def documented() -> Answer:
    """The example of an answer in the reference."""
    (text,) = re.findall(r"^```json\n(\{\n  \"image\".*?)^```", REFERENCE.read_text(), re.S | re.M)
    return msgspec.json.decode(text, type=Answer)


def test_the_example_of_an_answer_is_one() -> None:
    found = documented()
    times = dict(found.timing_ms)
    total = times.pop("total")
    assert sum(times.values()) == pytest.approx(total)
    assert found.detections


def test_the_json_holds_the_times_until_it_is_encoded(running: Running, photo: bytes) -> None:
    response = running.client.post("/detect", content=photo)
    header, body = server_timing(response), response.json()["timing_ms"]
    assert list(body) == ["admission", "receive", *STAGES, "total"]
    assert list(documented().timing_ms) == list(body)
    assert body["total"] == pytest.approx(header["total"] - header["encode"], abs=0.003)
    assert {stage: header[stage] for stage in STAGES} == pytest.approx(
        {stage: body[stage] for stage in STAGES}, abs=0.002
    )


def test_the_histograms_are_in_seconds(
    running: Running, photo: bytes, metric: Callable[..., float]
) -> None:
    def sums() -> dict[str, float]:
        return {
            stage: metric("seatrial_stage_seconds_sum", stage=stage)
            for stage in (*REQUEST_STAGES, "total")
        }

    before = sums()
    times = server_timing(running.client.post("/detect", content=photo))
    after = sums()
    assert {stage: 1e3 * (after[stage] - before[stage]) for stage in times} == pytest.approx(
        times, abs=0.002
    )


def test_an_answer_that_cannot_be_encoded_is_an_error_of_ours(
    run_app: Callable[..., Any],
    photo: bytes,
    metric: Callable[..., float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failures() -> float:
        return metric("seatrial_requests_total", route="/detect", code="500")

    before = failures()
    with run_app() as running:
        with monkeypatch.context() as patch:
            patch.setattr("seatrial.serve.app.answer", lambda *args: 1 // 0)
            response = running.client.post("/detect", content=photo)
        assert response.status_code == 500
        assert error_of(response)["code"] == "InternalError"
        assert failures() - before == 1
        assert running.detector.lanes.present == 0
        assert metric("seatrial_requests_present") == 0
        # uvicorn hangs up after an error of the application.
        with local_http.client(base_url=running.client.base_url) as fresh:
            assert fresh.post("/detect", content=photo).status_code == 200


@pytest.mark.parametrize("sent", ["half of it", "all of it"])
def test_a_client_that_hangs_up_is_counted_as_such(
    run_app: Callable[..., Any],
    photo: bytes,
    sent: str,
    metric: Callable[..., float],
    until: Callable[..., Any],
) -> None:
    def gone() -> float:
        return metric("seatrial_requests_total", route="/detect", code="499")

    before = gone()
    head = f"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(photo)}\r\n\r\n".encode()
    with run_app() as running, running.lanes_held():
        with running.connect() as leaver:
            leaver.sendall(head + (photo if sent == "all of it" else photo[:100]))
            until(lambda: running.detector.lanes.present == 2)
            assert metric("seatrial_requests_present") == 2  # what holds the lane is here too
        until(lambda: gone() == before + 1)
        until(lambda: running.detector.lanes.present == 1)
        until(lambda: metric("seatrial_requests_present") == 1)


def test_what_start_up_made_is_kept_out_of_collections(running: Running) -> None:
    assert running.client.get("/model").status_code == 200
    assert gc.get_freeze_count() > 10_000


def test_the_list_of_routes(running: Running) -> None:
    response = running.client.get("/")
    listed = response.text.splitlines()
    assert listed[:3] == ["POST /detect", "POST /detect.jpg", "GET  /model"]
    assert {"GET  /livez", "GET  /v2", "POST /v2/models/{model}/infer"} <= set(listed)
    assert response.headers["content-type"].startswith("text/plain")


def test_no_redirect_goes_where_a_client_says(running: Running, photo: bytes) -> None:
    headers = {"Host": "elsewhere.example"}
    response = running.client.post("/detect/", content=photo, headers=headers)
    assert response.status_code == 404
    assert "location" not in response.headers


def test_the_annotated_picture(running: Running, picture: Picture, encode: Encode) -> None:
    source = picture(cells_hw=(6, 8))
    response = running.client.post("/detect.jpg", content=encode(source, "PNG"))
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/jpeg"
    assert "infer;dur=" in response.headers["server-timing"]
    with Image.open(io.BytesIO(response.content)) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.size == source.size == (128, 96)
        change = np.abs(np.asarray(drawn).astype(int) - np.asarray(source)).max(axis=2)
    assert (change > 100).any()  # the box
    assert (change[:, 110:] < 20).all()  # far from it
    plain = running.client.post("/detect.jpg", content=encode(picture({}), "PNG"))
    with Image.open(io.BytesIO(plain.content)) as drawn:
        assert np.abs(np.asarray(drawn).astype(int) - 114).max() < 4


def test_the_annotated_picture_of_the_longest_side_there_is(
    running: Running, encode: Encode
) -> None:
    strip = encode(Image.new("L", (32_766, 2)), "PNG")
    response = running.client.post("/detect.jpg", content=strip)
    assert response.status_code == 200
    too_long = encode(Image.new("L", (32_767, 2)), "PNG")
    assert running.client.post("/detect.jpg", content=too_long).status_code == 413


def test_what_is_served(running: Running) -> None:
    model = running.client.get("/model").json()
    assert model["name"] == "tiny"
    assert len(model["digest"]) == 64
    assert (model["family"], model["variant"]) == ("yolo", "anchors")
    assert (model["engine"], model["device"], model["precision"]) == ("onnxruntime", "cpu", "f32")
    assert model["labels"] == ["red", "green", "blue"]
    assert model["size_hw"] == [64, 64]
    assert model["licence"].startswith("AGPL-3.0")
    layout = model["layout"]
    assert (layout["workers"], layout["instances"], layout["threads"]) == (1, 1, 1)
    assert model["limits"]["body_bytes"] == 2**18
    assert model["detection"]["confidence"] == 0.25
    assert {"bentoml", "onnxruntime", "openvino", "python", "seatrial"} <= set(model["versions"])


def test_the_query_overrides_the_deployment(
    running: Running, picture: Picture, encode: Encode
) -> None:
    data = encode(picture({(2, 3): "red", (2, 4): "red", (6, 6): "blue"}), "PNG")

    def count(query: str) -> int:
        return len(boxes(running.client.post(f"/detect?{query}", content=data)))

    assert count("") == 3
    assert count("iou=0.3") == 2
    assert count("max_detections=1") == 1
    assert count("iou=0.3&max_detections=1&confidence=0.5&multi_label=true") == 1
    dim = encode(Image.blend(picture(), picture({}), 0.6), "PNG")
    assert len(boxes(running.client.post("/detect?confidence=0.5", content=dim))) == 0
    assert len(boxes(running.client.post("/detect?confidence=0.3", content=dim))) == 1
    assert len(boxes(running.client.post("/detect", content=data))) == 3  # for that request alone


def test_a_request_for_too_many_detections_names_the_setting(
    running: Running, photo: bytes
) -> None:
    assert running.client.post("/detect?max_detections=1000", content=photo).status_code == 200
    refused = running.client.post("/detect?max_detections=1001&confidence=0.001", content=photo)
    assert refused.status_code == 400
    assert "max_detections must be a whole number <= 1000" in error_of(refused)["message"]
    assert "limits.detections" in error_of(refused)["hint"]


@pytest.mark.parametrize(
    "query",
    ["confidance=0.5", "confidence=2", "confidence=-1", "confidence=nan", "confidence=high",
     "confidence=", "iou=1.01", "max_detections=0", "max_detections=1.5", "max_detections=1e400",
     "multi_label=maybe", "image_pixels=1", "%ff=1", "=",
     "confidence=0.5&unknown=1"],
)  # fmt: skip
def test_a_query_that_is_not_understood(running: Running, photo: bytes, query: str) -> None:
    for path in ("/detect", "/detect.jpg"):
        response = running.client.post(f"{path}?{query}", content=photo)
        assert response.status_code == 400
        hint = error_of(response)["hint"]
        nearest = "did you mean 'confidence'?" if query.startswith("confidance") else ""
        assert hint == (nearest or "known parameters: confidence, iou, max_detections, multi_label")


def bomb() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))


def saved(mode: str, image_format: str, size: tuple[int, int] = (16, 16), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, image_format, **options)
    return buffer.getvalue()


JPEG = saved("RGB", "JPEG", (64, 64))
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "not an image": ({"content": b"hello"}, 415, "UnsupportedImage"),
    "gif": ({"content": saved("P", "GIF")}, 415, "UnsupportedImage"),
    "tiff": ({"content": saved("RGB", "TIFF")}, 415, "UnsupportedImage"),
    "truncated jpeg": ({"content": JPEG[:-40]}, 422, "InvalidImage"),
    "jpeg header alone": ({"content": JPEG[:100]}, 422, "InvalidImage"),
    "truncated png": ({"content": saved("RGB", "PNG", (64, 64))[:60]}, 422, "InvalidImage"),
    "truncated webp": ({"content": saved("RGB", "WEBP", (64, 64))[:40]}, 422, "InvalidImage"),
    "empty": ({"content": b""}, 400, "InvalidInput"),
    "empty, typed": (
        {"content": b"", "headers": {"Content-Type": "image/jpeg"}}, 400, "InvalidInput",
    ),
    "bomb": ({"content": bomb()}, 413, "InputTooLarge"),
    "too many pixels": ({"content": saved("L", "PNG", (1001, 1000))}, 413, "InputTooLarge"),
    "body over the limit": ({"content": b"\xff\xd8\xff" + bytes(2**18)}, 413, "InputTooLarge"),
    "form over the limit": ({"files": {"image": bytes(2**18 + 1)}}, 413, "InputTooLarge"),
    "wrong field": ({"files": {"file": JPEG}}, 400, "InvalidInput"),
    "no field": ({"files": {"": JPEG}}, 400, "InvalidInput"),
    "empty field": ({"files": {"image": b""}}, 400, "InvalidInput"),
    "empty form": ({"content": b"", "headers": FORM}, 400, "InvalidInput"),
    "form cut off": ({"content": form(JPEG)[:-30], "headers": FORM}, 400, "InvalidInput"),
    "form of nonsense": ({"content": b"nonsense", "headers": FORM}, 400, "InvalidInput"),
    "form of another boundary": (
        {"content": form(JPEG).replace(b"--b", b"--c"), "headers": FORM}, 400, "InvalidInput",
    ),
    "form without boundary": (
        {"content": form(JPEG), "headers": {"Content-Type": "multipart/form-data"}},
        400, "InvalidInput",
    ),
    "form without names": (
        {"content": b"--b\r\n\r\nx\r\n--b--\r\n", "headers": FORM}, 400, "InvalidInput",
    ),
    "form of a thousand parts": (
        {"content": b"--b\r\n\r\n\r\n" * 1000 + form(JPEG), "headers": FORM}, 400, "InvalidInput",
    ),
    "json": ({"json": {"image": "..."}}, 400, "InvalidInput"),
    "text": ({"content": JPEG, "headers": {"Content-Type": "text/plain"}}, 400, "InvalidInput"),
    "urlencoded": ({"data": {"image": "x"}}, 400, "InvalidInput"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/detect", "/detect.jpg"])
def test_bad_input_is_the_callers_fault_and_the_service_lives_on(
    running: Running, photo: bytes, path: str, name: str
) -> None:
    given, status, code = BAD[name]
    response = running.client.post(path, **given)
    assert (response.status_code, error_of(response)["code"]) == (status, code)
    assert error_of(response)["message"]
    assert running.detector.lanes.present == 0
    assert len(boxes(running.client.post("/detect", content=photo))) == 1


def test_a_wrong_field_is_told_with_the_right_one(running: Running, photo: bytes) -> None:
    error = error_of(running.client.post("/detect", files={"file": photo, "picture": photo}))
    assert error["message"] == "no form field 'image'; the form has: 'file', 'picture'"
    assert "-F image=@" in error["hint"]


def test_two_pictures_in_one_request_are_refused(running: Running, photo: bytes) -> None:
    response = running.client.post("/detect", files=[("image", photo), ("image", photo)])
    assert response.status_code == 400
    assert error_of(response)["message"] == "the form has 2 fields 'image'"


@pytest.mark.parametrize(
    ("mode", "image_format"),
    [("1", "PNG"), ("L", "JPEG"), ("CMYK", "JPEG"), ("RGBA", "PNG"), ("RGBA", "WEBP"), ("P", "PNG"),
     ("I;16", "PNG"), ("LA", "PNG")],
)  # fmt: skip
def test_odd_pictures_are_pictures(running: Running, mode: str, image_format: str) -> None:
    for size in ((1, 1), (40, 30)):
        response = running.client.post("/detect", content=saved(mode, image_format, size))
        assert boxes(response) == []
        assert response.json()["image"] == {"width": size[0], "height": size[1]}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_a_wrong_method(running: Running, photo: bytes, method: str) -> None:
    response = running.client.request(method, "/detect", content=photo)
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    if method != "HEAD":
        error = error_of(response)
        assert (error["code"], error["hint"]) == ("Http405", "this route takes POST")
    assert running.client.post("/model").status_code == 405


@pytest.mark.parametrize("path", ["/nothing", "/detect/x", "/detect.png", "/model/x"])
def test_an_unknown_path(running: Running, path: str) -> None:
    response = running.client.post(path)
    assert response.status_code == 404
    error = error_of(response)
    assert (error["code"], error["hint"]) == ("Http404", "GET / lists the routes")


def test_outcomes_are_counted(running: Running, photo: bytes, metric: Callable[..., float]) -> None:
    def count(code: str) -> float:
        return metric("seatrial_requests_total", route="/detect", code=code)

    def seen(stage: str) -> float:
        return metric("seatrial_stage_seconds_count", stage=stage)

    before = {code: count(code) for code in ("200", "415", "400")}
    inferred, found = seen("infer"), metric("seatrial_detections_total")
    narrow = metric("seatrial_lane_requests_total", threads="1")
    for _ in range(3):
        running.client.post("/detect", content=photo)
    running.client.post("/detect", content=b"hello")
    running.client.post("/detect?x=1", content=photo)
    assert {code: count(code) - before[code] for code in before} == {"200": 3, "415": 1, "400": 1}
    assert seen("infer") - inferred == 3
    assert metric("seatrial_detections_total") - found == 3
    assert metric("seatrial_lane_requests_total", threads="1") - narrow == 3
    assert metric("seatrial_requests_present") == 0


@given(st.binary(max_size=300), st.sampled_from(["", "image/jpeg", "multipart/form-data", "x"]))
@settings(max_examples=60)
def test_any_body_of_any_type(running: Running, body: bytes, kind: str) -> None:
    response = running.client.post("/detect", content=body, headers={"Content-Type": kind})
    assert 400 <= response.status_code < 500
    error_of(response)


pieces = st.lists(
    st.sampled_from(
        [b"--b", b"--b--", b"--", b"\r\n", b"\r", b"\n", b":", b'"', b";", b"=", b"\x00", b"\xff",
         b"Content-Disposition", b": form-data", b'; name="image"', b"; name*=utf-8''image",
         b"Content-Type: image/jpeg", b"Content-Transfer-Encoding: base64", JPEG, b"x" * 50]
    )
    | st.binary(max_size=6),
    max_size=14,
)  # fmt: skip


@given(pieces)
@settings(max_examples=150)
def test_any_form(running: Running, parts: list[bytes]) -> None:
    response = running.client.post("/detect", content=b"".join(parts), headers=FORM)
    assert response.status_code == 200 or 400 <= response.status_code < 500
    if response.status_code != 200:
        error_of(response)


@given(st.floats(0, 1), st.integers(0, 255), st.booleans())
@settings(max_examples=80)
def test_a_good_form_with_a_byte_changed_or_taken_away(
    running: Running, where: float, value: int, keep: bool
) -> None:
    body = form(JPEG, extra='; filename="a.jpg"')
    at = int(where * (len(body) - 1))
    changed = body[:at] + bytes([value]) * keep + body[at + 1 :]
    response = running.client.post("/detect", content=changed, headers=FORM)
    assert response.status_code == 200 or 400 <= response.status_code < 500


@given(any_text.text(max_size=30), any_text.text(max_size=30))
@settings(max_examples=60)
def test_any_query(running: Running, key: str, value: str) -> None:
    response = running.client.post("/detect", params={key: value}, content=JPEG)
    assert response.status_code == 400


def test_the_service_lives_on(running: Running, photo: bytes) -> None:
    assert len(boxes(running.client.post("/detect", content=photo))) == 1
    assert running.detector.lanes.present == 0
    assert json.loads(running.client.get("/model").content)["name"] == "tiny"
