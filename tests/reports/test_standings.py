"""Tables with intervals and ties, of published runs that were made up."""

import csv
import math
import subprocess
import sys

import numpy as np
import pytest

from dml_bench import Results
from dml_bench.errors import DmlBenchError, ResultsError
from dml_bench.reports.comparison import compared
from dml_bench.reports.plots.chosen import drawn
from dml_bench.reports.report import write_report
from dml_bench.reports.reported import reported_tables
from dml_bench.reports.standings import Standings, claims, lines, tables
from dml_bench.reports.summary import sections
from dml_bench.results.record import Epoch, RunRecord
from dml_bench.results.store import read_runs

CLASSES, EACH = 40, 12
HOSTILE = "a|b_c&<d>é"


def publish(folder, loss, level, seeds=3, kept=True, status="ok", **changes):
    """Write the runs of a loss: the classes are as hard for each of them, and every query is right with ``level``."""
    labels = np.repeat(np.arange(CLASSES), EACH)
    hard = np.random.default_rng(7).normal(0, 0.15, CLASSES)[labels]
    number = int.from_bytes(loss.encode(), "little") % 16**12
    for seed in range(seeds):
        rng = np.random.default_rng([number, seed])
        hits = (rng.random(len(labels)) < np.clip(level + hard + rng.normal(0, 0.01), 0, 1)).astype(np.float32)
        values = {
            "recipe_name": "r", "recipe_id": f"{number:012x}", "protocol_id": "p" * 12, "seed": seed,
            "dataset": "made_up", "loss": loss, "backbone": "convnet", "embedding_dim": 8, "status": status,
            "metrics": {"recall@1": float(hits.mean()), "nmi": 0.5 + seed / 100} if status == "ok" else {},
            "reason": "" if status == "ok" else "diverged: the loss is not finite",
            "seconds": {"train": 2.0}, "costs": {"parameters": 1000, "loss_parameters": 10, "peak_memory": 2**30},
        }  # fmt: skip
        record = RunRecord(**{**values, **changes})
        run = folder / record.run_id
        run.mkdir(parents=True)
        record.write(run)
        if kept and status == "ok":
            np.savez(run / "per_query.npz", query=np.arange(len(labels)), label=labels, **{"recall@1": hits})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    publish(folder, "best", 0.8)
    publish(folder, "good", 0.79)
    publish(folder, "bad", 0.5)
    publish(folder, "single", 0.7, seeds=1)
    publish(folder, "old", 0.6, kept=False)
    publish(folder, "broken", 0.6, status="failed")
    return folder


def rows(table, column):
    place = table.columns.index(column)
    return {row[0].text: row[place] for row in table.rows}


def test_a_row_has_its_interval_its_ties_and_who_is_worse(runs):
    [table] = tables(sections(read_runs([runs])))
    found = rows(table, "recall@1")
    letters = {name: cell.text for name, cell in rows(table, "row").items()}
    first, second = sorted(("best", "good"), key=lambda name: -float(found[name].text.split()[0]))
    assert found[first].bold
    assert found[second].tied
    assert found["best"].letters == found["good"].letters == letters["bad"]
    assert not found["bad"].letters
    assert " ± " in found["best"].text
    assert " ± " not in found["single"].text
    assert " ± " in found["old"].text  # of seeds alone
    assert rows(table, "seeds")["single"].text == "n=1, no claim"
    assert rows(table, "peak MB")["best"].text == "1,024"
    assert rows(table, "protocol")["best"].text == "p" * 12
    assert any("Failed: broken, seed 0 1 2: diverged" in note for note in table.notes)
    assert any("for want of values per query: nmi." in note for note in table.notes)
    assert any("A row without values per query" in note for note in table.notes)


def test_nmi_ranks_nothing(runs):
    [table] = tables(sections(read_runs([runs])), ["nmi"])
    assert table.columns[2:4] == ("nmi", "train s")
    assert not any(cell.bold or cell.letters or cell.tied for cell in rows(table, "nmi").values())


def test_one_seed_is_never_the_best(tmp_path):
    publish(tmp_path, "lucky", 0.9, seeds=1)
    publish(tmp_path, "first", 0.6)
    publish(tmp_path, "second", 0.59)
    [table] = tables(sections(read_runs([tmp_path])))
    bold = [name for name, cell in rows(table, "recall@1").items() if cell.bold]
    assert bold in (["first"], ["second"])


