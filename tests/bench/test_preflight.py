from __future__ import annotations

import asyncio
import gzip
import socket
from types import SimpleNamespace

import msgspec
import pytest
import uvloop

from raw_service import answer, raw_service
from scripted_service import scripted
from seatrial.bench import preflight
from seatrial.bench.preflight import probe, recognise, token_hidden
from seatrial.errors import ServiceFailed, Unauthorized
from seatrial.load.images import load_images
from seatrial.load.target import Target, bodies


@pytest.fixture
def ask(image_folder):
    """Probes a target and gives what the service says about itself."""

    def run(target, *, ready_s=60.0, timeout_s=60.0):
        prepared = bodies(target, load_images(image_folder).images)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(probe(target, prepared, ready_s, timeout_s)).model

    return run


def test_a_service_says_what_it_is_and_takes_one_image(detector, ask):
    service = detector(hold_ms=1)
    assert ask(Target(service.url))["engine"] == "openvino"
    assert service.seen()["images"] == 1


@pytest.mark.parametrize("path", ["/nothing", "/text", "/list"])
def test_a_service_that_does_not_say_what_it_is(detector, ask, path):
    assert ask(Target(detector(hold_ms=1).url, model_path=path)) is None


def test_a_missing_ready_path_is_no_hindrance(detector, ask):
    assert ask(Target(detector(hold_ms=1).url, ready_path="/nothing"))


def test_wrong_field_name_is_told_with_the_service_own_words(detector, ask):
    target = Target(detector(behaviour="field").url, path="/v1/predict", field="image")
    with pytest.raises(ServiceFailed, match="422: field 'file' is missing") as caught:
        ask(target)
    assert "multipart field 'image'" in caught.value.hint


def test_wrong_path(detector, ask):
    with pytest.raises(ServiceFailed, match="POST /predict is refused with 404") as caught:
        ask(Target(detector().url, path="/predict"))
    assert "raw body to /predict" in caught.value.hint


def test_a_redirect_is_refused_at_once(detector, ask):
    service = detector(behaviour="moved")
    with pytest.raises(ServiceFailed, match="redirected with 307: the new place is /seen") as told:
        ask(Target(service.url))
    assert "--url and --path" in told.value.hint


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_where_a_service_redirects_to_is_told(ask, status):
    place = "https://elsewhere.example/v1/detect"
    for headers, said, words in (
        ({"Location": place}, b"moved", f"the new place is {place}"),
        ({}, b"moved", "moved"),
        ({}, b"", "no place is named"),
    ):
        with (
            scripted((status, headers, said)) as service,
            pytest.raises(
                ServiceFailed, match=f"POST /detect is redirected with {status}: {words}"
            ),
        ):
            ask(Target(service.url))


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        (b"+OK hello\r\n", "with something that is not HTTP/1.1"),
        (answer(200, gzip.compress(b"{}"), b"Content-Encoding: gzip\r\n"), "packed"),
    ],
    ids=["no-http", "packed"],
)
@pytest.mark.usefixtures("time_limit")
def test_an_answer_that_cannot_be_read_ends_the_benchmark_before_it_begins(ask, answered, words):
    with (
        raw_service(
            lambda asked: [answered if asked.startswith(b"POST") else answer(200, b"{}")]
        ) as url,
        pytest.raises(ServiceFailed, match=f"{url} answers an image {words}"),
    ):
        ask(Target(url))


def test_a_service_that_refuses_every_image_is_asked_three_times(detector, ask):
    service = detector(behaviour="refuse")
    with pytest.raises(ServiceFailed, match="refused with 422: not to my taste"):
        ask(Target(service.url))
    # And once more for its reason.
    assert service.seen()["images"] == 4


