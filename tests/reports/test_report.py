from __future__ import annotations

import os
import re

import pandas as pd
import pytest

from dml_bench.errors import ResultsError
from dml_bench.reports.report import write_report


def test_report_has_tables_and_then_pictures(quickstart, tmp_path):
    written = write_report(quickstart[:4] + quickstart[12:14], tmp_path / "new" / "report")
    assert [path.name for path in written] == [
        *("results.csv", "summary.csv", "summary.md", "comparison.csv", "comparison.md"),
        *(f"{kind}.{end}" for kind in ("recall", "dots", "pareto", "training", "centers") for end in ("png", "svg")),
    ]
    assert sorted(path.name for path in written[0].parent.iterdir()) == sorted(path.name for path in written)
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written if path.suffix == ".png")
    means = pd.read_csv(written[0]).groupby(["loss", "metric"])["value"].mean()
    summary = pd.read_csv(written[1]).set_index("loss")
    assert summary.loc["softtriple", "nmi_mean"] == pytest.approx(means["softtriple", "nmi"], abs=1e-12)


def test_a_report_without_pictures(make, tmp_path):
    write_report([make()], tmp_path)
    assert len(write_report([make()], tmp_path, pictures=False)) == len(list(tmp_path.iterdir())) == 5


def test_pictures_of_an_earlier_report_do_not_stay(make, tmp_path):
    write_report([make()], tmp_path)
    kept, old = ("dots-mine.png", "dots.pdf", "metrics.py"), ("recall_curves.svg", "metrics.png", "sweep.png")
    for name in (*kept, *old):
        (tmp_path / name).write_text("")
    one, other = make(protocol_id="a" * 12), make(dataset="digits", protocol_id="b" * 12)
    write_report([one, other], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert not names & {"dots.png", *old}
    several = {f"dots-digits-{'b' * 12}.png", f"dots-glyphs-{'a' * 12}.png"}
    assert {*kept, *several} <= names
    write_report([one], tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {*kept, "dots.png"} <= names
    assert not names & several


def test_further_pictures_are_written_last_and_go_when_they_are_not_given_again(make, tmp_path):
    extra = [("gallery.png", b"one"), ("gallery-glyphs-p0.svg", b"two")]
    assert [path.name for path in write_report([make()], tmp_path, extra=iter(extra))][-2:] == [
        name for name, _ in extra
    ]
    assert (tmp_path / "gallery.png").read_bytes() == b"one"
    write_report([make()], tmp_path)
    assert not (tmp_path / "gallery.png").exists()


def test_rows_side_by_side_have_no_ranks_in_csv(make, tmp_path):
    write_report([make(), make("softtriple", protocol_id="p1")], tmp_path, pictures=False, mixed=True)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert table[["tied_with_best", "better_than"]].isna().all(axis=None)


def test_no_records_is_an_error_that_names_the_folder(tmp_path):
    with pytest.raises(ResultsError, match=re.escape(f"{tmp_path}: nothing to report")):
        write_report([], tmp_path)


def test_a_folder_that_cannot_be_written_is_named(make, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=re.escape(f"{tmp_path / 'file'}: the report cannot be written")):
        write_report([make()], tmp_path / "file")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder_is_named(make, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsError, match=re.escape(f"{tmp_path}: the report cannot be written")):
        write_report([make()], tmp_path)


def test_a_failed_write_leaves_the_old_file_whole(make, tmp_path, monkeypatch):
    write_report([make()], tmp_path, pictures=False)
    before = (tmp_path / "results.csv").read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(ResultsError, match="No space left on device"):
        write_report([make("softtriple")], tmp_path, pictures=False)
    assert (tmp_path / "results.csv").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 5


def test_published_figures_stand_beside_ours_if_asked(make, tmp_path):
    runs = [make("softtriple", seed, dataset="cub200") for seed in (0, 1)]
    names = [path.name for path in write_report(runs, tmp_path, pictures=False, reported=True)]
    assert names == [
        "results.csv",
        "summary.csv",
        "summary.md",
        "comparison.csv",
        "comparison.md",
        "reported.csv",
        "reported.md",
    ]
    write_report(runs, tmp_path, pictures=False)
    assert not (tmp_path / "reported.csv").exists()
