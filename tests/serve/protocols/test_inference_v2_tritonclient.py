"""NVIDIA's own client, unmodified and in an environment of its own, against a real service."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import local_http
from fresh_environments import ENVIRONMENT, install
from open_inference import columns
from running_services import service  # noqa: F401  not that of the calls beside this file
from seatrial.serve.process import ServiceProcess

Told = dict[str, Any]

pytestmark = pytest.mark.slow

# Runs in the client's environment: the words are the service's address and a folder with images.
CLIENT = """
import base64, json, sys
from pathlib import Path
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(sys.argv[1], concurrency=2)
files = [file.read_bytes() for file in sorted(Path(sys.argv[2]).glob("*.jpg"))]
NAMES = ("boxes", "scores", "class_ids", "labels", "counts")


def image(*given, binary=True, shape=None):
    tensor = http.InferInput("image", shape or [len(given)], "BYTES")
    array = np.array(given, dtype=object).reshape(shape or [len(given)])
    return [tensor.set_data_from_numpy(array, binary_data=binary)]


def boxes(result, names=NAMES):
    arrays = {name: result.as_numpy(name) for name in names}
    return {name: [x.decode() if isinstance(x, bytes) else x for x in array.tolist()]
            for name, array in arrays.items()}


def wanted(binary):
    return [http.InferRequestedOutput(name, binary_data=binary) for name in NAMES]


def error(call, *words, **options):
    try:
        call(*words, **options)
    except InferenceServerException as raised:
        return [raised.status(), raised.message()]
    return None


