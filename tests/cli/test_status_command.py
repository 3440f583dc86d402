import io

from rich.console import Console

from dml_bench.cli.status import _page
from dml_bench.results.survey import survey, write_plan


def shown(folder, height=None):
    console = Console(width=200, file=io.StringIO())
    console.print(_page({folder: survey(folder)}, height))
    return console.file.getvalue().splitlines()


def test_a_large_grid_shows_what_runs_and_what_failed_and_counts_the_rest(tmp_path):
    for seed in (90, 95):
        (tmp_path / f".work-0123456789ab-s{seed}").mkdir()
        (tmp_path / f".lease-0123456789ab-s{seed}-1").write_text("")
    write_plan(tmp_path, "big", {f"0123456789ab-s{seed}": f"arcface seed {seed}" for seed in range(100)})
    assert len(shown(tmp_path)) > 100
    lines = shown(tmp_path, height=20)
    assert len(lines) <= 20
    assert [line.split()[2] for line in lines[2:4]] == ["90", "95"]
    assert lines[0].endswith("100 runs, 2 running, 98 waiting")
    assert lines[-1].startswith("and ") and lines[-1].endswith(" waiting")
    assert int(lines[-1].split()[1]) + len(lines[2:-1]) == 100
