import pytest
from typer.testing import CliRunner

from dml_bench.cli import app


@pytest.mark.parametrize("name", ["o[/b]", "o ü [x] {y}", "[bold]"])
def test_a_folder_is_named_as_it_is(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text("dataset: digits\nloss: norm_softmax\nreferences: false\n")
    result = CliRunner().invoke(app, ["run", "r.yaml", "--out", name, "--dry-run"], env={"COLUMNS": "300"})
    assert result.exit_code == 0, result.output
    assert f"would run: {name}/" in result.output
