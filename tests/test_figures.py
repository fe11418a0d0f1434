"""Figures in the documentation are those that ``benchmarks/results`` holds."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text())["figures"]
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json"))
}


def rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the tables below a heading, without the lines of dashes."""
    text = page.read_text()
    text = text[text.index(f"## {heading}\n") + 3 :]
    text = text[: text.find("\n## ")]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set("".join(row)) <= {"-", ":", " "}]


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def interval(result: dict[str, Any], difference: str) -> str:
    found = result[f"{difference}, ms"]
    return f"{found['median']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def in_the_readme() -> list[list[str]]:
    f32, bf16 = RESULTS["served_vs_raw_f32"], RESULTS["served_vs_raw_bf16"]
    alone = [RESULTS[f"single_stream_openvino_{precision}"] for precision in ("f32", "bf16")]
    ort, ov = (RESULTS["vs_reference"][name] for name in ("onnxruntime_f32", "openvino_bf16"))
    half = [
        RESULTS["export"][f"yolo11n.onnx: {name}"]["difference"]
        for name in ("onnx-f16", "openvino-f16")
    ]
    assert all("[-" in one and ", +" in one for one in half), "say so no longer: not resolved"
    int8 = [RESULTS[f"int8_yolo11n_{engine}"] for engine in ("openvino", "onnxruntime")]
    scratch, tuned = RESULTS["finetune"]["scratch"], RESULTS["finetune"]["pretrained"]
    speed, demo = RESULTS["evaluation_speed"], RESULTS["demo"]
    added = [f"{demo[page]['added by the page p50, ms']:.0f} ms" for page in demo]
    memory, null = RESULTS["memory_null"], RESULTS["null_engine"]
    storms, swap = RESULTS["overload"], RESULTS["swap_null"]
    return [
        ["what", "float32", "bfloat16"],
        ["served at 8 sessions, of the raw engine's best throughput",
         *(f"{one['throughput_ratio']:.2f}" for one in (f32, bf16))],
        ["the same, of the most that engine, decoding, pre- and postprocessing allow",
         *(f"{one['limit_ratio']:.2f}" for one in (f32, bf16))],
        ["one request at a time above the raw engine: median of paired differences with its 95 % "
         "interval, ms", *(interval(one, "service latency - raw infer") for one in alone)],
        ["the part of it that is not engine, decoding or postprocessing: median, ms",
         *(f"{one['service, ms']['overhead']:.1f}" for one in alone)],
        ["what", "value"],
        ["throughput at 8 sessions against a plain BentoML + PIL + ONNX Runtime service: "
         "ONNX Runtime f32, OpenVINO bf16",
         f"{ort['throughput_ratio']:.1f} x, {ov['throughput_ratio']:.1f} x"],
        ["single-stream p50 against the same",
         f"{ort['single_stream_ratio']:.2f}, {ov['single_stream_ratio']:.2f} of it"],
        [f"everything but the model (null engine, {null['picture_bytes'] // 1000} KB JPEG)",
         f"{null['served_per_s']:.0f} requests/s"],
        [f"COCO mAP through the served path, {RESULTS['accuracy_openvino_f32']['images']} pictures",
         f"{RESULTS['accuracy_openvino_f32']['ap']:.4f}"],
        ["answers within the deadline at 3 and at 10 times the capacity, of the peak, and of what "
         "the client leaves",
         ", ".join(f"{storm['goodput_of_peak']:.2f} and {storm['goodput_of_left']:.2f}"
                   for storm in (storms["at_3x"], storms["at_10x"]))],
        [f"late, failed or wrong in {swap['swaps']} swaps of the model under load, null engine",
         f"{swap['late'] + swap['failed'] + swap['wrong']} of {swap['requests']} requests"],
        [f"growth of resident memory over {memory['requests']} requests",
         f"{memory['growth']:.1%}".replace("%", " %")],
        ["the same network in half precision: difference of COCO mAP with its 95 % interval, "
         "ONNX, OpenVINO", f"{', '.join(half)} (not resolved)"],
        ["INT8: throughput against float32, OpenVINO, ONNX Runtime",
         ", ".join(f"{one['throughput_ratio_int8']:.1f} x" for one in int8)],
        ["handwritten digits at 320 px, trained from random weights: mAP50, after",
         f"{scratch['mAP50']:.3f}, {duration(scratch['seconds'])}"],
        ["the same from COCO's weights", f"{tuned['mAP50']:.3f}, {duration(tuned['seconds'])}"],
        [f"scoring {speed['images']} pictures with {speed['detections']} boxes by COCO's rules",
         f"{speed['seatrial']['median_s']:.1f} s"],
        ["added by the demonstration's page to the service's own time: Gradio, Streamlit",
         ", ".join(added)],
    ]  # fmt: skip


