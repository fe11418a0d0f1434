from __future__ import annotations

import email
import email.policy
import socket

import pytest

from seatrial.errors import InvalidConfig
from seatrial.load.images import EncodedImage
from seatrial.load.target import Target, base_url, bodies, endpoint, is_local

IMAGE = EncodedImage("a b.jpg", b"\xff\xd8\r\n--boundary\r\n\xff\xd9", "image/jpeg", 2, 1)


def test_raw_body_is_the_file_itself():
    (body,) = bodies(Target("http://127.0.0.1:1"), [IMAGE])
    assert (body.data, body.headers) == (IMAGE.data, {"Content-Type": "image/jpeg"})


def test_multipart_body_parses_back_to_the_file():
    (body,) = bodies(Target("http://127.0.0.1:1", field='im"age'), [IMAGE])
    head = f"Content-Type: {body.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + body.data, policy=email.policy.HTTP)
    (part,) = message.iter_parts()
    assert part.get_payload(decode=True) == IMAGE.data
    assert part.get_content_type() == "image/jpeg"
    assert part.get_param("name", header="content-disposition") == "im%22age"


def test_endpoint_takes_path_and_parameters():
    target = Target("http://127.0.0.1:8080/", path="/v1/predict", params={"confidence": "0.4"})
    assert str(endpoint(target)) == "http://127.0.0.1:8080/v1/predict?confidence=0.4"


@pytest.mark.parametrize("path", ["//other:81/x", "a:b", "detect", "http:/x", "/v1/detect?conf=.4"])
def test_a_path_leads_to_no_other_host(path):
    found = endpoint(Target("http://127.0.0.1:1", path=path))
    assert (found.host, found.port) == ("127.0.0.1", 1)
    assert found.raw_path_qs.lstrip("/") == path.lstrip("/")


def test_the_hint_keeps_the_query():
    with pytest.raises(InvalidConfig) as told:
        base_url(Target("http://127.0.0.1:1/v1/detect?conf=.4"))
    assert "--path '/v1/detect?conf=.4'" in told.value.hint


@pytest.mark.parametrize("url", ["127.0.0.1:3000", "ftp://host", "http://", "localhost", ""])
def test_not_an_http_address(url):
    with pytest.raises(InvalidConfig, match="address"):
        base_url(Target(url))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://127.0.0.1:3000/predict/", "/detect"),
        ("http://127.0.0.1:3000/v1?a=b", "/detect"),
        ("http://127.0.0.1:3000/#here", "/detect"),
        ("grpc://127.0.0.1:3001/model", "/detect"),
        ("http://127.0.0.1:3000", "http://127.0.0.2:3000/detect"),
    ],
)
def test_an_address_with_a_path_would_be_measured_elsewhere(url, path):
    with pytest.raises(InvalidConfig) as told:
        base_url(Target(url, path=path))
    assert "--path" in told.value.hint


def test_a_password_would_be_printed_in_the_report():
    with pytest.raises(InvalidConfig, match="password") as caught:
        base_url(Target("http://me:secret@127.0.0.1:3000"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]"])
def test_loopback_is_local(host):
    assert is_local(Target(f"http://{host}:3000"))


def test_documentation_address_is_not_local():
    assert not is_local(Target("http://192.0.2.7:3000"))


def test_unknown_name_is_not_local(monkeypatch):
    def fail(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert not is_local(Target("http://nowhere.invalid:3000"))


@pytest.mark.parametrize(
    ("url", "protocol"),
    [("http://127.0.0.1:1", "grpc"), ("grpc://127.0.0.1:1", "http"), ("grpcs://h:1", "v2")],
)
def test_the_protocol_has_to_fit_the_address(url, protocol):
    with pytest.raises(InvalidConfig, match=f"the protocol {protocol} does not fit"):
        base_url(Target(url, protocol=protocol))


def test_a_form_and_a_query_are_not_of_the_inference_protocol():
    for target in (
        Target("grpc://127.0.0.1:1", field="image"),
        Target("http://127.0.0.1:1", field="image", protocol="v2"),
        Target("http://127.0.0.1:1", params={"confidence": "0.4"}, protocol="v2"),
    ):
        with pytest.raises(InvalidConfig, match="do not belong to the Open Inference Protocol"):
            base_url(target)
