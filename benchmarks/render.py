"""RESULTS.md from results/*.json: every figure with the command that gives it.

python benchmarks/render.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CAVEATS = """# Results

Made by `python benchmarks/render.py` from `results/*.json`; each section names the command that
measured it.

**Read first.** One small virtual machine with two cores and noisy neighbours; the client runs on
the same two cores as the service. Absolute figures move from machine to machine and from hour to
hour: what counts are ratios. What is compared is measured one after the other within each round;
ratios and differences are taken within the round, and what is printed is the median of the rounds,
with their quartiles in brackets where there are rounds. Where a difference is positive in some
rounds and negative in others, or a ratio above and below 1, their lowest and highest stand there
too: it is not resolved. No round is left out. Load
is closed-loop where nothing else is said: it says how a service scales and is never an SLO result.
Pictures are COCO's as they come; nothing is cached between requests. The weights are YOLO11n's
(640x640), rounded to 8 bits once.
"""


def main() -> None:
    """Write the page."""
    results = {p.stem: json.loads(p.read_text()) for p in sorted((HERE / "results").glob("*.json"))}
    parts = [CAVEATS, *(section(name, results[name]) for name in TITLES if name in results)]
    parts += [section(name, result) for name, result in results.items() if name not in TITLES]
    (HERE / "RESULTS.md").write_text("\n".join(parts))


TITLES = {
    "served_vs_raw_f32": "Served against the raw engine, float32",
    "served_vs_raw_bf16": "Served against the raw engine, bfloat16",
    "single_stream_openvino_f32": "One request at a time, OpenVINO, float32",
    "single_stream_openvino_bf16": "One request at a time, OpenVINO, bfloat16",
    "single_stream_onnxruntime_f32": "One request at a time, ONNX Runtime, float32",
    "vs_reference": "Against a plain service",
    "overload": "Under overload, open loop, Poisson",
    "overload-2-workers": "Under overload, two processes",
    "load_client": "The client of loads",
    "percentile_truth_mm1": "Reported percentiles against theory, exponential service times",
    "percentile_truth_md1": "Reported percentiles against theory, constant service times",
    "percentile_truth_knee": "Reported percentiles of a lane with a hidden knee",
    "percentile_truth_real": "Reported percentiles of a real lane, and a stall",
    "rate_search_fast": "The highest rate that holds, a service of 1 ms, simulated",
    "rate_search_slow": "The highest rate that holds, a service of 20 ms, simulated",
    "rate_search_budgets": "The highest rate that holds, in more time and in less, simulated",
    "trial_vs_sweep": "The choice of a trial against an exhaustive sweep",
    "cross_check_closed": "Closed loops of several tools on the same server",
    "cross_check_open": "Open loops of two tools on the same server",
    "cross_check_v2": "Closed loops in the Open Inference Protocol",
    "cross_check_stall": "A stall of a second, by several tools",
    "refusals": "Refusals beside servers that do nothing else",
    "peers-onnxruntime": "Beside other servers, ONNX Runtime",
    "peers-null": "Beside other servers, null engine",
    "swap_openvino": "Another model under load, OpenVINO",
    "swap_null": "Another model under load, null engine",
    "soak_openvino": "A long run",
    "batching": "Images in one run",
    "null_engine": "Everything but the model",
    "against_commit-null-f32": "Against commit 47c2a9d, null engine",
    "against_commit-openvino-f32": "Against commit 47c2a9d, OpenVINO",
    "accuracy_openvino_f32": "Accuracy as served, float32",
    "accuracy_openvino_bf16": "Accuracy as served, bfloat16",
    "export": "What an export costs in accuracy",
    "demo": "Pages of the demonstration",
    "finetune": "Finetuning YOLO11n on digits, two cores",
    "ultralytics_val": "The mAP that Ultralytics' val prints, explained",
    "suppression": "Thresholds and NMS against plain NMS",
    "evaluation_speed": "Scoring the detections of 5,000 pictures",
    "memory_null": "Memory over many requests, null engine",
    "memory_openvino": "Memory over many requests, OpenVINO",
    "int8_yolo11n_openvino": "INT8, YOLO11n, OpenVINO",
    "int8_yolo11n_onnxruntime": "INT8, YOLO11n, ONNX Runtime",
    "int8_ssd-mobilenet-v2_openvino": "INT8, SSD MobileNet V2, OpenVINO",
    "int8_ssd-mobilenet-v2_onnxruntime": "INT8, SSD MobileNet V2, ONNX Runtime",
}
UNPRINTED = ("rounds", "samples_mb", "report", "each", "samples")
ROUNDS = "_rounds"  # behind the name of a figure


def section(name: str, result: dict[str, Any]) -> str:
    """One benchmark."""
    machine, versions = result["machine"], result["versions"]
    lines = [f"## {TITLES.get(name, name.replace('_', ' '))}", "", f"`{result['command']}`", ""]
    lines += [
        f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['features'])}), "
        f"{result['created_at'][:10]}; "
        + ", ".join(f"{key} {value}" for key, value in versions.items()),
        "",
    ]
    figures = {
        k: v for k, v in result["figures"].items() if k not in UNPRINTED and not k.endswith(ROUNDS)
    }
    nested = {k: v for k, v in figures.items() if isinstance(v, dict)}
    flat = {k: v for k, v in figures.items() if k not in nested}
    if flat:
        lines += ["| figure | value |", "|---|---|"]
        kept = result["figures"].get("rounds")  # or else their number
        rounds = dict(kept) if isinstance(kept, dict) else {}
        rounds |= {
            key.removesuffix(ROUNDS): values
            for key, values in result["figures"].items()
            if key.endswith(ROUNDS)
        }
        lines += [f"| {key} | {show(v)}{spread(key, rounds.get(key))} |" for key, v in flat.items()]
        lines += [""]
    for table in tables(nested):
        columns = list(dict.fromkeys(key for row in table.values() for key in row))
        lines += [f"| | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
        lines += [
            f"| {key} | {' | '.join(show(row.get(c, '')) for c in columns)} |"
            for key, row in table.items()
        ] + [""]
    return "\n".join(lines)


def tables(rows: dict[str, dict[str, Any]]) -> list[dict[str, dict[str, Any]]]:
    """Rows that belong into one table: each has a column in common with one before it."""
    found: list[dict[str, dict[str, Any]]] = []
    for name, row in rows.items():
        if not found or not any(row.keys() & other.keys() for other in found[-1].values()):
            found.append({})
        found[-1][name] = row
    return found


def spread(name: str, values: object) -> str:
    """Quartiles of the rounds behind a median; lowest and highest where they do not agree."""
    if not isinstance(values, list) or len(values) < 3:
        return ""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    quartiles = f"{show(low)} to {show(high)}"
    if min(values) < (1 if name.endswith("ratio") else 0) < max(values):
        return f" ({quartiles}; rounds {show(min(values))} to {show(max(values))}: not resolved)"
    return f" ({quartiles})"


def show(value: object) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
