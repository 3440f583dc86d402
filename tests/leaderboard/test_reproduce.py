from __future__ import annotations

from dataclasses import replace

import pytest

import dml_bench
from dml_bench.errors import ResultsError
from dml_bench.leaderboard.entries import entries, row_of
from dml_bench.leaderboard.reproduce import compare


@pytest.fixture
def row(results):
    name = next(run.recipe_id for run in entries(results).values() if run.loss == "norm_softmax")
    return row_of(results, name)


def test_the_same_run_again_is_the_same_bit_for_bit(results, row, tmp_path):
    folder, record = next(iter(row.items()))
    [again] = dml_bench.run(folder / "recipe.yaml", out=tmp_path / "again")
    found = compare([*row.values()], [*entries(results).values()], record, again)
    assert found.identical and found.matches
    assert [*found.lines()] == [f"{record.run_id}: match, bit for bit"]


def test_another_number_matches_within_the_interval_and_differs_outside(results, row):
    runs, everyone = [*row.values()], [*entries(results).values()]
    near = replace(runs[0], metrics=runs[0].metrics | {"recall@1": runs[0].metrics["recall@1"] + 1e-4})
    found = compare(runs, everyone, runs[0], near)
    assert found.matches and not found.identical
    assert next(iter(found.lines())).endswith("match, within the interval, not bit for bit")
    far = replace(runs[0], metrics=runs[0].metrics | {"recall@1": 0.0}, environment={"processor": "abacus"})
    found = compare(runs, everyone, runs[0], far)
    said = "\n".join(found.lines())
    assert not found.matches
    assert "DIFFERS: recall@1 outside" in said and "points; expected" in said and "here abacus" in said


def test_other_data_and_a_failed_run_are_no_reproduction(results, row):
    runs, everyone = [*row.values()], [*entries(results).values()]
    with pytest.raises(ResultsError, match="the data here are not those of the record"):
        compare(runs, everyone, runs[0], replace(runs[0], protocol_id="0" * 12))
    with pytest.raises(ResultsError, match="failed: diverged"):
        compare(runs, everyone, runs[0], replace(runs[0], status="failed", reason="diverged"))