def test_the_figures_of_the_readme() -> None:
    assert rows(ROOT / "README.md", "Figures") == in_the_readme()


def test_the_figures_of_the_page_on_latency() -> None:
    both = [RESULTS[f"single_stream_openvino_{precision}"] for precision in ("f32", "bf16")]
    ways = {"raw": "raw", "raw, after a gap": "raw_after_gap", "least server": "plain",
            "service": "service", "client": "client"}  # fmt: skip
    stages = ("latency", "infer", "decode", "postprocess", "overhead")
    head = ["all", "engine", "decoding", "postprocessing", "overhead"]
    expected = []
    for kind, one in zip(("float32", "bfloat16"), both, strict=True):
        expected.append([kind, *head])
        for name, way in ways.items():
            times = one[f"{way}, ms"]
            shown = (f"{times[stage]:.2f}" if stage in times else "" for stage in stages)
            expected.append([name, *shown])
    differences = {
        "service, above the raw engine": "service latency - raw infer",
        "least server, above the raw engine": "plain latency - raw infer",
        "service, above raw": "service latency - raw latency",
        "raw after a gap, above raw": "raw_after_gap latency - raw latency",
        "service, above the least server": "service latency - plain latency",
        "client, above the service": "client latency - service latency",
        "engine in the service, above raw": "service infer - raw infer",
        "engine in the least server, above raw": "plain infer - raw infer",
        "decoding in the service, above raw": "service decode - raw decode",
        "postprocessing in the service, above raw": "service postprocess - raw postprocess",
    }
    expected += [["difference", "float32", "bfloat16"]]
    for name, key in differences.items():
        expected.append([name, *(interval(one, key) for one in both)])
    assert rows(ROOT / "docs" / "concepts" / "latency.md", "Figures") == expected


def under_load() -> dict[str, list[list[str]]]:
    """The tables of the page by the headings above them."""
    storms = [RESULTS["overload"][load] for load in ("at_3x", "at_10x")]
    swaps, soak = (
        [RESULTS[f"swap_{name}"] for name in ("null", "openvino")],
        RESULTS["soak_openvino"],
    )
    in_storm = {
        "answers within the deadline, of the peak": ("goodput_of_peak", "{:.3f}"),
        "the same, of what the client leaves": ("goodput_of_left", "{:.3f}"),
        "answers within the deadline a second": ("goodput_per_s", "{:.1f}"),
        "refusals a second": ("refused_per_s", "{:.0f}"),
        "time of an answer, p50, ms": ("accepted_p50_ms", "{:.0f}"),
        "time of an answer, p99, ms": ("accepted_p99_ms", "{:.0f}"),
        "time of a refusal, p50, ms": ("refused_p50_ms", "{:.1f}"),
        "let in, and late or failed": ("late_or_failed", "{}"),
        "until normal after the load, s": ("normal_after_s", "{:.1f}"),
    }
    in_swap = {
        "requests": ("requests", "{:,}"),
        "of them refused": ("refused", "{:,}"),
        "late": ("late", "{}"),
        "failed": ("failed", "{}"),
        "with boxes of another model": ("wrong", "{}"),
        "swaps": ("swaps", "{}"),
        "memory at rest before, MB": ("rss_at_rest_before_mb", "{:.0f}"),
        "memory at rest after, MB": ("rss_at_rest_after_mb", "{:.0f}"),
        "growth at rest": ("rss_growth_at_rest", "{:.1%}"),
    }

    peers = {
        name: one for name, one in RESULTS["peers-onnxruntime"].items() if isinstance(one, dict)
    }
    beside = {
        "answers a second": ("throughput_per_s", "{:.1f}"),
        "of this service": ("throughput_of_seatrial", "{:.2f}"),
        "CPU time for an answer, of this service": ("cpu_ms_of_seatrial", "{:.2f}"),
        "under overload: within the deadline a second": ("goodput_per_s", "{:.1f}"),
        "p99, ms": ("accepted_p99_ms", "{:.0f}"),
    }

    def table(head: list[str], cells: dict[str, tuple[str, str]], found: list[Any]) -> Any:
        return [head] + [
            [name, *(form.format(one[key]).replace("%", " %") for one in found)]
            for name, (key, form) in cells.items()
        ]

    least, most = zip(*soak["least_and_most"].values(), strict=True)
    missed = sum(soak[outcome] for outcome in ("refused", "late", "failed", "wrong"))
    return {
        "More than it can answer": table(
            ["load", "at three times the capacity", "at ten times"], in_storm, storms
        ),
        "Another model": table(["engine", "null", "OpenVINO"], in_swap, swaps),
        "Half an hour": [
            ["soak", "value"],
            ["minutes", f"{soak['minutes']:.0f}"],
            ["requests", f"{soak['requests']:,}"],
            ["of them refused, late, failed or wrong", f"{missed}"],
            ["memory, MB, lowest and highest", f"{least[0]}, {most[0]}"],
            ["descriptors, lowest and highest", f"{least[1]}, {most[1]}"],
            ["threads, lowest and highest", f"{least[2]}, {most[2]}"],
        ],
        "Beside other servers": [
            ["server", *beside],
            *(
                [name, *(form.format(one[key]) for key, form in beside.values())]
                for name, one in peers.items()
            ),
        ],
    }