encoded = base64.b64encode(files[0])
canvas = np.full((1, 64, 64, 3), 114, np.uint8)
canvas[0, 16:24, 24:32] = (255, 0, 0)
graph = http.InferInput("image", canvas.shape, "UINT8").set_data_from_numpy(canvas)
graph_json = http.InferInput("image", canvas.shape, "UINT8")
graph_json.set_data_from_numpy(canvas, binary_data=False)
infer = client.infer
before = client.get_inference_statistics("tiny")
told = {
    "live": client.is_server_live(),
    "ready": [client.is_server_ready(), client.is_model_ready("tiny"),
              client.is_model_ready("tiny.graph", "1"), client.is_model_ready("none")],
    "server": client.get_server_metadata(),
    "model": client.get_model_metadata("tiny"),
    "config": client.get_model_config("tiny", "1"),
    "index": client.get_model_repository_index(),
    "binary": boxes(infer("tiny", image(files[0]))),
    "json out": boxes(infer("tiny", image(files[0]), outputs=wanted(False))),
    "binary out": boxes(infer("tiny", image(files[0]), outputs=wanted(True))),
    "json in": boxes(infer("tiny", image(encoded, binary=False))),
    "versioned": boxes(infer("tiny", image(files[0]), model_version="1")),
    "gzip": boxes(infer("tiny", image(files[0]), request_compression_algorithm="gzip",
                        response_compression_algorithm="gzip")),
    "deflate": boxes(infer("tiny", image(files[0]), request_compression_algorithm="deflate")),
    "column": boxes(infer("tiny", image(files[0], shape=[1, 1]))),
    "urgent": boxes(infer("tiny", image(files[0]), priority=2, timeout=5_000_000)),
    "asynchronous": boxes(client.async_infer("tiny", image(files[0])).get_result()),
    "id": infer("tiny", image(files[0]), request_id="seven").get_response()["id"],
    "several": boxes(infer("tiny", image(*files))),
    "confident": boxes(infer("tiny", image(files[0]), parameters={"confidence": 1.0})),
    "nothing": infer("tiny", image(files[1])).as_numpy("boxes").shape,
    "raw": infer("tiny.graph", [graph]).as_numpy("output0").tolist(),
    "raw json": infer("tiny.graph", [graph_json]).as_numpy("output0").tolist(),
    "no model": error(infer, "none", image(files[0])),
    "no image": error(infer, "tiny", image(b"hello")),
    "no input": error(infer, "tiny", [graph_json]),
    "no parameter": error(infer, "tiny", image(files[0]), parameters={"confidance": 0.5}),
    "late": error(infer, "tiny", image(files[0]), timeout=1),
    "no load": error(client.load_model, "tiny"),
    "statistics": [before, client.get_inference_statistics("tiny")],
}
json.dump(told, sys.stdout)
"""


@pytest.fixture(scope="module")
def told(
    service: ServiceProcess,  # noqa: F811
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Told:
    """What the client was told, in one run of it."""
    python = install(tmp_path_factory.mktemp("tritonclient") / "venv", "tritonclient[http]>=2.60")
    done = subprocess.run(
        [python, "-W", "ignore", "-c", CLIENT, service.url.removeprefix("http://"), images],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: Told = json.loads(done.stdout)
    answers["detect"] = [
        local_http.post(f"{service.url}/detect", content=file.read_bytes()).json()
        for file in sorted(images.iterdir())
    ]
    return answers


def test_health_metadata_and_configuration(told: Told) -> None:
    assert told["live"] is True
    assert told["ready"] == [True, True, True, False]
    assert told["server"]["name"] == "seatrial"
    assert told["model"]["name"] == "tiny"
    assert told["model"]["versions"] == ["1"]
    assert told["config"]["input"][0]["data_type"] == "TYPE_STRING"
    assert [one["name"] for one in told["index"]] == ["tiny", "tiny.graph"]


@pytest.mark.parametrize(
    "way",
    [
        "binary", "json out", "binary out", "json in", "versioned", "gzip", "deflate", "column",
        "urgent", "asynchronous",
    ],
)  # fmt: skip
def test_boxes_are_those_of_detect(told: Told, way: str) -> None:
    wanted = columns(told["detect"][0])
    assert len(wanted["boxes"]) == 2
    assert told[way] == wanted


def test_several_images_in_one_request(told: Told) -> None:
    assert told["several"] == columns(*told["detect"])
    assert told["several"]["counts"] == [2, 0, 1, 1]


def test_requests_have_ids_and_parameters(told: Told) -> None:
    assert told["id"] == "seven"
    assert told["confident"]["counts"][0] < 2
    assert told["nothing"] == [0, 4]


def test_the_graph_gives_what_the_engine_gives(told: Told) -> None:
    output = np.array(told["raw"], np.float32)
    assert output.shape == (1, 7, 64)
    assert (np.array(told["raw json"], np.float32) == output).all()
    at = 2 * 8 + 3  # the red cell
    assert output[0, :4, at].tolist() == [28, 20, 16, 16]
    assert output[0, 4, at] > 0.5 > output[0, 5:, at].max()


def test_errors_reach_the_caller(told: Told) -> None:
    assert told["no model"][0] == "404"
    assert "there is no model 'none'" in told["no model"][1]
    assert told["no image"][0] == "415"
    assert told["no input"] == [
        "400",
        "input 'image' is UINT8, and the model takes BYTES; send each image as an encoded JPEG, "
        "PNG or WebP file",
    ]
    assert told["no parameter"][0] == "400"
    assert "did you mean 'confidence'?" in told["no parameter"][1]
    assert told["late"][0] == "504"
    assert told["no load"][0] == "404"


def test_statistics_count_what_was_asked(told: Told) -> None:
    before, after = (one["model_stats"][0] for one in told["statistics"])
    assert after["name"] == "tiny"
    assert after["inference_count"] - before["inference_count"] == 10 + 1 + len(told["detect"]) + 2
    old, new = before["inference_stats"], after["inference_stats"]
    assert new["success"]["count"] - old["success"]["count"] == 14
    assert new["fail"]["count"] - old["fail"]["count"] == 4
    assert new["compute_infer"]["ns"] > old["compute_infer"]["ns"]
