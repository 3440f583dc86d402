from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.plots.chosen import drawn


def texts(svg: bytes) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"))


@pytest.fixture
def runs(make):
    metrics = {"arcface": {"recall@1": 0.8, "map@r": 0.4}, "coco": {"recall@1": 0.7, "map@r": 0.5}}
    return [make(loss, metrics=values) for loss, values in metrics.items()]


@pytest.mark.parametrize(("end", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_ending_decides_the_format(runs, end, start):
    assert drawn("dots", runs, end).startswith(start)


def test_a_metric_orders_the_rows_and_is_the_one_shown(runs):
    found = texts(drawn("dots", runs, "svg", metric="map@r"))
    assert "recall@1" not in found
    assert found.index("coco") < found.index("arcface")


def test_a_loss_leaves_the_others_out_and_keeps_its_look(runs, make):
    found = texts(drawn("dots", runs, "svg", loss="coco"))
    assert "coco" in found and "arcface" not in found
    assert "coco" in texts(drawn("dots", runs, "svg", loss=runs[1].recipe_id))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"kind": "dotz"}, "no kind of picture named 'dotz' (did you mean 'dots'?); known: recall, dots,"),
        ({"end": "gif"}, "must end in .png, .svg, .pdf, not in '.gif'"),
        ({"metric": "map@s"}, "--metric map@s: no run has it (did you mean 'map@r'?); they have recall@1, map@r"),
        ({"loss": "cocoa"}, "--loss cocoa: no run has it (did you mean 'coco'?); they have arcface, coco"),
    ],
)
def test_what_is_unknown_is_named(runs, words, message):
    with pytest.raises(DmlBenchError, match=re.escape(message)):
        drawn(**({"kind": "dots", "records": runs, "end": "svg"} | words))


def test_several_data_sets_are_named_with_what_chooses_one(runs, make):
    with pytest.raises(ResultsError) as caught:
        drawn("dots", [*runs, make(dataset="digits", protocol_id="p1")], "svg")
    assert str(caught.value) == (
        "'dots' shows one data set under one protocol; choose one of the 2:\n"
        "  --where dataset=digits --where protocol_id=p1\n  --where dataset=glyphs --where protocol_id=p0"
    )


def test_a_kind_that_does_not_apply_says_what_it_needs(runs):
    with pytest.raises(ResultsError, match="'centers-sweep' does not apply to these runs: it needs one loss with"):
        drawn("centers-sweep", runs, "svg")
    with pytest.raises(ResultsError, match="'critical-difference' does not apply to these runs of coco: it needs two"):
        drawn("critical-difference", runs, "svg", loss="coco")


def test_a_picture_across_data_sets_takes_all(make):
    runs = [make(loss, dataset=d) for loss in ("arcface", "coco", "supcon") for d in "ab"]
    assert "over a, b" in texts(drawn("critical-difference", runs, "svg"))
