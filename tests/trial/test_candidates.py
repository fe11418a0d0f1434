"""The candidates: what is possible on a machine, no more, and each by a key of its own."""

from __future__ import annotations

import msgspec
import pytest

from seatrial.deployment import CoreLayout, Deployment
from seatrial.trial.candidates import (
    Machine,
    TriedModel,
    arrangements,
    default_arrangement,
    dynamic,
    refinements,
    sizes,
)
from simulated_trial import MACHINE, NANO

GRAPH = TriedModel("graph", "g" * 64, (480, 640), ("onnx",), takes_batches=True)
PLAIN = Machine(2, {"openvino": ("f32",)})


def test_a_checkpoint_has_smaller_canvases_that_are_multiples_of_its_stride() -> None:
    assert sizes(NANO) == [(320, 320), (416, 416), (480, 480), (640, 640)]
    wide = msgspec.structs.replace(NANO, size_px=(480, 640))
    assert sizes(wide)[0] == (256, 320)  # 240 is no multiple of 32


def test_a_graph_is_taken_as_it_is() -> None:
    assert sizes(GRAPH) == [(480, 640)]
    (one,) = arrangements([GRAPH], PLAIN)
    assert (one.variant.format, one.variant.int8, one.variant.dynamic_batch) == ("", False, True)


def test_all_that_the_machine_can_is_tried_and_nothing_else() -> None:
    found = arrangements([NANO], MACHINE)
    assert {(one.engine, one.precision) for one in found} == {
        ("openvino", "f32"), ("openvino", "bf16"), ("onnxruntime", "f32"),
    }  # fmt: skip
    assert {one.engine for one in found if one.variant.int8} == {"openvino"}
    # Four canvases: f32 and bf16, float and INT8, in OpenVINO; f32 in ONNX Runtime.
    assert len(found) == 4 * (2 * 2 + 1)
    assert {one.precision for one in arrangements([NANO], PLAIN)} == {"f32"}


def test_an_int8_model_is_not_quantised_again() -> None:
    done = msgspec.structs.replace(NANO, precision="int8")
    assert not any(one.variant.int8 for one in arrangements([done], MACHINE))


def test_siblings_are_candidates_and_the_cheap_come_first() -> None:
    small = msgspec.structs.replace(NANO, name="small", digest="s" * 64)
    found = arrangements([NANO, small], MACHINE)
    assert {one.variant.model for one in found} == {"nano", "small"}
    assert [one.cost for one in found] == sorted(one.cost for one in found)
    assert len({one.key for one in found}) == len(found)


def test_the_default_is_the_deployment_that_names_only_its_model() -> None:
    one = default_arrangement(NANO, MACHINE)
    assert one.deployment("any") == Deployment("any")
    assert one.variant.size_px == NANO.size_px
    assert one in arrangements([NANO], MACHINE)
    assert default_arrangement(NANO, Machine(2, {"onnxruntime": ("f32",)})).engine == "onnxruntime"


@pytest.mark.parametrize(
    ("cores", "layouts"),
    [(1, [(1, 1)]), (2, [(1, 2), (2, 1)]), (8, [(1, 8), (8, 1), (4, 2)])],
)
def test_the_cores_are_divided_in_other_ways(cores: int, layouts: list[tuple[int, int]]) -> None:
    one = default_arrangement(NANO, MACHINE)
    found = refinements(one, msgspec.structs.replace(MACHINE, cores=cores))
    assert [(other.layout.instances, other.layout.threads) for other in found] == layouts
    assert all(not other.layout.wide for other in found)
    assert {other.numerics for other in found} == {one.numerics}


def test_batches_are_tried_where_the_graph_takes_them() -> None:
    (plain,) = arrangements([GRAPH], PLAIN)
    assert [one.batching.max_batch for one in refinements(plain, PLAIN)] == [1, 1, 4]
    one = dynamic(default_arrangement(NANO, MACHINE))
    assert one.variant.dynamic_batch
    assert one.words == "nano 640 px any batch, openvino f32, default layout, batches of up to 4"


def test_an_arrangement_in_words() -> None:
    one = default_arrangement(NANO, MACHINE)
    other = msgspec.structs.replace(one, layout=CoreLayout(instances=1, threads=2, wide=False))
    assert one.words == "nano 640 px, openvino f32, default layout"
    assert other.words == "nano 640 px, openvino f32, 1 x 2 threads"
