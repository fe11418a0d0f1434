"""Reading bodies, packed or not, within their limit."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from open_inference import (
    GRAPH,
    INFER,
    JSON_BYTES,
    detected,
    error_of,
    images_body,
    post,
    rows,
    tensors,
)
from raw_http import read_response
from seatrial.serve.protocols import body as body_module
from seatrial.serve.protocols.body import FREE_MEMBERS, MEMBER_BYTES, MOST_TIMES, PIECE_BYTES
from seatrial.serve.protocols.off_loop import MOST_TEXT_BYTES

Running = Any
LIMIT = 2**18  # of `running`
PACKED = {"Content-Encoding": "deflate"}

pytestmark = pytest.mark.usefixtures("time_limit")


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
def test_packed_bodies_are_unpacked(running: Running, files: list[bytes], encoding: str) -> None:
    body, headers = images_body(files[0])
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    given = {**headers, "Content-Encoding": encoding}
    assert rows(tensors(post(running, (packed, given)))) == detected(running, files[0])
    for damaged in (packed[:-1], packed + b"x", b"x" + packed, packed[:20], b"x"):
        response = post(running, (damaged, given))
        assert response.status_code == 400
        error_of(response)


@pytest.mark.parametrize("cuts", [[100], [0, 0, 50, 51, 300]])
def test_members_of_gzip_are_one_body(
    running: Running, files: list[bytes], cuts: list[int]
) -> None:
    """RFC 1952, 2.2: as `cat a.gz b.gz` and programs that pack in blocks write them."""
    body, headers = images_body(files[0])
    given = {**headers, "Content-Encoding": "gzip"}
    ends = zip([0, *cuts], [*cuts, len(body)], strict=True)
    packed = b"".join(gzip.compress(body[begin:end]) for begin, end in ends) + gzip.compress(b"")
    assert rows(tensors(post(running, (packed, given)))) == detected(running, files[0])
    for damaged in (packed + b"x", packed[:-1], packed + packed[:9], packed + b"\x1f\x8b\x09"):
        response = post(running, (damaged, given))
        assert response.status_code == 400
        assert error_of(response).startswith(("the body ", "the gzip data"))


def test_members_of_gzip_are_not_far_longer_together(running: Running) -> None:
    packed = {"Content-Encoding": "gzip"}
    made = gzip.compress(bytes(5000)) * 2
    assert MOST_TIMES * len(made) < 10_000
    response = running.client.post("/detect", content=made, headers=packed)
    assert "times as long unpacked" in response.json()["error"]["message"]
    long = gzip.compress(half_noise(LIMIT // 2)) * 3
    assert running.client.post("/detect", content=long, headers=packed).status_code == 413


@pytest.mark.parametrize(
    ("members", "taken"), [(FREE_MEMBERS + 1, True), (FREE_MEMBERS + 2, False), (9000, False)]
)
def test_members_of_gzip_are_few(
    running: Running, monkeypatch: pytest.MonkeyPatch, members: int, taken: bool
) -> None:
    """An empty one is 20 bytes: 1 MB of them would begin 50,000 times to unpack."""
    begun: list[int] = []
    real = zlib.decompressobj

    def counted(bits: int) -> Any:
        begun.append(bits)
        return real(bits)

    monkeypatch.setattr(zlib, "decompressobj", counted)
    made = gzip.compress(b"") * (members - 1) + gzip.compress(b"x")
    response = running.client.post("/detect", content=made, headers={"Content-Encoding": "gzip"})
    told = response.json()["error"]["message"]
    assert ("known image format" in told) == taken
    assert ("members of gzip" in told) == (not taken)
    # What is here may allow some more than its beginning did.
    assert len(begun) <= FREE_MEMBERS + 1 + len(made) // MEMBER_BYTES


@pytest.mark.parametrize("size", [1, 2, None])
def test_deflate_without_the_header_of_zlib_is_unpacked(
    running: Running, photo: bytes, size: int | None
) -> None:
    """As browsers and aiohttp take it: some clients send it so."""
    packing = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = packing.compress(photo) + packing.flush()
    headers = {"Content-Encoding": "deflate", "Content-Type": "image/jpeg"}
    sizes = [packed[:size], packed[size:]] if size else [packed]
    answer = running.client.post("/detect", content=iter(sizes), headers=headers)
    plain = running.client.post("/detect", content=photo).json()["detections"]
    assert answer.json()["detections"] == plain != []
    for damaged in (packed[:-1], packed + b"x", b"\x07" + packed):
        response = running.client.post("/detect", content=damaged, headers=headers)
        assert response.status_code == 400
        assert "deflate data" in response.json()["error"]["message"]


@pytest.mark.parametrize("encodings", [["br"], ["gzip, gzip"], ["gzip", "br"]])
@pytest.mark.parametrize("path", [INFER, "/detect"])
def test_another_encoding_is_refused_with_those_that_are_taken(
    running: Running, photo: bytes, path: str, encodings: list[str]
) -> None:
    headers = [("Content-Encoding", one) for one in encodings]
    response = running.client.post(path, content=gzip.compress(photo), headers=headers)
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "gzip, deflate")
    told = response.json()["error"]
    message = told["message"] if path == "/detect" else error_of(response)
    assert f"{', '.join(encodings)!r} is not accepted" in message


@pytest.mark.parametrize("way", ["raw", "form"])
def test_a_packed_image_is_unpacked(running: Running, photo: bytes, way: str) -> None:
    """Others take the packed bytes for the image."""
    request = running.client.build_request(
        "POST", "/detect", **{"raw": {"content": photo}, "form": {"files": {"image": photo}}}[way]
    )
    kind = {"Content-Type": request.headers.get("content-type", "image/jpeg")}
    packed = {**kind, "Content-Encoding": "gzip"}
    content = request.read()
    answers = [
        running.client.post("/detect", content=content, headers=kind),
        running.client.post("/detect", content=gzip.compress(content), headers=packed),
    ]
    plain, unpacked = (answer.json()["detections"] for answer in answers)
    assert plain == unpacked != []
    long = gzip.compress(half_noise(2 * LIMIT))
    assert running.client.post("/detect", content=long, headers=packed).status_code == 413


def test_a_body_of_images_is_not_far_longer_unpacked(running: Running) -> None:
    """3 KB of one colour, and as much work as a photo, are 115 bytes."""
    packed = {"Content-Encoding": "gzip"}
    for content, status in ((bytes(10_000), 400), (bytes(100), 415)):
        made = gzip.compress(content)
        assert (len(content) > MOST_TIMES * len(made)) == (status == 400)
        response = running.client.post("/detect", content=made, headers=packed)
        assert response.status_code == status
        assert ("times as long unpacked" in response.text) == (status == 400)
    response = post(running, (gzip.compress(bytes(10_000)), packed))
    assert "times as long unpacked" in error_of(response)
    # Tensors may be all zeros.
    one = {"name": "image", "datatype": "UINT8", "shape": [1, 64, 64, 3], "data": [0] * 12288}
    made = gzip.compress(json.dumps({"inputs": [one]}).encode())
    response = post(running, (made, packed), GRAPH)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_is_that_of_the_unpacked_body(running: Running, over: int) -> None:
    made = zlib.compress(half_noise(LIMIT + over))
    response = post(running, (made, {"Content-Encoding": "deflate"}))
    assert len(made) < LIMIT / 2
    assert response.status_code == (413 if over else 400)


def half_noise(length: int) -> bytes:
    """So many bytes, of which a third cannot be packed."""
    noise = random.Random(0)
    return b"".join(bytes(512) + noise.randbytes(256) for _ in range(length // 768 + 1))[:length]


@contextmanager
def counted_unpacking() -> Iterator[list[int]]:
    """Lengths of the pieces that are unpacked."""
    real, pieces = zlib.decompressobj, []

    class Counting:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            piece = self._real.decompress(data, most)
            pieces.append(len(piece))
            return piece

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "decompressobj", Counting)
        yield pieces


def test_a_bomb_is_not_unpacked_to_its_end(running: Running) -> None:
    made = zlib.compress(bytes(2**28))
    with counted_unpacking() as pieces:
        response = post(running, (made[: LIMIT - 1], PACKED))
    assert response.status_code == 413
    assert LIMIT < sum(pieces) <= LIMIT + PIECE_BYTES


@pytest.mark.parametrize("path", [INFER, "/detect", GRAPH])
def test_no_more_is_unpacked_than_the_declared_length_may_give(running: Running, path: str) -> None:
    made = zlib.compress(bytes(LIMIT))
    with pytest.MonkeyPatch.context() as patch, counted_unpacking() as pieces:
        patch.setattr(body_module, "PIECE_BYTES", 1024)
        response = running.client.post(path, content=made, headers=PACKED)
    assert response.status_code == 400
    assert "times as long unpacked" in response.text
    most = MOST_TEXT_BYTES if path == GRAPH else MOST_TIMES * len(made)
    assert most < sum(pieces) <= most + 1024


def test_a_body_without_a_declared_length_may_begin_more_packed_than_it_is(
    running: Running,
) -> None:
    """Its end decides; far ahead of what it may be, it is refused before."""
    made = zlib.compress(bytes(LIMIT - 1))
    with pytest.MonkeyPatch.context() as patch, counted_unpacking() as pieces:
        patch.setattr(body_module, "PIECE_BYTES", 1024)
        patch.setattr(body_module, "AHEAD_BYTES", 10_000)
        # Zeros first, and then more than a twentieth of them that cannot be packed.
        sent = zlib.compress(bytes(9_000) + random.Random(1).randbytes(2_000))
        head, rest = sent[:60], sent[60:]
        whole = running.client.post("/detect", content=iter([head, rest]), headers=PACKED)
        assert (whole.status_code, sum(pieces)) == (415, 11_000)  # no image, and all of it
        pieces.clear()
        bomb = running.client.post("/detect", content=iter([made]), headers=PACKED)
    assert bomb.status_code == 400
    assert "times as long unpacked" in bomb.text
    assert sum(pieces) <= MOST_TIMES * len(made) + 10_000 + 1024


def test_zeros_for_a_graph_are_free_as_binary_data_and_not_as_json(running: Running) -> None:
    size = 64 * 64 * 3
    packed = zlib.compress(bytes(size))
    zeros = post(running, (packed, {**PACKED, JSON_BYTES: "0"}), GRAPH)
    assert zeros.status_code == 200, zeros.text
    numbers = b"[" + b"0," * 80_000
    for content, told in (
        (bytes(2 * size), {JSON_BYTES: "0"}),
        (numbers, {}),
        (numbers, {JSON_BYTES: str(len(numbers))}),
    ):
        response = post(running, (zlib.compress(content), {**PACKED, **told}), GRAPH)
        assert response.status_code == 400
        assert "times as long unpacked" in error_of(response)


def test_a_length_over_the_limit_is_refused_before_the_body_is_sent(running: Running) -> None:
    for encoding in ("", "Content-Encoding: gzip\r\n"):
        with running.connect() as connection:
            head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\n{encoding}Content-Length: {10**12}\r\n\r\n"
            connection.sendall(head.encode())
            status, _, body = read_response(connection)
        assert status == 413
        assert "over the limit" in json.loads(body)["error"]
