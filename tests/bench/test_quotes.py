from __future__ import annotations

import types
import typing

import msgspec
import pytest

from bench_fixtures import resolve
from seatrial.bench.findings import TABLE
from seatrial.bench.measurement import Measurement
from seatrial.bench.quotes import Quote, Rule, Scope, parse
from seatrial.bench.report import to_json
from seatrial.bench.report_data import BenchReport, Evidence
from seatrial.load.statistics import PERCENTILES

STAGES = {"a/b~c {0}": 20.0, "queue": 5.0}


def test_a_quote_is_the_value_its_place_and_how_it_is_written(full_report):
    scope = Scope(full_report)
    gain = full_report.analysis.knee.gain
    (quote,) = [part for part in parse("{analysis.knee.gain:times}") if isinstance(part, Quote)]
    assert scope.quote(quote) == Evidence("/analysis/knee/gain", gain, f"{gain:.1f}x")
    assert scope.quote(Quote(("options", "images"))).shown == "photos"


def test_a_format_that_is_no_function_is_a_specification():
    _, quote = parse("{best.in_flight:.2f}")
    assert quote.keys == ("best", "in_flight")
    assert quote.form(1.234) == "1.23"


def test_words_and_quotes_keep_their_order(full_report):
    row = Rule("x", "info", lambda _: True, "{images.used} of {images.found}: {target.url}.")
    finding = row.finding("advice", Scope(full_report))
    assert finding.text == "20 of 20: http://127.0.0.1:3000."
    assert [proof.path for proof in finding.evidence] == [
        "/images/used",
        "/images/found",
        "/target/url",
    ]
    assert (finding.id, finding.kind, finding.severity) == ("x", "advice", "info")


def test_names_of_measurements_point_to_them(make_report, point):
    single = [point(1, 40.0)]
    scaling = [point(1, 42.0, count=100), point(2, 42.0), point(4, 100.0), point(8, 210.0)]
    scaling[2] = msgspec.structs.replace(scaling[2], in_flight=1.0)
    scope = Scope(make_report(single=single, scaling=scaling))
    assert scope.pointers == {
        "alone": "/runs/0/points/0",
        "again": "/runs/1/points/0",
        "best": "/runs/1/points/1",
        "last": "/runs/1/points/3",
        "emptiest": "/runs/1/points/2",
        "first": "/runs/0/points/0",
    }
    assert scope.point("last") is scope.report.runs[1].points[3]
    only = Scope(make_report(single=single))
    assert only.pointers == dict.fromkeys(
        ("alone", "best", "emptiest", "first"), "/runs/0/points/0"
    )
    assert only.point("last") is None


def test_keys_with_odd_signs_become_pointers_of_rfc_6901(make_report, point):
    report = make_report(single=[point(1, stages=STAGES)])
    proof = Scope(report).quote(Quote(("alone", "stages", "mean_ms", "a/b~c {0}")))
    assert proof.path == "/runs/0/points/0/stages/mean_ms/a~1b~0c {0}"
    assert resolve(msgspec.json.decode(to_json(report)), proof.path) == proof.value == 20.0


@pytest.mark.parametrize(
    "keys",
    [
        ("runs", "9", "points"),
        ("runs", "one"),
        ("analysis", "kneee"),
        ("model", "none"),
        ("last", "sessions"),
    ],
)
def test_a_quote_of_what_is_not_there_is_an_error(make_report, point, keys):
    with pytest.raises(LookupError, match="nothing lies at /"):
        Scope(make_report(single=[point(1)])).quote(Quote(keys))


def kinds_of(kind: object) -> set[object]:
    """The types of a union without None, and of what stands in tuples and dictionaries."""
    found: set[object] = set()
    for each in typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,):
        origin, inner = typing.get_origin(each), typing.get_args(each)
        found |= {inner[-1] if origin is dict else inner[0]} if origin in (dict, tuple) else {each}
    return found - {type(None)}


def exists(keys: tuple[str, ...]) -> bool:
    names = (
        "alone", "again", "best", "last", "emptiest", "first", "arrivals", "overwhelmed", "void",
        "following", "behind", "soak", "unsteady",
    )  # fmt: skip
    kinds: set[object] = {Measurement if keys[0] in names else BenchReport}
    for key in keys[1:] if keys[0] in names else keys:
        if typing.Any in kinds:
            return True  # the service's own answer about itself
        inside = [
            field
            for kind in kinds
            for name, field in typing.get_type_hints(kind).items()
            if name == key
        ]
        if inside:
            kinds = {each for field in inside for each in kinds_of(field)}
        elif not key.isdigit() and key not in PERCENTILES:
            return False
    return True


def test_every_path_of_the_table_names_an_attribute_of_the_report():
    """Also of the rows that no test report makes speak."""
    assert exists(("analysis", "knee", "gain"))
    assert not exists(("analysis", "knee", "gian"))
    paths = [
        part.keys
        for rules in TABLE.values()
        for rule in rules
        if isinstance(rule.text, str)
        for part in parse(rule.text)
        if isinstance(part, Quote)
    ]
    assert len(paths) > 50
    assert [path for path in paths if not exists(path)] == []
