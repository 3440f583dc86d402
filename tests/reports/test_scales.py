"""Metrics that are no percentages, or better when lower, in tables and pictures."""

from __future__ import annotations

import math

import pytest

from dml_bench.reports.plots import metric_dots
from dml_bench.reports.scales import Scale, scale_of
from dml_bench.reports.style import looks
from dml_bench.reports.summary import long_table, sections
from dml_bench.reports.text import to_markdown


@pytest.mark.parametrize(
    ("name", "better", "percent", "bounded"),
    [
        ("recall@1", "higher", True, True),
        ("macro_recall@10", "higher", True, True),
        ("eer", "lower", True, True),
        ("ari", "higher", True, False),
        ("ami_geometric", "higher", True, False),
        ("uniformity", "lower", False, False),
        ("spectral_decay", None, False, False),
        ("of_an_older_version", "higher", True, True),
    ],
)
def test_the_metric_says_how_it_is_shown(name, better, percent, bounded):
    assert scale_of(name) == Scale(better, percent, bounded)


def rows(text):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")][2:]


def test_values_are_written_in_their_unit_and_ordered_in_their_direction(make):
    values = {"arcface": (-2.823, 0.4), "softtriple": (-0.314, 0.2)}
    runs = [
        make(loss, s, metrics={"uniformity": u + s / 10, "eer": e}) for loss, (u, e) in values.items() for s in (0, 1)
    ]
    text = to_markdown(runs)
    assert [row[:3] for row in rows(text)] == [
        ["softtriple", "20.0 ± 0.0", "-0.26 ± 0.07"],
        ["arcface", "40.0 ± 0.0", "-2.77 ± 0.07"],
    ]
    assert "Lower is better: eer, uniformity." in text
    assert "Not in percent: uniformity." in text


def test_no_value_is_bold_where_neither_way_is_better(make):
    runs = [make(loss, metrics={"spectral_decay": v}) for loss, v in (("arcface", 0.0123), ("coco", 0.5))]
    text = to_markdown(runs)
    assert "**" not in text
    assert [row[1] for row in rows(text)] == ["0.012", "0.500"]
    assert "Neither higher nor lower is better: spectral_decay." in text


def test_usual_metrics_need_no_words(make):
    text = to_markdown([make(metrics={"recall@1": 0.8, "map@r": 0.4, "nmi": 0.5})])
    assert "is better" not in text
    assert "Not in percent" not in text


def test_rows_without_recall_are_ranked_the_right_way_round(make):
    runs = [make(loss, metrics={"alignment": v}) for loss, v in (("coco", 0.9), ("arcface", 0.2), ("focal", 0.5))]
    assert [row.loss for row in sections(runs)[0].rows] == ["arcface", "focal", "coco"]


def test_every_restart_spread_is_a_note_and_stands_beside_its_metric(make):
    metrics = {"ami": 0.4, "ami_restart_std": 0.01, "nmi": 0.5, "nmi_restart_std": 0.004, "zeta": 0.1}
    text = to_markdown([make(metrics=metrics)])
    assert rows(text)[0][1:4] == ["50.0", "40.0", "10.0"]
    assert "k-means ± 0.4 points: the standard deviation of nmi" in text
    assert "k-means ± 1.0 points: the standard deviation of ami" in text
    listed = long_table([make(metrics=metrics)])["metric"].tolist()
    assert listed == ["nmi", "nmi_restart_std", "ami", "ami_restart_std", "zeta"]


def test_a_panel_has_the_unit_and_limits_of_its_metric(make):
    values = {"arcface": -2.8, "softtriple": -0.3}
    runs = [make(loss, metrics={"uniformity": v, "ari": v / 100, "recall@1": 1.0}) for loss, v in values.items()]
    (section,) = sections(runs)
    panels = {axes.get_title(): axes for axes in metric_dots(section, looks([section])).axes if axes.get_visible()}
    assert panels["uniformity"].get_xlabel() == "lower is better"
    assert panels["ari"].get_xlabel() == panels["recall@1"].get_xlabel() == "%"
    left, right = panels["uniformity"].get_xlim()
    assert left < -2.8 and -0.3 < right < 0
    assert sorted(line.get_xdata()[0] for line in panels["uniformity"].lines) == [-2.8, -0.3]
    assert panels["ari"].get_xlim()[0] < -2.8
    assert panels["recall@1"].get_xlim()[1] < 101


@pytest.mark.parametrize(
    ("values", "decimals"), [([0.5], 3), ([0.0], 1), ([-3.0, math.nan], 2), ([12.0, 0.1], 1), ([4000.0], 0), ([], 1)]
)
def test_decimals_show_three_digits_of_the_largest(values, decimals):
    assert Scale("lower", False, False).decimals(values) == decimals
