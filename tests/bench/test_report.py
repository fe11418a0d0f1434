from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from bench_reports import build_open_point
from seatrial.bench.report import read_report, to_html, to_json, write_report
from seatrial.errors import InvalidConfig, NotWritable
from seatrial.load.images import SkippedFile, load_images
from seatrial.report.numbers import significant

OLD = Path(__file__).parents[1] / "support" / "bench_report_1.json"
VOID = {"meta", "br", "hr", "img", "link", "input"}
STAGES = {"decode": 1.5, "queue": 0.2, "infer": 35.0}


class Page(HTMLParser):
    """Checks that tags nest, and keeps tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.ids: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} stands twice"
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for key, value in attrs if key == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += data

    def count(self, tag: str) -> int:
        return sum(1 for name, _ in self.tags if name == tag)


def assert_self_contained(page: str) -> Page:
    parsed = Page(page)
    assert parsed.count("script") == 0
    assert not {"link", "img", "iframe", "object", "embed", "base"} & {t for t, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert not {"src", "srcset", "action", "data", "xlink:href"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(key.startswith("on") for key in attributes)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in style
    assert set(re.findall(r"url\(([^)]*)\)", style)) <= {"#hatch"}
    assert len(parsed.ids) == len(set(parsed.ids))
    return parsed


def test_page_is_self_contained_and_complete(full_report):
    page = assert_self_contained(to_html(full_report))
    for finding in full_report.findings:
        assert finding.text in page.text
        assert finding.kind == "headline" or finding.id in page.ids
    # Five pictures and the pattern that they share.
    assert page.count("svg") == 6
    for words in ("AMD EPYC", "seatrial bench --url", "closed loop", "python", "seed", "sha256:"):
        assert words in page.text
    assert page.text.index("never an SLO result") < page.text.index("Key figures")


def test_an_interval_stands_below_each_percentile(make_report, point):
    report = make_report(single=[point(1, count=700)])
    found = report.runs[0].points[0].latency.percentiles["p99"]
    ends = f"{significant(found.low_ms)}\xa0to\xa0{significant(found.high_ms)}"
    assert ends in assert_self_contained(to_html(report)).text


def test_page_declares_light_and_dark_narrow_and_forbids_requests(full_report):
    page = to_html(full_report)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport" content="width=device-width' in page
    assert "default-src 'none'" in page


def test_names_from_outside_are_never_markup(make_report, point, image_folder):
    bad = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'
    images = msgspec.structs.replace(
        load_images(image_folder).summary,
        folder=bad,
        skipped_count=1,
        skipped=(SkippedFile(bad, bad),),
    )
    model = {"name": bad, "engine": bad, "labels": [bad], "properties": {bad: bad}}
    points = [point(n, 40.0, stages={bad: 20.0, "infer": 5.0}, failed=1, error=bad) for n in (1, 2)]
    report = make_report(single=points[:1], scaling=points, model=model, images=images)
    page = to_html(msgspec.structs.replace(report, command=bad))
    assert "<script" not in page
    assert "<img" not in page
    assert bad in assert_self_contained(page).text


def test_percentile_below_its_sample_is_not_on_the_page(make_report, point):
    report = make_report(single=[point(1, count=100)])
    page = to_html(report)
    assert "100 requests; 662 are needed" in page
    assert ">p99 " not in page


@pytest.mark.parametrize("case", ["one point", "all failed", "no times", "remote", "wide"])
def test_page_of_degenerate_measurements(make_report, point, case):
    report = {
        "one point": lambda: make_report(single=[point(1, count=2)]),
        "all failed": lambda: make_report(scaling=[point(n, count=20, failed=20) for n in (1, 2)]),
        "no times": lambda: make_report(scaling=[point(n) for n in (1, 2, 4)]),
        "remote": lambda: make_report(
            scaling=[point(n, server_cores=None) for n in (1, 2)], local=False, model={}
        ),
        "wide": lambda: make_report(scaling=[point(n, stages=STAGES) for n in (1, 8, 64)]),
    }[case]()
    assert_self_contained(to_html(report))


def test_drawings_stay_within_their_frame(full_report):
    page = to_html(full_report)
    drawings = re.findall(r'<svg viewBox="0 0 (\S+) (\S+)".*?</svg>', page, re.DOTALL)
    assert len(drawings) == 5
    for drawing in re.finditer(r'<svg viewBox="0 0 (\S+) (\S+)"(.*?)</svg>', page, re.DOTALL):
        width, height = float(drawing[1]), float(drawing[2])
        for x, y in re.findall(
            r"(-?[\d.]+),(-?[\d.]+)", " ".join(re.findall(r'points="([^"]*)"', drawing[3]))
        ):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height
        for key, value in re.findall(r' (c?[xy][12]?|width|height)="(-?[\d.]+)"', drawing[3]):
            assert 0 <= float(value) <= (height if "y" in key or key == "height" else width)


def test_long_lists_are_counted_and_long_texts_are_cut(make_report, point):
    model = {
        "twelve": [f"<{n}>" for n in range(12)],
        "thirteen": ["a"] * 13,
        "long": "x" * 160,
        "longer": "y" * 161,
        "threads": 4,
        "layout": {"workers": 1, "wide": False},
    }
    page = Page(to_html(make_report(single=[point(1)], model=model))).text
    for words in ("<0>, <1>", "13 entries", "x" * 160, "y" * 157 + "...", "layout.workers"):
        assert words in page
    assert "a, a" not in page
    assert "y" * 158 not in page
    assert "12 entries" not in page


def test_json_gives_the_same_report_back(full_report, tmp_path):
    html, data = write_report(full_report, tmp_path / "so" / "deep" / "report.html")
    write_report(full_report, html)  # again, over it
    assert (html.name, data.name) == ("report.html", "report.json")
    assert read_report(data) == full_report
    assert html.read_text(encoding="utf-8") == to_html(full_report)
    assert to_json(read_report(data)) == data.read_bytes()
    assert sorted(file.name for file in html.parent.iterdir()) == ["report.html", "report.json"]


def test_a_report_of_an_earlier_release_has_a_page(tmp_path):
    page = assert_self_contained(to_html(read_report(OLD)))
    assert "Single-stream, closed loop" in page.text
    assert ("title", "not measured") in {
        (key, value) for tag, attributes in page.tags for key, value in attributes.items()
    }


def test_the_page_and_its_title_say_which_loop(make_report, point):
    closed = to_html(make_report(single=[point(1)]))
    opened = to_html(make_report(server=[build_open_point(20.0)]))
    both = to_html(make_report(single=[point(1)], server=[build_open_point(20.0)]))
    assert "<title>Seatrial benchmark, closed loop: tiny</title>" in closed
    assert "<title>Seatrial benchmark, open loop: tiny</title>" in opened
    assert "Seatrial benchmark, closed loop and open loop<" in both
    assert "The generator" in assert_self_contained(opened).text
    assert "The generator" not in closed


def test_the_figures_of_a_void_window_are_struck_out_and_it_says_why(make_report):
    points = [build_open_point(10.0), build_open_point(20.0, late_ms=40.0)]
    page = to_html(make_report(server=points))
    parsed = assert_self_contained(page)
    assert [a.get("class") for t, a in parsed.tags if t == "tr"].count("void") == 1
    assert re.search(r'<tr class="void"><td>server</td><td>Poisson, 20/s <b[^>]*>void</b>', page)
    reason = points[1].generator.void[0]
    assert f"server, Poisson, 20/s is void: {reason}" in parsed.text
    assert "Poisson, 10/s is void" not in parsed.text
    assert "40 of 40" in parsed.text


def test_the_generator_has_its_own_figures(make_report):
    page = to_html(make_report(server=[build_open_point(25.0, late_ms=0.5)]))
    section = page[page.index("<h2>The generator") : page.index("<h2>What it cost")]
    assert re.findall(r"<td[^>]*>([^<]*)</td>", section) == [
        "server", "Poisson, 25/s",
        "25.0", "25.0",  # offered, sent
        "0.000", "0.500", "0.500", "5.00", "0%",  # late: p50, p99, most, limit, share
        "0.02", "0%", "0 of 40",  # cores of the client, stolen time, void slices
    ]  # fmt: skip


@pytest.mark.parametrize("content", [b"{}", b"not json", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_report(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig, match="is not a benchmark report"):
        read_report(path)


def test_a_report_that_is_not_there(tmp_path):
    with pytest.raises(InvalidConfig, match="cannot be read"):
        read_report(tmp_path / "none.json")


def test_a_place_that_cannot_be_written(full_report, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="cannot be written"):
        write_report(full_report, tmp_path / "file" / "report.html")