@pytest.mark.parametrize(
    "heading", ["More than it can answer", "Another model", "Half an hour", "Beside other servers"]
)
def test_the_figures_of_the_page_on_load(heading: str) -> None:
    page = ROOT / "docs" / "concepts" / "under-load.md"
    assert rows(page, heading) == under_load()[heading]


def measuring() -> dict[str, list[list[str]]]:
    """The tables of the page by the headings above them."""

    def of_ours(one: dict[str, float], ratio: str) -> str:
        if ratio not in one:
            return ""
        low, high = one[f"{ratio}, lowest"], one[f"{ratio}, highest"]
        return f"{one[ratio]:.2f} ({low:.2f} to {high:.2f})"

    def shown(one: dict[str, float], key: str, form: str = "{:.1f}") -> str:
        return form.format(one[key]) if key in one else ""

    beside = [
        [
            name, shown(one, "per_s", "{:.0f}"), of_ours(one, "rate ratio"), shown(one, "p50_ms"),
            of_ours(one, "p50 ratio"), shown(one, "p99_ms"), shown(one, "client cores", "{:.2f}"),
        ]
        for what in ("closed", "open", "v2")
        for name, one in RESULTS[f"cross_check_{what}"].items()
        if name != "rounds"
    ]  # fmt: skip
    head = ["load: tool", "answers/s", "of ours", "p50, ms", "of ours", "p99, ms", "client cores"]
    stall = [
        [name, *(shown(one, key) for key in ("per_s", "p50_ms", "p99_ms"))]
        for name, one in RESULTS["cross_check_stall"].items()
    ]
    return {
        "On the same server": [head, *beside],
        "A stall, and what a closed loop leaves out": [
            ["load", "answers/s", "p50, ms", "p99, ms"], *stall,
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    "heading", ["On the same server", "A stall, and what a closed loop leaves out"]
)
def test_the_figures_of_the_page_on_measuring(heading: str) -> None:
    page = ROOT / "docs" / "concepts" / "measuring.md"
    assert rows(page, heading) == measuring()[heading]


def test_the_figures_of_the_page_on_accuracy() -> None:
    page = ROOT / "docs" / "guides" / "evaluate.md"
    speed = RESULTS["evaluation_speed"]
    ours, theirs = (speed[name]["median_cpu_s"] for name in ("seatrial", "faster_coco_eval"))
    text = " ".join(page.read_text().split())
    said = f"{ours:.1f} s of CPU time, against {theirs:.1f} s for faster-coco-eval"
    assert f"{speed['images']:,} pictures and {speed['detections']:,} boxes: {said}" in text
    explained = RESULTS["ultralytics_val"]
    table = rows(page, "Why another tool prints another figure")[1:]
    assert [row[1] for row in table] == [f"{one['ap']:.4f}" for one in explained.values()]
    differences = [f"{one['difference']:+.4f}" for one in explained.values()]
    assert [row[2] for row in table] == ["", *differences[1:]]


@pytest.mark.parametrize("model", ["yolo11n", "ssd-mobilenet-v2"])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_figures_of_the_page_on_int8(model: str, engine: str) -> None:
    names = {"yolo11n": "YOLO11n", "ssd-mobilenet-v2": "SSD MobileNet V2",
             "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}  # fmt: skip
    found = RESULTS[f"int8_{model}_{engine}"]
    assert [
        names[model], names[engine], found["recipe"],
        f"{found['ap_parent']:.4f} to {found['ap']:.4f}",
        f"{found['drop_low']:+.4f} to {found['drop_high']:+.4f}",
        f"{found['shift_mean']:+.3f}", f"{found['shift_size_mean']:.3f}",
        f"{found['throughput_ratio_int8']:.2f}x", f"{found['compress_s']:.0f} s",
    ] in rows(ROOT / "docs" / "guides" / "int8.md", "Figures")  # fmt: skip


def test_the_page_of_results_is_what_the_results_give(tmp_path: Path) -> None:
    source = ROOT / "benchmarks" / "render.py"
    spec = importlib.util.spec_from_file_location("render", source)
    assert spec is not None
    assert spec.loader is not None
    render = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(render)
    (tmp_path / "results").symlink_to(ROOT / "benchmarks" / "results")
    render.HERE = tmp_path
    render.main()
    written = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert (tmp_path / "RESULTS.md").read_text() == written, "python benchmarks/render.py"
