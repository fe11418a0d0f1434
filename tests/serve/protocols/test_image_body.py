"""Reading a request on the wire: limits are kept before the bytes come, not after."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from raw_http import read_response
from seatrial.deployment import Limits
from seatrial.errors import InvalidInput
from seatrial.serve.protocols.image_body import MAX_HEADER_BYTES, MAX_PARTS, _field

Running = Any
LIMIT = 2**18

pytestmark = pytest.mark.usefixtures("time_limit")


def head(path: str = "/detect", **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.mark.parametrize("kind", ["image/jpeg", "multipart/form-data; boundary=b"])
def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(
    running: Running, kind: str
) -> None:
    with running.connect() as connection:
        connection.sendall(head(Content_Type=kind, Content_Length=str(10**12)))
        status, _, body = read_response(connection)  # of the body not one byte was sent
    assert status == 413
    assert json.loads(body)["error"]["code"] == "InputTooLarge"


def test_a_client_that_asks_first_is_told_not_to_send(running: Running) -> None:
    with running.connect() as connection:
        connection.sendall(head(Content_Length=str(10**9), Expect="100-continue"))
        assert read_response(connection)[0] == 413  # and no "100 Continue" before it


def test_a_client_that_asks_first_is_told_to_send_what_fits(running: Running, photo: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(head(Content_Length=str(len(photo)), Expect="100-continue"))
        interim = b""
        while b"\r\n\r\n" not in interim:
            interim += connection.recv(1000)
        assert interim.startswith(b"HTTP/1.1 100")
        connection.sendall(photo)
        assert read_response(connection)[0] == 200


def test_chunks_are_refused_as_soon_as_they_pass_the_limit(running: Running) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with running.connect() as connection:
        connection.sendall(head(Transfer_Encoding="chunked", Content_Type="image/jpeg"))
        for _ in range(LIMIT // 0x10000 + 1):  # the last of these is the first over the limit
            connection.sendall(chunk)
        status, _, _ = read_response(connection)  # the end was never sent
    assert status == 413


def test_chunks_below_the_limit_are_taken(running: Running, photo: bytes) -> None:
    with running.connect() as connection:
        connection.sendall(head(Transfer_Encoding="chunked", Content_Type="image/jpeg"))
        for start in range(0, len(photo), 100):
            piece = photo[start : start + 100]
            connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert read_response(connection)[0] == 200


def test_what_a_refused_client_goes_on_sending_is_not_kept(running: Running) -> None:
    """The server is in this process: its memory is ours."""
    block = bytes(2**20)
    with running.connect() as connection:
        connection.sendall(head(Content_Length=str(10**12)))
        assert read_response(connection)[0] == 413
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            for _ in range(128):
                connection.sendall(block)
        except (BrokenPipeError, ConnectionResetError):
            pass  # hung up on: just as well
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 32 * 1024
    assert running.client.get("/model").status_code == 200


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT, LIMIT + 1])
def test_the_limit_is_on_the_picture_and_exact(running: Running, photo: bytes, size: int) -> None:
    picture = photo + bytes(size - len(photo))  # bytes after a JPEG's end do not matter
    wanted = 200 if size <= LIMIT else 413
    assert running.client.post("/detect", content=picture).status_code == wanted
    assert running.client.post("/detect", files={"image": picture}).status_code == wanted


def test_a_form_without_a_boundary_is_told_who_writes_it(running: Running, photo: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data"}
    response = running.client.post("/detect", content=photo, headers=kind)
    assert response.status_code == 400
    assert "without a boundary" in response.json()["error"]["message"]


def test_a_boundary_that_is_too_long_is_the_callers_fault(running: Running, photo: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=" + "b" * 300}
    response = running.client.post("/detect", content=photo, headers=kind)
    assert response.status_code == 400
    assert "multipart body is malformed" in response.json()["error"]["message"]


NAMED = b'Content-Disposition: form-data; name="image"'
FORMS: dict[str, tuple[bytes, bytes]] = {
    "as browsers write it": (
        b"boundary=b", b"--b\r\n" + NAMED + b'; filename="a.jpg"\r\n\r\n%s\r\n--b--\r\n',
    ),
    "quoted boundary": (b'charset=x; Boundary = "b"', b"--b\r\n" + NAMED + b"\r\n\r\n%s\r\n--b--"),
    "text before and behind": (
        b"boundary=b", b"hello\r\n--b\r\n" + NAMED + b"\r\n\r\n%s\r\n--b--\r\nbye\r\n--b\r\n",
    ),
    "an empty line before": (b"boundary=b", b"\r\n--b\r\n" + NAMED + b"\r\n\r\n%s\r\n--b--"),
    "blanks behind the boundary": (
        b"boundary=b", b"--b \t\r\n" + NAMED + b"\r\n\r\n%s\r\n--b--",
    ),
    "other headers": (
        b"boundary=b",
        b"--b\r\nX: 1\r\ncontent-DISPOSITION:form-data;name=image\r\nY: 2\r\n\r\n%s\r\n--b--",
    ),
    "a name in the file's name": (
        b"boundary=b",
        b'--b\r\nContent-Disposition: form-data; filename="; name=\\"x\\"; y"; name="image"'
        b"\r\n\r\n%s\r\n--b--",
    ),
    "a header over two lines": (
        b"boundary=b",
        b'--b\r\nContent-Disposition: form-data;\r\n name="image"\r\nX: 1\r\n\r\n%s\r\n--b--',
    ),
    "a header over three lines": (
        b"boundary=b",
        b"--b\r\nContent-Disposition:\r\n\tform-data;\r\n \tfilename=a;\r\n name=image"
        b"\r\n\r\n%s\r\n--b--",
    ),
    # Browsers escape quotes alone, and by %22; curl escapes both by a backslash.
    "a file's name that ends in a backslash": (
        b"boundary=b",
        b'--b\r\nContent-Disposition: form-data; filename="C:\\dir\\"; name="image"'
        b"\r\n\r\n%s\r\n--b--",
    ),
    "the same behind": (
        b"boundary=b", b"--b\r\n" + NAMED + b'; filename="C:\\dir\\"\r\n\r\n%s\r\n--b--',
    ),
    "a name in the file's name, by curl": (
        b"boundary=b", b"--b\r\n" + NAMED + b'; filename="a\\"; name=b; c=\\"d"\r\n\r\n%s\r\n--b--',
    ),
    "the same as curl writes it": (
        b"boundary=b",
        b'--b\r\nContent-Disposition: form-data; filename="dir\\\\"; name="image"'
        b"\r\n\r\n%s\r\n--b--",
    ),
    "other parts": (
        b"boundary=b",
        b"--b\r\n\r\nnameless\r\n--b\r\n" + NAMED + b"\r\n\r\n%s\r\n--b\r\n"
        b'Content-Disposition: form-data; name="note"\r\n\r\n\r\n--b--',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_picture_of_a_form_is_its_bytes(running: Running, photo: bytes, name: str) -> None:
    options, body = FORMS[name]
    kind = {"Content-Type": b"multipart/form-data; " + options}
    # Line ends and dashes at the end of the file are the file's.
    for tail in (b"", b"\r\n", b"\r\n--", b"\r"):
        content = body.replace(b"%s", photo + tail)
        assert running.client.post("/detect", content=content, headers=kind).status_code == 200


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"nonsense", "malformed: it does not begin with its boundary"),
        (b"--bx\r\n\r\n1\r\n--b--", "malformed: a boundary does not end its line"),
        (b"--b\n\n1\n--b--", "malformed: a boundary does not end its line"),
        (b"--b\r\nX: " + b"x" * MAX_HEADER_BYTES + b"\r\n\r\n1\r\n--b--", "headers of a part"),
        (b"--bxy", "malformed: a boundary does not end its line"),
        (b"--b", "cut off"),
        (b"--b\r", "cut off"),
        (b"--b\r\nX: 1", "cut off"),
        (b"--b\r\n\r\n1\r\n--", "cut off"),
        (b"--b--", "the form has: none"),
        (b"--b\r\n\r\n1\r\n--b--", "the form has: a part without a name"),
        (b"--b\r\nContent-Disposition: x\r\n; name=image\r\n\r\n1\r\n--b--", "without a name"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_form(running: Running, body: bytes, said: str) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    response = running.client.post("/detect", content=body, headers=kind)
    assert response.status_code == 400
    assert said in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n--boundar" * 10**5 + b"\r\n--boundary--",
        b"--boundary\r\n\r\n" + b"\r\n--boundar" * 10**5,
        b"--boundary\r\n\r\n\r\n" * 10**5,
        b"--boundary\r\n" + b"x: y\r\n" * 10**5,
        b"--boundary" + b" " * 10**6,
    ],
)
def test_a_form_costs_few_steps_whatever_is_in_it(body: bytes) -> None:
    """It is read on the event loop, where every other request waits meanwhile."""
    calls: list[str] = []
    sys.setprofile(lambda frame, event, function: calls.append(event))
    try:
        with pytest.raises(InvalidInput):
            _field(bytearray(body), b"boundary")
    finally:
        sys.setprofile(None)
    assert len(calls) < 100 * MAX_PARTS


def test_a_content_type_is_not_longer_than_needed(running: Running, photo: bytes) -> None:
    for length, status in ((MAX_HEADER_BYTES, 200), (MAX_HEADER_BYTES + 1, 400)):
        kind = {"Content-Type": "image/jpeg; a=".ljust(length, "b")}
        assert running.client.post("/detect", content=photo, headers=kind).status_code == status


@pytest.mark.parametrize(
    ("field", "parameter"),
    [("confidence", "confidence"), ("iou", "iou"), ("conf", "confidence"),
     ("max_det", "max_detections")],
)  # fmt: skip
def test_a_parameter_in_the_form_is_not_passed_over(
    running: Running, photo: bytes, field: str, parameter: str
) -> None:
    given = {"files": {"image": photo}, "data": {"note": "x", field: "0.9"}}
    error = running.client.post("/detect", **given).json()["error"]
    assert error["message"] == f"the form has the field {field!r}, which is not read"
    assert f"/detect?{parameter}=" in error["hint"]


@pytest.mark.parametrize(("parts", "status"), [(MAX_PARTS, 200), (MAX_PARTS + 1, 400)])
def test_a_form_has_so_many_parts_and_no_more(
    running: Running, photo: bytes, parts: int, status: int
) -> None:
    others = [("note", (None, "x"))] * (parts - 1)
    response = running.client.post("/detect", files=[*others, ("image", ("a.jpg", photo))])
    assert response.status_code == status
    if status == 400:
        assert response.json()["error"]["message"] == f"the form has more than {MAX_PARTS} parts"


@pytest.mark.parametrize("length", ["-1", "abc", "1e3", "²", ""])
def test_a_length_that_is_no_number(running: Running, length: str) -> None:
    with running.connect() as connection:
        connection.sendall(f"POST /detect HTTP/1.1\r\nContent-Length: {length}\r\n\r\n".encode())
        status = connection.recv(100).split()[1]
    assert status.startswith(b"4")
    assert running.client.get("/model").status_code == 200


@pytest.mark.parametrize("sent", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff" + bytes(500)])
def test_a_body_that_does_not_arrive_is_not_waited_for(
    run_app: Callable[..., Any], sent: bytes
) -> None:
    with run_app(Limits(body_s=0.2)) as running, running.connect() as connection:
        started = time.monotonic()
        connection.sendall(head(Content_Length="1000") + sent)
        status, _, body = read_response(connection)
        assert status == 408
        assert time.monotonic() - started >= 0.2
        error = json.loads(body)["error"]
        assert error["code"] == "InputTooSlow"
        assert f"only {len(sent)} bytes of the body were here after 0.2 s" in error["message"]


def test_a_client_that_hangs_up_while_sending_is_counted_as_such(
    running: Running, metric: Callable[..., float], until: Callable[..., Any]
) -> None:
    def gone() -> float:
        return metric("seatrial_requests_total", route="/detect", code="499")

    before = gone()
    with running.connect() as connection:
        connection.sendall(head(Content_Length="1000") + b"\xff\xd8\xff")
    until(lambda: gone() == before + 1)
    assert running.detector.lanes.present == 0


def test_a_connection_serves_many_requests(running: Running, photo: bytes) -> None:
    with running.connect() as connection:
        for path, length in (("/detect", len(photo)), ("/nothing", 0), ("/detect", 0)) * 3:
            connection.sendall(head(path, Content_Length=str(length)) + photo[:length])
            status, _, _ = read_response(connection)
            assert status == {"/nothing": 404}.get(path, 200 if length else 400)
