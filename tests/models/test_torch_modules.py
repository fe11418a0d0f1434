"""Checkpoints as modules that take images: preprocessing inside, and traces of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest

from seatrial.artifact import Artifact
from seatrial.errors import InvalidArtifact
from seatrial.manifest import Manifest, TensorSpec
from seatrial.models.torch_modules import examples, image_module, is_checkpoint, quiet, to_onnx

MEAN_STD = ((0.5, 0.25, 0.0), (0.5, 0.25, 0.125))
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch warns about its own exporter


@pytest.fixture
def detr(tiny_artifact: Artifact) -> Manifest:
    """Manifest of a DETR with a mask, on a canvas of 4 x 6 pixels."""
    manifest = tiny_artifact.manifest
    (image,) = manifest.inputs
    return msgspec.structs.replace(
        manifest,
        family="detr",
        preprocessing=msgspec.structs.replace(manifest.preprocessing, size_hw=(4, 6)),
        inputs=(
            msgspec.structs.replace(image, shape=(1, 4, 6, 3)),
            TensorSpec("valid_hw", "int64", (1, 2)),
        ),
        outputs=(TensorSpec("logits", "float32", (1, 3)), TensorSpec("boxes", "float32", (1, 1))),
    )


def masked(torch: Any, manifest: Manifest) -> Any:
    """A network that answers with the mean of its pixels and the sum of its mask."""

    class Network(torch.nn.Module):  # type: ignore[misc]
        def forward(self, pixel_values: Any, pixel_mask: Any) -> Any:
            seen = pixel_mask.sum(dim=(1, 2), keepdim=False)[:, None].to(torch.float32)
            return SimpleNamespace(boxes=seen, logits=pixel_values.sum(dim=(2, 3)))

    return image_module(Network(), manifest, scale=255.0, mean_std=MEAN_STD)


def test_pixels_are_scaled_normalised_and_masked(torch: Any, detr: Manifest) -> None:
    image = torch.randint(0, 256, (2, 4, 6, 3), dtype=torch.uint8)
    valid = torch.tensor([[4, 6], [2, 5]])
    logits, boxes = masked(torch, detr)(image, valid)  # in the order of the manifest's outputs
    assert boxes[:, 0].tolist() == [24, 10]
    mean, std = (np.array(values) for values in MEAN_STD)
    pixels = (image.numpy() / 255 - mean) / std
    for index, (rows, columns) in enumerate(valid.tolist()):
        wanted = pixels[index, :rows, :columns].sum(axis=(0, 1))
        np.testing.assert_allclose(logits[index], wanted, rtol=1e-4, atol=1e-4)


def test_a_network_of_ultralytics_takes_planes_of_0_to_1(
    torch: Any, tiny_artifact: Artifact
) -> None:
    module = image_module(torch.nn.Identity(), tiny_artifact.manifest, scale=255.0, mean_std=None)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    (found,) = module(image)
    np.testing.assert_allclose(found[0, 1], image[0, :, :, 1] / 255)
    # In evaluation the network gives a pair: the answer, and the parts of the loss.
    pair = torch.nn.Module()
    pair.forward = lambda pixels: (pixels, "loss")
    (found,) = image_module(pair, tiny_artifact.manifest, scale=255.0, mean_std=None)(image)
    assert found.shape == (1, 3, 64, 64)
    assert not module.training


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_trace_has_the_names_and_the_batch_size_of_the_manifest(
    torch: Any, detr: Manifest, dynamic: bool
) -> None:
    graph = to_onnx(masked(torch, detr), detr, dynamic_batch=dynamic).graph
    batch: Any = "batch" if dynamic else 1

    def sizes(values: Any) -> dict[str, list[Any]]:
        return {
            value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
            for value in values
        }

    assert sizes(graph.input) == {"image": [batch, 4, 6, 3], "valid_hw": [batch, 2]}
    assert sizes(graph.output) == {"logits": [batch, 3], "boxes": [batch, 1]}


def test_a_module_that_cannot_be_traced_is_named(torch: Any, tiny_artifact: Artifact) -> None:
    class Broken(torch.nn.Module):  # type: ignore[misc]
        def forward(self, pixels: Any) -> Any:
            raise ValueError("no way")

    manifest = msgspec.structs.replace(tiny_artifact.manifest, family="detr")
    broken = image_module(Broken(), manifest, scale=255.0, mean_std=None)
    with pytest.raises(InvalidArtifact, match="tiny cannot be traced: "):
        to_onnx(broken, manifest, dynamic_batch=False)


def test_examples_are_one_grey_image_that_fills_the_canvas(detr: Manifest) -> None:
    inputs = (msgspec.structs.replace(spec, shape=(-1, *spec.shape[1:])) for spec in detr.inputs)
    open_batch = msgspec.structs.replace(detr, inputs=tuple(inputs))
    for manifest in (detr, open_batch):
        found = examples(manifest)
        assert (found["image"].shape, found["image"].dtype) == ((1, 4, 6, 3), np.uint8)
        assert {*found["image"].ravel().tolist()} == {114}
        assert found["valid_hw"].tolist() == [[4, 6]]


@pytest.mark.parametrize(
    ("formats", "weights"),
    [
        ({"onnx": "model.onnx"}, False),
        ({"transformers": "model.safetensors"}, True),
        ({"ultralytics": "model.pt"}, True),
        ({"torch": "model.pt2"}, False),
    ],
)
def test_a_checkpoint_has_weights_and_no_graph(
    tiny_artifact: Artifact, formats: dict[str, str], weights: bool
) -> None:
    manifest = msgspec.structs.replace(tiny_artifact.manifest, formats=formats)
    assert is_checkpoint(Artifact(tiny_artifact.path, manifest, "")) is weights


@pytest.mark.parametrize("bars", [True, False])
def test_a_library_is_quiet_for_a_while_and_then_as_before(bars: bool) -> None:
    state = {"level": 30, "bars": bars}
    logging = SimpleNamespace(
        get_verbosity=lambda: state["level"],
        set_verbosity=lambda level: state.update(level=level),
        set_verbosity_error=lambda: state.update(level=40),
        is_progress_bar_enabled=lambda: state["bars"],
        disable_progress_bar=lambda: state.update(bars=False),
        enable_progress_bar=lambda: state.update(bars=True),
    )
    library = SimpleNamespace(utils=SimpleNamespace(logging=logging))
    with pytest.raises(KeyError), quiet(library):
        assert state == {"level": 40, "bars": False}
        raise KeyError
    assert state == {"level": 30, "bars": bars}