def test_which_answers_refuse_and_which_images_are_tried_again(detector, ask, monkeypatch):
    """A redirect is the same for every image; a failure of the service is measured as one."""
    target, asked = Target(detector(hold_ms=1).url), []
    for status, tries in (
        (299, 1),
        (300, 1),
        (399, 1),
        (400, 3),
        (401, 3),
        (499, 3),
        (500, 1),
        (501, 3),
        (503, 1),
        (505, 3),
    ):

        async def answer(http, url, body, status=status):
            asked.append(body)
            return SimpleNamespace(status=status, error="", detections=None)

        monkeypatch.setattr(preflight, "exchange", answer)
        if status == 401:
            with pytest.raises(Unauthorized, match="needs a token") as caught:
                ask(target)
            assert "--token-file" in caught.value.hint
        elif 300 <= status < 500 or status in (501, 505):
            with pytest.raises(ServiceFailed, match=f"is refused with {status}"):
                ask(target)
        else:
            ask(target)
        assert len(asked) == tries, status
        asked.clear()


def test_a_refusal_that_passes_is_no_refusal(detector, ask):
    service = detector(behaviour="limited")
    assert ask(Target(service.url))
    assert service.seen()["images"] == 1


def test_nobody_answers(ask):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ServiceFailed) as caught:
            ask(Target(url))
    assert caught.value.message == f"nothing answers at {url}: Connection refused"
    assert "seatrial serve" in caught.value.hint


def test_a_service_that_does_not_answer_in_time(detector, ask):
    target = Target(detector(behaviour="hang").url)
    ask(target)
    with pytest.raises(ServiceFailed, match=r"did not answer an image within 0\.5 s"):
        ask(target, timeout_s=0.5)


def test_a_service_that_breaks_the_connection(detector, ask):
    target = Target(detector(behaviour="die", after=1).url)
    with pytest.raises(ServiceFailed, match="the connection broke at the first image"):
        ask(target)


def test_a_service_that_never_gets_ready(detector, ask):
    with pytest.raises(ServiceFailed, match="is not ready after 0 s"):
        ask(Target(detector(behaviour="loading").url), ready_s=0.3)


def test_a_service_that_gets_ready_is_waited_for(detector, ask, monkeypatch):
    answered, loading = preflight.ask, [503, 503]

    async def first_loading(http, url):
        reply = await answered(http, url)
        return msgspec.structs.replace(reply, status=loading.pop()) if loading else reply

    monkeypatch.setattr(preflight, "ask", first_loading)
    assert ask(Target(detector(hold_ms=1).url))["engine"] == "openvino"
    assert not loading


@pytest.mark.parametrize(
    ("changes", "protocol"),
    [
        ({}, "http"),
        ({"protocol": "v2"}, "v2"),
        ({"path": "/v2/models/tiny/infer"}, "v2"),
        ({"path": "/v1/predict"}, "http"),
        ({"field": "file"}, "http"),
    ],
)
def test_what_is_named_holds(changes, protocol):
    """None of these asks the service, but for the first."""
    nowhere = Target("http://127.0.0.1:1", **changes)
    if changes:
        assert asyncio.run(recognise(nowhere, 1.0)) == protocol
    else:
        with pytest.raises(ServiceFailed, match="nothing answers"):
            asyncio.run(recognise(nowhere, 1.0))
    assert asyncio.run(recognise(Target("grpcs://127.0.0.1:1"), 1.0)) == "grpc"


@pytest.mark.parametrize("behaviour", ["good", "loading", "plain"])
def test_a_service_without_the_inference_protocol_is_sent_images(detector, behaviour):
    service = detector(behaviour=behaviour, hold_ms=1)
    assert asyncio.run(recognise(Target(service.url), 10.0)) == "http"
    assert service.seen()["images"] == 0


def test_a_token_that_a_service_echoes_is_not_kept():
    model = {"name": "x", "request_headers": {"authorization": 'Bearer se"cret'}, "size": 4}
    found = token_hidden(model, 'se"cret')
    assert found == {"name": "x", "request_headers": {"authorization": "Bearer ..."}, "size": 4}
    assert token_hidden(model, None) is model
    assert token_hidden(None, "secret") is None
