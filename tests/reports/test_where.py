from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.where import parse_where, select
from dml_bench.results.record import RunRecord


@pytest.fixture
def runs(make):
    def recipe(loss: str, epochs: int, **options):
        return {
            "name": "quick",
            "loss": {"name": loss, **options},
            "training": {"epochs": epochs, "sampler": {"name": "pxk", "images_per_class": 4}, "amp": epochs == 10},
            "tags": ["a", {"depth": 2}],
        }

    records = (
        make("arcface", 0, recipe=recipe("arcface", 10, scale=16.0, margin=0.3), recipe_id="0012"),
        make("arcface", 1, recipe=recipe("arcface", 5, scale=30.0, margin=0.3), options={"scale": 30.0}),
        make("softtriple", 2, recipe=recipe("softtriple", 10, scale=16), status="failed", dataset="a,b"),
        make("contrastive", 10, recipe=recipe("contrastive", 10, margin=None), options={"training.epochs": 10}),
    )
    return {Path(f"run{i}"): record for i, record in enumerate(records)}


@pytest.mark.parametrize(
    ("conditions", "kept"),
    [
        ([], "0123"),
        (["loss=arcface"], "01"),
        (["loss=arcface,contrastive"], "013"),
        (["loss!=arcface,contrastive"], "2"),
        (["loss=arcface", "seed=1"], "1"),
        (["loss = arcface", "seed != 1"], "0"),
        (["scale=16"], "02"),
        (["scale=16.0"], "02"),
        (["loss.scale=1.6e1"], "02"),
        (["scale!=16"], "13"),
        (["training.epochs=10"], "023"),
        (["training.amp=true"], "023"),
        (["training.amp=1"], ""),
        (["training.amp=False"], "1"),
        (["training.sampler=pxk", "training.sampler.images_per_class=4"], "0123"),
        (["loss.name=softtriple"], "2"),
        (["margin=null"], "3"),
        (["tags[1].depth=2", "tags[0]=a"], "0123"),
        (["recipe_id=0012"], "0"),
        (["recipe_id=12"], ""),
        (["status=ok"], "013"),
        (["recipe=quickstart", "protocol_id=p0", "backbone=convnet", "embedding_dim=64"], "0123"),
        (["dataset=a,b"], "2"),
    ],
)
def test_conditions_keep_what_they_say(runs, conditions, kept):
    where = parse_where(conditions)
    assert "".join(path.name[-1] for path, run in runs.items() if where.keeps(run)) == kept
    if kept:
        assert select(runs, conditions) == {path: runs[path] for path in runs if path.name[-1] in kept}
    else:
        with pytest.raises(ResultsError, match="of 4 looked at"):
            select(runs, conditions)


def test_a_seed_is_compared_to_its_last_digit(make):
    seed = 2**60 + 1
    assert parse_where([f"seed={seed}"]).keeps(make(seed=seed))
    assert not parse_where([f"seed={seed - 1}"]).keeps(make(seed=seed))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_numbers_are_equal_however_they_are_written(value, other):
    def run(scale: float) -> RunRecord:
        return RunRecord("r", "i", "p", 0, "d", "l", "b", 8, "ok", options={"scale": scale})

    for text in (repr(value), f"{value:.17e}"):
        assert parse_where([f"scale={text}"]).keeps(run(value))
        assert parse_where([f"scale={text}"]).keeps(run(other)) == (value == other)
        assert parse_where([f"scale!={text}"]).keeps(run(other)) == (value != other)


@pytest.mark.parametrize("text", ["loss", "", "=a", "!=a", "loss=", "loss=a,,b", "loss==a", "loss!="])
def test_a_condition_is_written_with_a_field_and_a_value(text):
    with pytest.raises(DmlBenchError, match="write it as field=value"):
        parse_where([text])


def test_an_unknown_field_is_named_with_the_one_that_was_meant(runs):
    with pytest.raises(DmlBenchError) as caught:
        select(runs, ["loss=arcface", "training.epoch!=3"])
    assert not isinstance(caught.value, ResultsError)
    text = str(caught.value)
    assert "no run has a field 'training.epoch' (did you mean 'training.epochs'?)" in text
    assert (
        "embedding_dim" in text
        and "margin, name, scale" in text
        and text.endswith("that begin with loss, tags, training")
    )


def test_a_field_that_one_run_knows_is_no_mistake(runs):
    assert [*select(runs, ["margin!=0.3"])] == [Path("run2"), Path("run3")]


def test_nothing_left_says_what_there_was(runs):
    with pytest.raises(ResultsError) as caught:
        select(runs, ["loss=softtriple", "seed=0"])
    assert str(caught.value).splitlines() == [
        "no run is left of 4 looked at",
        "  'loss=softtriple' keeps 1: loss is 'arcface', 'contrastive', 'softtriple'",
        "  'seed=0' keeps 1: seed is 0, 1, 2, 10",
    ]


def test_many_values_are_cut_short(make):
    many = {Path(str(seed)): make(seed=seed) for seed in range(30)}
    with pytest.raises(ResultsError, match=r"seed is 0, 1, .*, 11 and 18 more$"):
        select(many, ["seed=77"])


def test_no_runs_at_all_is_said_so():
    with pytest.raises(ResultsError, match="no run is left of 0 looked at$"):
        select({}, ["anything=1"])
