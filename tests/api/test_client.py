"""Clients of a running service: by threads and by asyncio, against the real application."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import seatrial
from scripted_service import MODEL, OK, scripted
from seatrial.artifact import Artifact
from seatrial.errors import (
    InputTooLarge,
    InvalidConfig,
    InvalidImage,
    InvalidInput,
    SeatrialError,
    UnsupportedImage,
)
from seatrial.serve.process import ServiceProcess
from served_application import Running
from service_clients import url_of


def encoded(array: Any, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def test_every_form_of_an_image_gives_the_boxes_of_a_detector_in_this_process(
    connect: Any, served: Running, array: Any, tiny_artifact: Artifact, tmp_path: Path
) -> None:
    png = encoded(array, "PNG")
    for suffix in ("png", "bmp", "tiff"):  # services take the first of these
        Image.fromarray(array).save(tmp_path / f"a.{suffix}")
    forms = [
        array, Image.fromarray(array), png, bytearray(png), memoryview(png),
        tmp_path / "a.png", str(tmp_path / "a.png"), tmp_path / "a.bmp", tmp_path / "a.tiff",
    ]  # fmt: skip
    with seatrial.load(tiny_artifact.path, engine="onnxruntime", threads=1) as detector:
        wanted = detector(array)
    assert wanted.labels == ["red"]
    with connect(url_of(served)) as client:
        for form in forms:
            found = client.detect(form)
            np.testing.assert_array_equal(found.xyxy, wanted.detections.rounded().xyxy)
            np.testing.assert_array_equal(found.confidence, wanted.detections.rounded().score)
            assert (found.labels, found.names) == (wanted.labels, wanted.names)
            assert found.size_hw == (128, 128)
        upright = client.detect(array[:, :100])
        assert upright.size_hw == (128, 100)


def test_a_service_with_a_supervisor(connect: Any, service: ServiceProcess, array: Any) -> None:
    """Its readiness, description and boxes, as ``seatrial serve`` starts it."""
    with connect(f"{service.url}/") as client:
        client.wait_until_ready(60)
        assert client.is_ready()
        assert client.model().engine == "openvino"
        assert client.detect(array).labels == ["red"]


def test_arrays_as_jpeg(connect: Any, served: Running, array: Any) -> None:
    with connect(url_of(served), encoding="jpeg") as client:
        assert client.detect(array).labels == ["red"]
    with scripted(OK) as service, connect(service.url, encoding="jpeg") as client:
        client.detect(array)
        sent = int(service.headers[0]["content-length"])
        client.detect(encoded(array, "PNG"))
        assert sent != int(service.headers[1]["content-length"])


def test_options_of_a_call(connect: Any, served: Running, array: Any) -> None:
    image = array.copy()
    image[80:96, 16:32] = (0, 255, 0)
    with connect(url_of(served)) as client:
        assert len(client.detect(image)) == 2
        assert len(client.detect(image, max_detections=1)) == 1
        assert len(client.detect(image, confidence=1.0)) == 0
        assert len(client.detect(image, confidence=np.float32(0.5), iou=0.1)) == 2
        assert len(client.detect(image, deadline_s=30, priority="batch")) == 2
        assert client.model().labels == ("red", "green", "blue")
        assert client.model().engine == "onnxruntime"
        assert client.is_ready()
        client.wait_until_ready(5)


def test_what_is_sent(connect: Any) -> None:
    with scripted(OK) as service, connect(f"{service.url}/cameras/", token="secret") as client:
        service.model = (200, {}, json.dumps(MODEL).encode())
        client.detect(b"x")
        client.detect(b"x", confidence=0.5, iou=0.25, max_detections=7, priority="batch")
        client.detect(b"x", deadline_s=20)
        assert service.posted == [
            "/cameras/detect",
            "/cameras/detect?confidence=0.5&iou=0.25&max_detections=7",
            "/cameras/detect",
        ]
        plain, batch, urgent = service.headers
        assert plain["authorization"] == "Bearer secret"
        assert plain["host"] == service.url.removeprefix("http://")
        assert plain["x-request-priority"] == "live"
        assert "x-request-timeout-ms" not in plain
        assert batch["x-request-priority"] == "batch"
        assert 19_000 < int(urgent["x-request-timeout-ms"]) <= 20_000
        assert service.described == 1  # for all images
        assert len(service.peers) == 1
        assert "secret" not in repr(client)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": 2}, "confidence"),
        ({"iou": -0.1}, "iou"),
        ({"max_detections": 0}, "max_detections"),
        ({"confidence": "much"}, "confidence"),
        ({"deadline_s": 0}, "deadline_s 0 is not a number of seconds above 0"),
        ({"deadline_s": float("nan")}, "deadline_s nan"),
        ({"deadline_s": "soon"}, "deadline_s 'soon'"),
        ({"priority": "urgent"}, "priority 'urgent' is not one of live, batch"),
    ],
)
def test_options_out_of_range(connect: Any, options: dict[str, Any], message: str) -> None:
    with connect("http://127.0.0.1:9") as client:
        for call in (client.detect, client.detect_many):
            with pytest.raises(InvalidConfig, match=message):
                call([] if call == client.detect_many else b"x", **options)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("127.0.0.1:3000", {}, "is not an http address"),
        ("ftp://host", {}, "is not an http address"),
        ("http://", {}, "is not an http address"),
        ("http://host:99999", {}, "is not an http address"),
        ("http://host\n", {}, "is not an http address"),
        (b"http://host", {}, "is not an http address"),
        (None, {}, "is not an http address"),
        ("http://me:secret@host", {}, "^the address holds a user name$"),
        ("http://host/?a=b", {}, "is more than the address"),
        ("http://host", {"timeout_s": 0}, "timeout_s 0"),
        ("http://host", {"retries": -1}, "retries -1"),
        ("http://host", {"retries": 1.5}, "retries 1.5"),
        ("http://host", {"priority": "x"}, "priority 'x' is not one of live, batch"),
        ("http://host", {"encoding": "webp"}, "encoding 'webp' is not one of png, jpeg"),
        ("http://host", {"connections": 0}, "connections 0"),
        ("http://host", {"token": "a\nb"}, "^the token is empty"),
        ("https://host", {"ca_file": "/nowhere.pem"}, "ca_file /nowhere.pem cannot be used"),
    ],
)
def test_clients_that_cannot_be(url: Any, options: dict[str, Any], message: str) -> None:
    for kind in (seatrial.Client, seatrial.AsyncClient):
        with pytest.raises(InvalidConfig, match=message) as refusal:
            kind(url, **options)
        assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("image", "kind", "message"),
    [
        (b"", InvalidInput, "empty"),
        (b"GIF89a....", UnsupportedImage, "GIF"),
        (b"\xff\xd8\xff\xe0", InvalidImage, "damaged"),
        (b"x" * 2**19, InputTooLarge, "over the limit"),
        (np.zeros((1001, 1000, 3), np.uint8), InputTooLarge, "1000 x 1001, over the limit"),
        (np.zeros((4, 4), np.uint8), InvalidImage, "an array must be"),
        (7, InvalidInput, "int is not an image"),
        ("nowhere.jpg", InvalidInput, "nowhere.jpg cannot be read"),
    ],
)
def test_images_that_are_refused(
    connect: Any, served: Running, image: Any, kind: type[SeatrialError], message: str
) -> None:
    """Here or by the service: the same classes."""
    with connect(url_of(served)) as client, pytest.raises(kind, match=message) as refusal:
        client.detect(image)
    assert type(refusal.value) is kind


def test_an_error_about_a_file_names_it(connect: Any, served: Running, tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0")
    with connect(url_of(served)) as client:
        with pytest.raises(InvalidImage, match=r"^.*cut\.jpg: the JPEG"):
            client.detect(file)
        with pytest.raises(InvalidImage, match=r"^image\[0\]: .*cut\.jpg: the JPEG"):
            list(client.detect_many([file]))
        (tmp_path / "cut.bmp").write_bytes(b"BM....")  # read here: services do not take it
        with pytest.raises(InvalidImage, match=r"^.*cut\.bmp: the image header"):
            client.detect(tmp_path / "cut.bmp")