def test_seeds_that_were_asked_other_queries_are_an_error(tmp_path):
    publish(tmp_path, "mixed", 0.6)
    [first, *_] = sorted(tmp_path.iterdir())
    with np.load(first / "per_query.npz") as stored:
        values = {**stored, "label": stored["label"][::-1]}
    np.savez(first / "per_query.npz", **values)
    with pytest.raises(ResultsError, match="its queries are not those of other seeds"):
        tables(sections(read_runs([tmp_path])))
    (first / "per_query.npz").write_bytes(b"torn")
    with pytest.raises(ResultsError, match="per_query.npz: damaged"):
        tables(sections(read_runs([tmp_path])))


def test_programs_read_the_same(runs):
    found = {line["loss"]: line for line in lines(sections(read_runs([runs])), ["recall@1"])}
    best = found["best"]
    assert best["low"] < best["mean"] < best["high"]
    assert (best["seeds"], best["classes"], best["basis"]) == (3, CLASSES, "seeds and classes")
    assert found["bad"]["recipe_id"] in best["better_than"].split()
    assert found["single"]["basis"] == "n=1, no claim"
    assert math.isnan(found["single"]["low"])
    spent = {"train_seconds": 2.0, "peak_mb": 1024.0, "parameters": 1010.0}
    assert {name: best[name] for name in spent} == spent
    assert math.isnan(best["images_per_second"])  # no curve says
    assert found["broken"]["failures"] == "broken, seed 0 1 2: diverged: the loss is not finite"
    assert best["failures"] == ""


def test_a_best_row_that_stands_alone_is_said_to(tmp_path):
    for loss, level in (("best", 0.9), ("bad", 0.4), ("untrained", 0.2)):
        publish(tmp_path, loss, level)
    (section,) = sections(read_runs([tmp_path]))
    assert list(claims(section)) == [
        "Better than every other loss by recall@1 (new seeds and classes, 5 %, Holm): best."
    ]
    publish(tmp_path, "old", 0.3, kept=False)  # of which nothing is known per query
    assert list(claims(*sections(read_runs([tmp_path])))) == []


def test_other_protocols_are_never_ranked_together(runs, tmp_path):
    publish(tmp_path, "elsewhere", 0.9, protocol_id="q" * 12)
    found = sections(read_runs([runs, tmp_path]))
    assert len(tables(found)) == 2
    [mixed] = tables(found, mixed=True)
    assert {cell.text for cell in rows(mixed, "protocol").values()} == {"p" * 12, "q" * 12}
    assert not any(cell.bold or cell.letters or cell.tied for row in mixed.rows for cell in row)
    assert rows(mixed, "peak MB")["best"].text == "1,024"
    unranked = lines(found, ["recall@1"], mixed=True)
    assert {(line["tied_with_best"], line["better_than"]) for line in unranked} == {(None, "")}


def test_rows_side_by_side_keep_their_marks(tmp_path):
    publish(tmp_path, "raw_pixels", 0.9, seeds=1)
    publish(tmp_path, "weak", 0.5)
    [mixed] = tables(sections(read_runs([tmp_path])), mixed=True)
    assert rows(mixed, "marks")["weak"].text == "below raw_pixels"
    assert any(note.startswith("Below: ") for note in mixed.notes)


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_that_would_be_named_alike_have_their_loss(runs, mixed):
    [table] = tables(sections(read_runs([runs])), ["recall@1"], by=["backbone"], mixed=mixed)
    assert table.columns[:2] == ("backbone", "loss")
    assert len({row[1].text for row in table.rows}) == len(table.rows)


def test_losses_are_ranked_across_data_sets(tmp_path):
    for number, (name, protocol) in enumerate((("one", "1" * 12), ("two", "2" * 12), ("three", "3" * 12))):
        for loss, level in (("good", 0.8), ("fair", 0.65), ("bad", 0.5)):
            publish(tmp_path / name, loss, level + number / 50, dataset=name, protocol_id=protocol)
    *_, table = tables(sections(read_runs([tmp_path])), ["recall@1"])
    assert table.title == "Across data sets: mean rank by recall@1"
    assert [(row[0].text, row[1].text) for row in table.rows] == [("good", "1.00"), ("fair", "2.00"), ("bad", "3.00")]
    assert "Over one, three, two: Friedman p = 0.0498." in table.notes
    [note] = [note for note in table.notes if "Wilcoxon" in note]
    assert note.endswith("none (so few data sets, 3, cannot tell any of 3 pairs apart this way: p is 0.75 at least).")
    assert len(tables(sections(read_runs([tmp_path / "one", tmp_path / "two"]))[:1])) == 1
    *_, table = tables(sections(read_runs([tmp_path])), ["nmi", "recall@1"])
    assert table.title == "Across data sets: mean rank by recall@1"
    assert not any("Across" in table.title for table in tables(sections(read_runs([tmp_path])), ["nmi"]))
    with pytest.raises(ResultsError, match="does not apply to these runs of nmi: .* nmi, which k-means alone moves"):
        drawn("critical-difference", read_runs([tmp_path]), "svg", "nmi")


