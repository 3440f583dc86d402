import subprocess
import sys

import pytest

from dml_bench.errors import OptionError
from dml_bench.evaluation.metrics import METRICS, RankMetric, parse_metric


@pytest.mark.parametrize(
    "name",
    [
        *("recall@1", "recall@1000", "precision@5", "map@r", "map@10", "r_precision", "mrr", "nmi", "nmi_geometric"),
        *("ami_max", "tar@0.001", "macro_recall@1", "macro_map@r", "eer"),
    ],
)
def test_a_metric_bears_the_name_it_was_asked_by(name):
    assert parse_metric(name).name == name


def test_a_macro_metric_is_the_ranking_metric_with_another_mean():
    plain, macro = parse_metric("recall@3"), parse_metric("macro_recall@3")
    assert isinstance(macro, RankMetric)
    assert (plain.macro, macro.macro) == (False, True)
    with pytest.raises(OptionError, match="no metric named 'macro_nmi'"):
        parse_metric("macro_nmi")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("recal@1", "did you mean 'recall@1'?"),
        ("Recall@20", "did you mean 'recall@20'?"),
        ("recall@k", "did you mean 'recall@1'?"),
        ("recall", "did you mean 'recall@k'?"),
        ("recall@0", "metric 'recall@0': k: must be greater than or equal to 1, not 0"),
        ("tar@0", "metric 'tar@0': far: must be greater than 0, not 0"),
        ("tar@2", "metric 'tar@2': far: must be less than or equal to 1, not 2"),
        (
            "nmi_mean",
            "metric 'nmi_mean': average_method: must be 'arithmetic', 'geometric', 'min' or 'max', not 'mean'",
        ),
        ("recall@-1", "no metric named 'recall@-1'"),
        ("recall@1.5", "metric 'recall@1.5': k: must be a valid integer"),
        ("recall@01", "no metric named"),
        ("recall@1\n", "no metric named"),
        ("map", "no metric named 'map' (did you mean 'map@r'?)"),
        ("map@R", "did you mean 'map@r'?"),
        ("nmi@3", "no metric named 'nmi@3'"),
        ("", "known: alignment, ami, ari, center_accuracy"),
        ("@", "no metric named"),
        ("recall@" + "9" * 5000, "no metric named"),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_one(name, hint):
    with pytest.raises(OptionError) as error:
        parse_metric(name)
    assert hint in str(error.value)
    assert len(error.value.problems) == 1


def test_every_metric_has_a_definition_and_a_metric_can_be_named_without_torch():
    assert all(len(entry.doc) > 100 for entry in METRICS)
    code = "import sys, dml_bench.evaluation.metrics as m; m.parse_metric('recall@1'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "faiss", "sklearn"} & set(loaded)
