from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from seatrial.config import decode_json, decode_toml, flag, from_options, read_toml
from seatrial.contract import Contract
from seatrial.deployment import Deployment
from seatrial.errors import InvalidConfig


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    threads: int = 1
    instances: int = 1


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: str
    layout: Inner = Inner()
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()


def refusal(text: str) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        decode_toml(text.encode(), Outer, origin="d.toml")
    assert caught.value.message.startswith("d.toml: ")
    return caught.value


def test_toml_and_json_give_the_same_struct() -> None:
    wanted = Outer("null", Inner(threads=3))
    assert decode_toml(b'engine = "null"\n[layout]\nthreads = 3', Outer, origin="") == wanted
    json = b'{"engine": "null", "layout": {"threads": 3}}'
    assert decode_json(json, Outer, origin="") == wanted


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ('engine = "x"\nenigne = "y"', "enigne", "engine"),
        ('engine = "x"\nlay_out = 1', "lay_out", "layout"),
        ('engine = "x"\n[layout]\nthread = 1', "layout.thread", "threads"),
        ('engine = "x"\n[layout]\ninstance = 1', "layout.instance", "instances"),
        ('engine = "x"\n[maybe]\ntreads = 1', "maybe.treads", "threads"),
    ],
)
def test_an_unknown_key_names_the_nearest(text: str, key: str, nearest: str) -> None:
    error = refusal(text)
    assert error.message == f"d.toml: unknown key {key!r}"
    assert error.hint == f"did you mean {nearest!r}?"


def test_a_key_like_no_other_names_all() -> None:
    assert refusal('engine = "x"\nzzz = 1').hint == "known keys: engine, layout, maybe, many"
    assert refusal('engine = "x"\n[layout]\nzzz = 1').hint == "known keys: threads, instances"


def test_an_unknown_key_of_an_item_of_a_list() -> None:
    error = refusal('engine = "x"\n[[many]]\nthreds = 1')
    assert error.message == "d.toml: unknown key 'many[0].threds'"
    assert error.hint == "did you mean 'threads'?"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine = 1", "d.toml: engine must be text, not a whole number"),
        (
            'engine = "x"\n[layout]\nthreads = "two"',
            "layout.threads must be a whole",
        ),
        ("", "engine is missing"),
        ("engine = ", "Invalid value"),
        ("engine = 'x'\nengine = 'y'", "overwrite"),
    ],
)
def test_wrong_values_say_where(text: str, said: str) -> None:
    assert said in refusal(text).message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("engine = 'x'\nengine = 'y'", "engine is there in line 1 and again in line 2: keep one"),
        (
            "engine = 'x'\n[layout]\nthreads = 1\n# engine\nthreads = 2\n[[many]]\nthreads = 1\n",
            "layout.threads is there in line 3 and again in line 5: keep one",
        ),
        (
            "engine = 'x'\n[[many]]\nthreads = 1\n[[many]]\nthreads = 1\n"
            "[layout]\nthreads = 1\n[layout]  # again\nthreads = 2",
            "[layout] is there in line 6 and again in line 8: keep one",
        ),
        (
            "layout.threads = 1\n[layout]\nthreads = 2",
            "layout.threads is there in line 1 and again in line 3: keep one",
        ),
        ("layout = {threads = 1, threads = 2}", "a key or a table is there twice: keep one"),
    ],
)
def test_what_is_there_twice_is_shown(text: str, hint: str) -> None:
    assert refusal(text).hint == hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[layout]\nthreads = 2.0", "layout.threads must be a whole number, not 2.0"),
        ("[layout]\nthreads = inf", "layout.threads must be a whole number, not inf"),
        (
            "[[many]]\nthreads = 2.5",
            "many[0].threads must be a whole number, not one with a decimal point",
        ),
    ],
)
def test_a_number_with_a_point_is_shown(text: str, said: str) -> None:
    assert refusal(f'engine = "x"\n{text}').message == f"d.toml: {said}"
    with pytest.raises(InvalidConfig, match=r"^threads must be a whole number, not 2\.5$"):
        from_options({"engine": "x", "layout": {"threads": 2.5}}, Outer)


def test_bytes_that_are_no_text() -> None:
    for decode in (decode_toml, decode_json):
        with pytest.raises(InvalidConfig):
            decode(b"\xff\xfe\x00", Outer, origin="d")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"gone\.toml cannot be read: No such file"):
        read_toml(tmp_path / "gone.toml", Outer)
    with pytest.raises(InvalidConfig, match="cannot be read: Is a directory"):
        read_toml(tmp_path, Outer)


