"""Names of other tools, and what they are called here.

The names are those of Ultralytics' command line (https://docs.ultralytics.com/usage/cfg), of
YOLOv5's and YOLOv7's scripts, for `serve` those of BentoML, uvicorn, LitServe, TorchServe and
Triton, and for `bench` those of perf_analyzer, wrk, locust and k6.
"""

from __future__ import annotations

from collections.abc import Sequence

# Command -> option without dashes -> hint. "" holds for every command that has no own row.
OPTIONS: dict[str, dict[str, str]] = {
    "": {
        "weights": "the model is named with --model",
        "half": "half precision: --precision f16",
        "int8": "make an INT8 model first: seatrial compress int8",
        "quantize": "make an INT8 model first: seatrial compress int8",
        "imgsz": "a model keeps the size that it was exported with: seatrial export MODEL --to "
        "onnx --imgsz SIZE --images FOLDER makes one of another size",
        "batch": "requests are inferred side by side: --instances",
        "conf": "thresholds of a service stand in the deployment file: [detection]",
        "verbose": "leave it out: progress goes to standard error",
        "project": "name the place of the result with --output, where there is one",
        "exist-ok": "leave it out",
        "cfg": "--deployment FILE",
    },
    "detect": {
        "conf": "--confidence",
        "max-det": "--max-detections",
        "save-txt": "--json prints the boxes; seatrial data label writes labels of a folder",
        "save-json": "--json prints the boxes",
        "save-conf": "--json prints the boxes with their confidence",
        "save-crop": "--json prints the boxes; crop by them",
        "save-frames": "--output VIDEO.mp4 writes the annotated video",
        "save": "--output PLACE writes the boxes drawn",
        "show": "seatrial demo gradio shows the boxes in a web page; --output writes them drawn",
        "view-img": "seatrial demo gradio shows the boxes in a web page; --output writes them",
        "nosave": "leave it out: nothing is written without --output",
        "name": "name the place with --output",
        "stream": "leave it out: frames are read one by one",
        "stream-buffer": "leave it out: frames are read one by one",
        "agnostic-nms": "leave it out: boxes of one class alone suppress each other",
        "augment": "leave it out: there is no test-time augmentation",
        "line-width": "leave it out: strokes scale with the image",
        "line-thickness": "leave it out: strokes scale with the image",
        "hide-labels": "leave it out: labels are always drawn",
        "hide-conf": "leave it out: confidences are always drawn",
        "tracker": "leave it out: --track follows objects with ByteTrack",
        "persist": "leave it out: --track follows objects from frame to frame",
        "source": "give files and folders without an option",
        "url": "leave it out: seatrial.Client asks a running service",
    },
    "finetune": {
        "model": "the model to start from is named with --from",
        "weights": "the model to start from is named with --from",
        "cfg": "settings stand in a recipe: --recipe FILE",
        "hyp": "settings stand in a recipe: --recipe FILE",
        "resume": "leave it out: the same command, started again, continues",
        "pretrained": "leave it out: --from scratch:... takes random weights",
        "project": "name the result with --name; $SEATRIAL_HOME/runs holds the runs",
        "exist-ok": "--restart begins anew; --replace replaces artifacts of that name",
        "workers": "in the recipe: [compute] workers = NUMBER",
        "amp": 'in the recipe: precision = "bf16"',
        "save-period": "leave it out: every epoch is saved",
        "single-cls": "merge the classes in the labels",
        "imgsz": "in the recipe: image_size = SIZE",
        **dict.fromkeys(
            ("lr0", "lrf", "momentum", "weight-decay", "optimizer", "warmup-epochs", "cos-lr"),
            "in the recipe: see [optimiser] and [schedule] in --show-recipe",
        ),
        **dict.fromkeys(("patience", "seed", "freeze"), "in the recipe: see --show-recipe"),
        **dict.fromkeys(
            (
                "mosaic",
                "mixup",
                "hsv-h",
                "hsv-s",
                "hsv-v",
                "degrees",
                "translate",
                "scale",
                "shear",
                "flipud",
                "fliplr",
                "close-mosaic",
            ),
            "in the recipe: see [augmentation] in --show-recipe",
        ),
    },
    "export": {
        "format": "--to",
        "model": "the model comes first: seatrial export MODEL",
        "weights": "the model comes first: seatrial export MODEL",
        "include": "--to",
        "data": "labels to compare on: --images FOLDER --annotations FILE",
        "nms": "leave it out: suppression runs after the graph",
        "dynamic": "--dynamic-batch",
        "simplify": "leave it out: the graph is simplified where an engine needs it",
        "opset": "leave it out: the graph gets the opset that its engine reads",
        "workspace": "leave it out: TensorRT takes what it needs",
    },
    "evaluate": {
        "data": "--dataset yolo:FOLDER",
        "weights": "the model comes first: seatrial evaluate MODEL",
        "conf": "--threshold; AP is measured down to 0.001, as published figures are",
        "save-json": "--save-detections FILE",
        "task": "--split",
        "plots": "--report FILE.html draws them",
        "confidence": "--threshold; AP is measured down to 0.001, as published figures are",
        **dict.fromkeys(
            ("output", "o"),
            "--report FILE.html writes a page, --save-detections FILE the boxes",
        ),
        "iou": "leave it out: AP is measured with IoU 0.7, as published figures are",
    },
    "serve": {
        **dict.fromkeys(
            ("api-workers", "num-workers", "workers-per-device"), "server processes: --workers"
        ),
        **dict.fromkeys(("accelerator", "devices"), "--device"),
        **dict.fromkeys(
            ("reload", "development", "production"),
            "leave it out: seatrial reload has a running service serve another model",
        ),
        **dict.fromkeys(("http-port", "http-address"), "--host and --port"),
        **dict.fromkeys(("enable-grpc", "grpc", "grpc-host"), "--grpc-port"),
        **dict.fromkeys(
            ("model-repository", "model-store", "models", "model-name"),
            "one model is served: --model NAME; seatrial package triton writes a model repository",
        ),
        **dict.fromkeys(
            ("batch", "batch-size", "max-batch", "max-batch-size", "batch-timeout"),
            "in the deployment file: max_batch and max_delay_ms in [batching]",
        ),
        **dict.fromkeys(
            ("timeout", "timeout-graceful-shutdown", "timeout-keep-alive"),
            "in the deployment file: deadline_s, drain_s and idle_s in [limits]",
        ),
        **dict.fromkeys(
            ("max-concurrency", "limit-concurrency", "max-queue-size"),
            "in the deployment file: queue in [limits]",
        ),
        **dict.fromkeys(("ssl-certfile", "ssl-cert"), "--tls-certificate"),
        **dict.fromkeys(("ssl-keyfile", "ssl-key"), "--tls-key"),
        **dict.fromkeys(
            ("token", "api-key"), "--token-file: others on the machine can read options"
        ),
        **dict.fromkeys(
            ("log-level", "debug", "quiet", "access-log"),
            "--log requests writes a line for each request; left out, failures alone are lines",
        ),
        "runtime": "--on",
        "daemon": "leave it out: systemd or a container keeps it running (guides/run-a-service)",
        "confidence": "thresholds of a service stand in the deployment file: [detection]",
        "iou": "thresholds of a service stand in the deployment file: [detection]",
        "config": "--deployment FILE",
    },
    "canary": dict.fromkeys(("percent", "weight", "traffic"), "--share 5%"),
    "judge": {"report": "--output FOLDER: the reports in it have their own names"},
    "bench": {
        **dict.fromkeys(
            ("concurrency", "concurrency-range", "connections", "users", "vus"),
            "concurrent sessions: --sessions",
        ),
        **dict.fromkeys(
            ("request-rate", "request-rate-range", "rate", "rps", "qps"),
            "leave it out: each session sends when it has its answer (--sessions)",
        ),
        **dict.fromkeys(
            ("duration", "run-time", "measurement-interval"), "seconds for each point: --point-s"
        ),
        "host": "--url",
        "model-name": "--path NAME",
        "report": "--output FOLDER: the reports in it have their own names",
        "source": "--images FOLDER",
        "data": "--images FOLDER",
    },
}
# YOLOv5 and YOLOv7 spell some names another way.
SPELLINGS = {
    "conf-thres": "conf", "iou-thres": "iou", "img": "imgsz", "img-size": "imgsz",
    "score-thr": "conf", "optimiser": "optimizer",
}  # fmt: skip
COMMANDS = {
    "predict": "seatrial detect finds objects",
    "track": "seatrial detect --track follows the objects of a video",
    "train": "seatrial finetune trains",
    "fit": "seatrial finetune trains",
    "val": "seatrial evaluate measures accuracy",
    "test": "seatrial evaluate measures accuracy",
    "eval": "seatrial evaluate measures accuracy",
    "benchmark": "seatrial bench measures a service",
    "quantize": "seatrial compress int8 quantises",
    "quantise": "seatrial compress int8 quantises",
    "convert": "seatrial data convert converts labels, seatrial export models",
    "download": "seatrial models pull fetches models",
    "pull": "seatrial models pull fetches models",
    "list": "seatrial models list lists models",
    "ls": "seatrial models list lists models",
    "import": "seatrial models import imports a model",
    "run": "seatrial detect finds objects, seatrial serve starts a service",
    "info": "seatrial doctor shows what works here",
    "checks": "seatrial doctor shows what works here",
    "version": "seatrial --version",
    "help": "seatrial --help",
    "settings": "SEATRIAL_HOME names the folder of models and services",
    "deploy": "seatrial serve starts a service",
    "start": "seatrial serve starts a service",
    "stop": "Ctrl-C or SIGTERM ends a service that seatrial serve started",
    "build": "seatrial serve --write FOLDER writes a folder that stands alone",
    "containerize": "seatrial serve --write FOLDER writes a folder that stands alone",
    "swap": "seatrial reload has a running service serve another model",
    "rollback": "seatrial reload --model NAME has a running service serve the former model",
    "status": "seatrial canary status shows what a running service serves",
    "shadow": "seatrial canary start MODEL --shadow 5%",
    "remove": "seatrial models rm removes a model",
    "delete": "seatrial models rm removes a model",
    "rm": "seatrial models rm removes a model",
}


def hint_for_option(command: tuple[str, ...], text: str) -> str:
    """The hint for an option of another tool; empty where it is not known.

    Args:
        command: Words of the command.
        text: The option as it was typed: ``--conf-thres``, or ``conf=0.3`` in Ultralytics' form.
    """
    name, equals, _ = text.partition("=")
    if not text.startswith("-") and not equals:
        return ""
    plain = plain_option(name)
    known = OPTIONS[""] | OPTIONS.get(command[0] if command else "", {})
    return known.get(plain, "")


def plain_option(name: str) -> str:
    """An option's name without dashes, in the spelling that the tables have."""
    plain = name.lstrip("-").replace("_", "-").lower()
    return SPELLINGS.get(plain, plain)


def hint_for_command(words: Sequence[str]) -> str:
    """The command that does what another tool's does; empty where it is not known.

    Args:
        words: What was typed, from the unknown command on: ``predict``, or ``yolo detect predict``.
    """
    tried = words[:3] if words and words[0].lower() == "yolo" else words[:1]
    return next((COMMANDS[word.lower()] for word in tried if word.lower() in COMMANDS), "")
