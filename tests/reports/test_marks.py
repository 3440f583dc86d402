from __future__ import annotations

import pytest

from dml_bench.reports.marks import marks
from dml_bench.reports.standings import lines, tables
from dml_bench.reports.summary import sections
from dml_bench.results.record import Epoch


def curve(*losses: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(i, loss, 1e-3, 100.0, 1.0) for i, loss in enumerate(losses, 1))


def marks_of(runs) -> dict[str, list[str]]:
    [section] = sections(runs)
    return {row.loss: marks(section, row) for row in section.rows}


def test_losses_that_raw_pixels_beat_are_marked_and_those_that_equal_them_are_not(make):
    levels = {"arcface": 0.9, "contrastive": 0.8, "npair": 0.7, "raw_pixels": 0.8, "untrained": 0.3}
    runs = [make(loss, metrics={"recall@1": level}) for loss, level in levels.items()]
    assert marks_of(runs)["npair"] == ["below raw_pixels"]
    assert marks_of(runs)["contrastive"] == marks_of(runs)["arcface"] == marks_of(runs)["untrained"] == []
    assert marks_of(runs[:1] + runs[4:]) == {"arcface": [], "untrained": []}  # no raw pixels, no mark


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.97, 0.97), ["undertrained"]),
        ((0.985, 0.985), []),
        ((0.97, 0.985), ["undertrained (1 of 2 runs)"]),
        ((1.5, float("nan")), []),
    ],
)
def test_a_loss_that_fell_by_more_than_two_percent_in_the_last_tenth_is_marked(make, ends, said):
    runs = [make(seed=seed, curve=curve(*[1.0] * 9, end)) for seed, end in enumerate(ends)]
    assert marks_of(runs) == {"arcface": said}


def test_tables_show_marks_with_their_meaning_only_where_there_are_any(make):
    runs = [make(metrics={"recall@1": 0.5}), make("raw_pixels", metrics={"recall@1": 0.6})]
    [table] = tables(sections(runs))
    place = table.columns.index("marks")
    assert [row[place].text for row in table.rows] == ["below raw_pixels", ""]
    assert any(note.startswith("Below: ") for note in table.notes)
    assert not any(note.startswith("Undertrained") for note in table.notes)
    assert [line["marks"] for line in lines(sections(runs))] == ["below raw_pixels", ""]
    [plain] = tables(sections([make()]))
    assert "marks" not in plain.columns