class Choices(msgspec.Struct, frozen=True):
    """Values out of a few: alone, or none, and in a list."""

    precision: Literal["f32", "bf16", "f16"] = "f32"
    device: Literal["cpu", "cuda"] | None = None
    formats: tuple[Literal["onnx"], ...] = ()
    layout: Inner = Inner()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"precision": "fp16"}, "precision must be f32, bf16 or f16, not 'fp16'"),
        ({"device": "gpu"}, "device must be cpu or cuda, not 'gpu'"),
        ({"formats": ["onnx", "pt"]}, "formats[1] must be onnx, not 'pt'"),
        ({"layout": {"threads": "two"}}, "threads must be a whole number, not text"),
    ],
)
def test_an_option_that_is_wrong_has_its_values_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        from_options(given, Choices)
    assert refusal.value.message == said
    with pytest.raises(InvalidConfig) as refusal:
        from_options(given, Choices, flag)
    assert refusal.value.message == f"--{said}"


@pytest.mark.parametrize(
    ("document", "key"),
    [
        (b'{"a": 1e400}', "a"),
        (b'{"a": -1e400}', "a"),
        (b'{"layout": {"threads": 1e400}}', "layout.threads"),
        (b'{"layout": {"threads": %s}}' % (b"9" * 5000), "layout.threads"),
    ],
)
def test_a_number_that_no_number_type_holds_is_named(document: bytes, key: str) -> None:
    class Numbers(msgspec.Struct):
        a: float = 0.0
        layout: Inner = Inner()

    with pytest.raises(InvalidConfig) as refusal:
        decode_json(document, Numbers, origin="file.json")
    assert refusal.value.message == f"file.json: {key} is out of the range of numbers"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('model = "m"\n[server]\nhost = ""', "server.host is empty"),
        ("", "model is missing"),
        (f"port = {'9' * 5000}", "a number has too many digits"),
        (f"port = {'[' * 5000}", "tables or lists are nested too deep"),
    ],
)
def test_what_msgspec_says_is_said_by_key(document: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as refusal:
        decode_toml(document.encode(), Deployment, origin="d.toml")
    assert refusal.value.message == f"d.toml: {said}"


def test_a_key_that_is_missing_in_a_table_is_named_with_it() -> None:
    with pytest.raises(InvalidConfig) as refusal:
        decode_toml(b"[latency]", Contract, origin="c.toml")
    assert refusal.value.message == "c.toml: latency.at_most_ms is missing"


def test_an_option_that_is_unknown() -> None:
    with pytest.raises(InvalidConfig, match="options: unknown key 'presicion'") as refusal:
        from_options({"presicion": "f32"}, Outer)
    assert refusal.value.hint == "known keys: engine, layout, maybe, many"


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 5000, 'a = "\xff"'])
def test_what_no_decoder_takes_is_an_error_of_the_document(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^file\.toml[:,] "):
        decode_toml(text.encode("latin-1"), Deployment, origin="file.toml")
    with pytest.raises(InvalidConfig, match=r"^file\.json[:,] "):
        decode_json(text[4:].encode("latin-1"), Deployment, origin="file.json")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_configuration_in_the_encodings_of_windows_is_read(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "deployment.toml"
    file.write_bytes('model = "yolo11n"\n'.encode(encoding))
    assert read_toml(file, Deployment).model == "yolo11n"


def test_configuration_in_a_legacy_code_page_is_refused_with_the_encoding(tmp_path: Path) -> None:
    file = tmp_path / "deployment.toml"
    file.write_bytes('model = "caf\N{LATIN SMALL LETTER E WITH ACUTE}"\n'.encode("cp1252"))
    with pytest.raises(InvalidConfig, match=r"deployment\.toml, line 1: byte 0xe9 is not UTF-8"):
        read_toml(file, Deployment)


def test_what_a_table_as_a_whole_lacks_is_said_by_its_name() -> None:
    with pytest.raises(InvalidConfig) as caught:
        decode_toml(b'model = "m"\n[reload]\ncontract = "c.toml"', Deployment, origin="d.toml")
    assert caught.value.message == (
        "d.toml: reload: dataset and contract belong together: name both, or none"
    )


@pytest.mark.parametrize("value", ["plates-1", "yolo11n", "./plates"])
def test_text_without_quotes_says_that_it_needs_them(value: str) -> None:
    with pytest.raises(InvalidConfig, match="at line 1") as caught:
        decode_toml(f"model = {value}\n".encode(), Deployment, origin="d.toml")
    assert caught.value.hint == 'text needs quotes: key = "value"'
