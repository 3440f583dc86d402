from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import astuple
from pathlib import Path

import pytest

from dml_bench.errors import OptionError, ResultsError
from dml_bench.evaluation.metrics import parse_metric
from dml_bench.flow import REGISTRIES
from dml_bench.reports.ledger import UNKNOWN, Figure, browse, datasets, figures

WORDS = {"accuracy", "error", "macro_f1", "rank_1", "f_measure", "accuracy_gain"}
"""Published metrics that this suite does not have."""
PUBLISHED_DATASETS = {"CUB": "cub200", "Cars196": "cars196", "SOP": "sop", "In-Shop": "inshop", "LFW": "lfw"}
COLLECTED = Path(os.environ.get("DML_BENCH_DATA", "/nowhere")).parent / "reported"


def test_every_figure_has_a_source_a_task_and_a_method():
    assert len(figures()) == 1785
    assert all(figure.source and figure.task and figure.method for figure in figures())
    assert not [
        text for figure in figures() for text in astuple(figure) if isinstance(text, str) and text != text.strip()
    ]


def test_no_figure_is_there_twice():
    assert [figure for figure, count in Counter(figures()).items() if count > 1] == []


def test_values_are_percentages_as_printed():
    printed = r"\d{1,2}(\.\d{1,4})?|100(\.0+)?|\d\d-\d\d"
    assert {figure.value for figure in figures() if not re.fullmatch(printed, figure.value)} == set()
    assert all(0 < figure.share <= 1 for figure in figures())
    assert {figure.share for figure in figures() if "-" in figure.value} == {0.145}  # 14-15


@pytest.mark.parametrize("column, pattern", [
    ("dim", r"\d+|4x128|2048 bits|unknown"),
    ("batch", r"\d+|unknown"),
    ("crop", r"\d+|unknown"),
    ("selection", r"last|validation|test_oracle|unknown"),
    ("split", r"test|validation"),
    ("backbone", r"\S+"),
])  # fmt: skip
def test_conditions_are_of_their_kind(column, pattern):
    assert {value for f in figures() if not re.fullmatch(pattern, value := getattr(f, column))} == set()


def test_a_known_batch_crop_or_selection_says_where_it_is_from():
    for figure in figures():
        known = {name for name in ("batch", "crop", "selection") if getattr(figure, name) != UNKNOWN}
        assert known <= set(re.findall(r"batch|crop|selection", figure.conditions)), figure
        assert bool(known) == bool(figure.conditions), figure


def test_every_key_is_registered():
    losses, datasets_, backbones = (REGISTRIES[kind] for kind in ("losses", "datasets", "backbones"))
    assert all(losses[key].name == key for key in {figure.loss for figure in figures()} - {""})  # else it raises
    lower = {name for name in datasets() if name in datasets_}
    assert lower == {"cub200", "cars196", "sop", "inshop", "lfw", "mnist"}
    assert {"bn_inception", "resnet50"} <= {f.backbone for f in figures()} & {entry.name for entry in backbones}


def test_every_metric_is_ours_or_a_known_word():
    for metric in {figure.metric for figure in figures()} - WORDS:
        try:
            assert parse_metric(metric).name == metric
        except OptionError:
            pytest.fail(f"{metric} is no metric")


def test_what_papers_print_of_softtriple_on_cub():
    """Qian et al., ICCV 2019, table 1."""
    found = {
        f.metric: f for f in browse("cub200", loss="softtriple", dim="64") if f.source.startswith("SoftTriple paper")
    }
    assert {name: f.value for name, f in found.items()} == {
        "recall@1": "60.1",
        "recall@2": "71.9",
        "recall@4": "81.2",
        "recall@8": "88.5",
        "nmi": "66.2",
    }
    assert {(f.batch, f.crop, f.selection, f.backbone) for f in found.values()} == {
        ("32", "224", "last", "bn_inception")
    }


def test_quotations_that_disagree_stand_side_by_side():
    """The recall@8 of ProxyNCA on Cars196: 88.68 in a quotation of its paper, 87.8 in later tables."""
    assert {f.value for f in browse("cars196", loss="proxy_nca", metric="recall@8", dim="64")} >= {"88.68", "87.8"}


def test_an_unknown_name_is_an_error_with_a_suggestion():
    with pytest.raises(ResultsError, match="no data set 'cub20' .did you mean 'cub200'"):
        browse("cub20")
    with pytest.raises(ResultsError, match="loss 'softtripel' .did you mean 'softtriple'"):
        browse("cub200", loss="softtripel")
    with pytest.raises(ResultsError, match="called 'nobody'; there are A-BIER"):
        browse("cub200", "nobody")


def test_a_data_set_is_found_in_any_case_of_letters():
    assert browse("cifar-100-lt") == browse("CIFAR-100-LT")


def test_reading_the_ledger_needs_neither_torch_nor_pandas():
    code = "import sys, dml_bench.reports.ledger as l; l.figures(); print({'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.skipif(not COLLECTED.is_dir(), reason="the collected tables are not here")
@pytest.mark.parametrize("table", ["retrieval.csv", "other_tasks.csv", "reality_check_validation.csv"])
def test_nothing_of_the_collection_is_lost(table):
    """Every collected value is there with its data set, method and source, as often."""
    with (COLLECTED / table).open(encoding="utf-8") as stream:
        collected = Counter(
            (
                PUBLISHED_DATASETS.get(row["dataset"], row["dataset"].casefold()),
                row["method"],
                row["value"],
                row["source"][:15],
            )
            for row in csv.DictReader(stream)
        )
    ours = Counter((_name(f), f.method, f.value, f.source[:15]) for f in figures())
    assert collected - ours == Counter()


def _name(figure: Figure) -> str:
    return figure.dataset if figure.dataset in PUBLISHED_DATASETS.values() else figure.dataset.casefold()
