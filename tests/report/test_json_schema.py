from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench_reports import build_open_point
from json_schemas import REFERENCE, against_schema
from script_modules import load_script
from seatrial.bench.report import to_json
from seatrial.report.json_schema import attribute_words

ROOT = Path(__file__).parents[2]
SCHEMAS = load_script(ROOT / "scripts" / "reference").schemas()
OLD = ROOT / "tests" / "support" / "bench_report_1.json"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_published_schema_is_that_of_the_code(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == SCHEMAS[name], (
        "python scripts/reference"
    )


def test_reports_of_both_loops_follow_the_schema(full_report, make_report):
    assert against_schema("report", json.loads(to_json(full_report))) == []
    points = [
        build_open_point(10.0),
        build_open_point(20.0, late_ms=40.0),
        build_open_point(30.0, failed=30, grows_ms=5000.0, limit_ms=80.0),
    ]
    assert (
        against_schema("report", json.loads(to_json(make_report(server=points, soak=points[:1]))))
        == []
    )


def test_a_report_of_an_earlier_release_follows_the_schema():
    assert against_schema("report", json.loads(OLD.read_bytes())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "seatrial.bench/2"),
        (("runs", 0, "loop"), "half-open"),
        (("runs", 0, "points", 0, "good"), "many"),
        (("findings", 0, "severity"), "awful"),
    ],
    ids=lambda one: ".".join(map(str, one)) if isinstance(one, tuple) else "",
)
def test_a_wrong_value_does_not_follow_it(full_report, path, value):
    document = json.loads(to_json(full_report))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert any(path[-1] in line for line in against_schema("report", document))


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_struct_and_every_attribute_has_its_words(name: str) -> None:
    schema = json.loads(SCHEMAS[name])
    document = name.removesuffix(".schema.json").replace("report", "bench")
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:seatrial:{document}:1"
    assert f"seatrial.{document}/1" in schema["title"]
    bare = [
        f"{kind}.{key}"
        for kind, definition in schema["$defs"].items()
        for key, value in {"": definition, **definition.get("properties", {})}.items()
        if not value.get("description")
    ]
    assert bare == []


def test_words_of_an_attribute_go_on_over_lines_and_come_from_what_is_extended():
    class First:
        """A thing.

        Attributes:
            one: Begin
                and end: of ``it``.
            two: Short.

        Later words: none.
        """

    class Second(First):
        """Another.

        Attributes:
            two: Longer.
        """

    assert attribute_words(Second) == {"one": "Begin and end: of `it`.", "two": "Longer."}