def test_published_figures_are_set_beside_the_same_interval(tmp_path):
    publish(tmp_path, "softtriple", 0.65, dataset="cub200")
    records = read_runs([tmp_path])
    beside = list(csv.DictReader(reported_tables(records)["reported.csv"].splitlines()))
    [ours] = lines(sections(records), ["recall@1"])
    assert beside
    for line in beside:
        if line["metric"] == "recall@1":
            assert float(line["low"]) == pytest.approx(100 * ours["low"], abs=1e-3)
            assert float(line["high"]) == pytest.approx(100 * ours["high"], abs=1e-3)


def test_the_interval_of_a_share_ends_at_one(tmp_path):
    publish(tmp_path, "perfect", 0.95, seeds=2, kept=False)  # Student's t of two seeds is wide
    [line] = lines(sections(read_runs([tmp_path])), ["recall@1"])
    assert 0 <= line["low"] < line["mean"] < line["high"] == 1
    [section] = sections(read_runs([tmp_path]))
    [known] = Standings(section, "recall@1").estimates
    n = [run.metrics["recall@1"] for run in section.rows[0].runs]
    assert known.half == pytest.approx(12.706 * np.std(n, ddof=1) / math.sqrt(2), rel=1e-4)
    assert known.half > (line["high"] - line["low"]) / 2


def test_hostile_names_are_safe_in_every_format(runs, tmp_path):
    publish(tmp_path / "runs", HOSTILE, 0.6)
    publish(tmp_path / "runs", "<script>alert(1)</script>", 0.6)
    formats = ("csv", "md", "latex", "html-fragment")
    write_report(read_runs([tmp_path / "runs"]), tmp_path / "out", pictures=False, formats=formats)
    text = {end: (tmp_path / "out" / f"comparison.{end}").read_text() for end in ("csv", "md", "tex", "html")}
    assert "<script>" not in text["html"]
    assert "&lt;script&gt;" in text["html"]
    assert "<script>" not in text["md"]
    assert r"a\|b" in text["md"]
    assert r"b\_c\&" in text["tex"]
    assert HOSTILE in text["csv"]


def test_mistakes_are_named(runs, tmp_path):
    records = read_runs([runs])
    with pytest.raises(DmlBenchError, match=r"--metrics recal@1: no run has it \(did you mean 'recall@1'"):
        write_report(records, tmp_path, metrics=["recal@1"], pictures=False)
    with pytest.raises(DmlBenchError, match="--format pdf: must be among csv, md, latex, html-fragment"):
        write_report(records, tmp_path, formats=["pdf"], pictures=False)
    with pytest.raises(DmlBenchError, match="--format: names nothing to write; allowed are csv"):
        write_report(records, tmp_path, formats=[], pictures=False)
    with pytest.raises(DmlBenchError, match="--by colour: must be among dataset, loss"):
        write_report(records, tmp_path, by=["colour"], pictures=False)


def test_two_losses_are_compared_in_a_sentence(runs):
    results = Results(runs)
    worse = results.compare("best", "bad")
    assert worse.sentence().startswith("best [")
    assert "is better by" in worse.sentence()
    assert results.compare("bad", "best").sentence() == worse.sentence()
    assert results.compare("best", "good").sentence().startswith("No difference found")
    assert results.compare("best", "single").sentence().startswith("n=1, no claim")
    assert any("values per query of recall@1" in line for line in results.compare("best", "old").lines())
    for change in ("best", "no_such_loss"):
        with pytest.raises(ResultsError):
            results.compare(change, "no_such_loss")


def test_the_same_loss_with_other_seeds_is_no_difference(tmp_path):
    publish(tmp_path, "same", 0.7, seeds=6)
    records = read_runs([tmp_path])
    found = compared(records[:3], records[3:], "recall@1")
    assert found.sentence().startswith("No difference found")
    assert found.difference.low < 0 < found.difference.high


def test_nmi_makes_no_loss_better(tmp_path):
    for loss, nmi in (("high", 0.9), ("low", 0.5)):
        for seed in range(3):
            values = {"recall@1": 0.5, "nmi": nmi + seed / 1000, "nmi_restart_std": 0.003 + seed / 1000}
            publish(tmp_path / f"{loss}{seed}", loss, 0.5, seeds=1, seed=seed, metrics=values)
    found = Results(tmp_path).compare("high", "low", "nmi")
    assert found.sentence() == (
        "A - B is 40.00 in nmi, which k-means alone moves by 0.30 to 0.50 (standard deviation over restarts), "
        "and no claim: it ranks nothing."
    )
    assert not any("better" in line or line.startswith(("p =", "Detectable")) for line in found.lines())


def test_no_claim_is_made_for_the_right_reason(tmp_path):
    publish(tmp_path, "a", 0.7)
    publish(tmp_path, "b", 0.6)
    a = Results(tmp_path)._side("a")
    assert compared(a, a, "recall@1").sentence() == "No claim: A and B are the same runs."

    def rewritten(change):
        for folder in tmp_path.glob("*-s*"):
            with np.load(folder / "per_query.npz") as stored:
                values = dict(stored)
            np.savez(folder / "per_query.npz", **values | change(values))
        measured_anew = [Results(tmp_path)._side(name) for name in "ab"]
        return compared(*measured_anew, "recall@1")

    equal = rewritten(lambda values: {"recall@1": np.ones_like(values["recall@1"])})
    assert equal.sentence() == "No difference found: the numbers are the same."
    one = rewritten(lambda values: {"label": np.zeros_like(values["label"])})
    assert one.sentence() == "No claim: a single test class says nothing of others."
    broken = rewritten(lambda values: {"recall@1": np.full_like(values["recall@1"], np.nan)})
    assert broken.sentence() == "No claim: recall@1 is not a finite number in all of these runs."
    assert math.isnan(broken.difference.p_networks)


def test_a_curve_names_the_loss_and_its_value(tmp_path):
    publish(tmp_path, "arcface", 0.7, seeds=1, curve=(Epoch(1, 2.5, 0.1, 900.0, 1.0),))
    [line] = Results(tmp_path).frame("curve").to_dict("records")
    assert (line["loss"], line["train_loss"]) == ("arcface", 2.5)


def test_other_protocols_and_queries_are_not_compared(runs, tmp_path):
    publish(tmp_path, "elsewhere", 0.9, protocol_id="q" * 12)
    a, b = Results(runs).records[:3], read_runs([tmp_path])
    with pytest.raises(ResultsError, match="different protocols"):
        compared(a, b, "recall@1")
    with pytest.raises(ResultsError, match="no finished runs with recall@3; they have nmi, recall@1"):
        compared(a, a, "recall@3")


def test_frames_are_tidy_and_need_no_torch(runs):
    code = (
        "import sys, dml_bench; r = dml_bench.Results(sys.argv[1]); "
        "print([r.frame(kind).shape[0] for kind in ('metrics', 'runs', 'per_query')]); "
        "assert not {'torch', 'faiss'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(runs)], capture_output=True, text=True, check=True)
    finished = 3 * 4 - 2 + 3 - 3 + 3
    assert done.stdout.strip() == str([finished * 2 + 3, finished + 3, (finished - 3) * CLASSES * EACH])


def test_hundreds_of_runs_are_reported(tmp_path):
    for number in range(25):
        publish(tmp_path / "runs", f"loss{number}", 0.5 + number / 500, seeds=20)
    records = read_runs([tmp_path / "runs"])
    assert len(records) == 500
    write_report(records, tmp_path / "out", pictures=False)
    assert (tmp_path / "out" / "comparison.csv").read_text().count("\n") == 51


def test_runs_none_of_which_finished_are_a_table_without_numbers(tmp_path):
    publish(tmp_path, "arcface", 0.7, status="failed", metrics={}, reason="out of memory: too large", kept=False)
    [table] = tables(sections(read_runs([tmp_path])))
    assert [row[0].text for row in table.rows] == ["arcface"]
    assert any("out of memory: too large" in note for note in table.notes)
    write_report(read_runs([tmp_path]), tmp_path / "report")
